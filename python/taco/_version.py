"""TACO's version, in this one place: the build, the wheel and `taco --version` read it here."""

__version__ = "0.1.0"
