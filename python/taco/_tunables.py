"""The knobs of TACO: each one's name, default and meaning, read from the environment once.

`taco doctor` prints this list with the values in force. A knob that C++ acts on is read there a
second time, when the library is loaded; it stands here so that it is documented and checked.
"""

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taco.harp import _settings as _harp
from taco.lightcc import _settings as _lightcc

SIMD_LEVELS = ("baseline", "avx2", "avx512")


class InvalidTunableError(ValueError):
    """An environment variable holds a value that its knob does not take."""


@dataclass(frozen=True)
class Tunable:
    """One knob.

    Attributes:
        name: the field's name in the report.
        env: the environment variable.
        default: the value without it; None means that TACO decides.
        doc: one sentence: what it does.
        parse: text to value; raises ValueError, saying what is allowed.
        secret: whether its text is not to be shown.
    """

    name: str
    env: str
    default: Any
    doc: str
    parse: Callable[[str], Any]
    secret: bool = False


@dataclass(frozen=True)
class Reading:
    """A knob as the environment sets it.

    Attributes:
        tunable: which knob.
        value: what is in force; the default where the variable is unset, empty or invalid.
        source: `"default"`, or the name of the environment variable.
        error: what is wrong with the variable's text; None if nothing.
    """

    tunable: Tunable
    value: Any
    source: str
    error: str | None = None


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return text

    return parse


def _file(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_file():
        raise ValueError("must be the path of a file that exists")
    return path.absolute()


def _folders(text: str) -> tuple[Path, ...]:
    paths = tuple(Path(part).expanduser().absolute() for part in text.split(os.pathsep) if part)
    for path in paths:
        if not path.is_dir():
            raise ValueError(f"must name folders that exist, and {path} is none")
    return paths


TUNABLES: tuple[Tunable, ...] = (
    Tunable(
        "simd",
        "TACO_SIMD",
        None,
        "Highest instruction set that the kernels use (baseline, avx2, avx512). "
        "By default the highest that the processor has.",
        _choice(*SIMD_LEVELS),
    ),
    Tunable(
        "library_path",
        "TACO_LIBRARY_PATH",
        (),
        f"Folders, separated by {os.pathsep!r}, in which native libraries are looked for first.",
        _folders,
    ),
    Tunable(
        "tf_library", "TACO_TF_LIBRARY", None, "The libtaco_tf.so to load, and no other.", _file
    ),
    Tunable(
        "torch_library",
        "TACO_TORCH_LIBRARY",
        None,
        "The libtaco_torch.so to load, and no other.",
        _file,
    ),
    Tunable(
        "harp_library",
        "TACO_HARP_LIBRARY",
        None,
        "The libnccl-net-harp.so that TACO's tools use, and no other.",
        _file,
    ),
    Tunable(
        "goya_library",
        "TACO_GOYA_LIBRARY",
        None,
        "The libtaco_goya.so to load, and no other.",
        _file,
    ),
    *(
        Tunable(f"lightcc_{each.name}", each.env, each.default_text, each.doc, each.check)
        for each in _lightcc.VARIABLES
    ),
    *(
        Tunable(f"harp_{each.name}", each.env, each.default, each.doc, each.check, each.secret)
        for each in _harp.VARIABLES
    ),
)


def read(environ: Mapping[str, str]) -> dict[str, Reading]:
    """Reads every knob from `environ`. Never raises: what is wrong stands in `Reading.error`."""
    readings = {}
    for tunable in TUNABLES:
        text = environ.get(tunable.env, "")
        reading = Reading(tunable, tunable.default, "default")
        if text:
            try:
                reading = Reading(tunable, tunable.parse(text), tunable.env)
            except ValueError as error:
                shown = tunable.env if tunable.secret else f"{tunable.env}={text!r}"
                message = f"{shown}: {error}"
                reading = Reading(tunable, tunable.default, tunable.env, message)
        readings[tunable.name] = reading
    return readings


@functools.cache
def in_force() -> Mapping[str, Reading]:
    """The readings of this process: taken from the environment at the first call, then kept."""
    return read(os.environ)


def value(name: str, readings: Mapping[str, Reading] | None = None) -> Any:
    """The value in force of one knob.

    Args:
        name: the knob's name, as in TUNABLES.
        readings: where to look; those of this process by default.

    Raises:
        KeyError: there is no such knob.
        InvalidTunableError: its environment variable holds nonsense.
    """
    reading = (in_force() if readings is None else readings)[name]
    if reading.error:
        raise InvalidTunableError(reading.error)
    return reading.value
