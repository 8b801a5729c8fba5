"""Doctor knows which versions fit."""

from importlib import metadata

import pytest
from taco.cli import packages


@pytest.mark.parametrize(
    ("bounds", "version", "fits"),
    [
        ({"exact": "2.21.0"}, "2.21.0", True),
        ({"exact": "2.13.0"}, "2.13.0+cpu", True),
        ({"exact": "2.21.0"}, "2.21.1", False),
        ({"least": "3.12", "below": "4"}, "3.12.0", True),
        ({"least": "3.12", "below": "4"}, "3.9.0", False),
        ({"least": "3.12", "below": "4"}, "4.0.0", False),
        ({"least": "3.12", "below": "4"}, "3.15.1rc1", True),
    ],
)
def test_fits(bounds, version, fits):
    assert packages.Supported("x", ("x",), "y", **bounds).fits(version) is fits


def test_wanted_is_written_as_pip_writes_it():
    assert packages.Supported("x", ("x",), "y", least="1", below="2").wanted() == ">=1,<2"
    assert packages.Supported("x", ("x",), "y", exact="1.5").wanted() == "==1.5"


def test_a_package_may_be_installed_under_several_names(monkeypatch):
    def version(name):
        if name == "tensorflow-cpu":
            return "2.21.0"
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    found = {package["name"]: package for package in packages.installed()}
    assert found["tensorflow"]["distribution"] == "tensorflow-cpu"
    assert found["tensorflow"]["fits"] is True
    assert (found["torch"]["installed"], found["torch"]["fits"]) == (None, None)
