"""Which Python packages are installed, against the versions that TACO is built and tested with."""

import re
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from taco import _loader


@dataclass(frozen=True)
class Supported:
    """A package that TACO works with.

    Attributes:
        name: what users call it.
        distributions: names under which it is installed; the first one found counts.
        exact: the one version that fits, or empty.
        least: the lowest version that fits, or empty.
        below: the first version that is too new, or empty.
        needed_by: what it is for.
    """

    name: str
    distributions: tuple[str, ...]
    needed_by: str
    exact: str = ""
    least: str = ""
    below: str = ""

    def wanted(self) -> str:
        """The versions that fit, as pip writes them."""
        bounds = (("==", self.exact), (">=", self.least), ("<", self.below))
        return ",".join(sign + version for sign, version in bounds if version)

    def fits(self, version: str) -> bool:
        """Whether `version` is among those."""
        if self.exact:
            return version.split("+")[0] == self.exact
        return (not self.least or _key(version) >= _key(self.least)) and (
            not self.below or _key(version) < _key(self.below)
        )


PACKAGES = (
    Supported(
        "tensorflow",
        ("tensorflow", "tensorflow-cpu"),
        "taco.tf, libtaco_tf.so",
        exact=_loader.TENSORFLOW_VERSION,
    ),
    Supported("keras", ("keras",), "taco.tf.keras", least="3.12", below="4"),
    Supported("numpy", ("numpy",), "taco.tf", least="1.26", below="3"),
    Supported(
        "torch",
        ("torch",),
        "taco.lightcc, libtaco_torch.so",
        least=_loader.TORCH_VERSION,
        below="2.14",
    ),
    Supported("rich", ("rich",), "the taco command", least="13"),
    Supported("matplotlib", ("matplotlib",), "plots of taco demo", least="3.7"),
)


def installed() -> list[dict[str, Any]]:
    """One entry a package: name, installed version or None, supported versions, fits or None."""
    report = []
    for package in PACKAGES:
        distribution, version = _find(package.distributions)
        report.append(
            {
                "name": package.name,
                "distribution": distribution,
                "installed": version,
                "supported": package.wanted(),
                "fits": None if version is None else package.fits(version),
                "needed_by": package.needed_by,
            }
        )
    return report


def _find(distributions: tuple[str, ...]) -> tuple[str | None, str | None]:
    for name in distributions:
        try:
            return name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None, None


def _key(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: enough to compare releases."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()
