"""Checks of numbers that programs give, with what is wrong in words."""

from numbers import Real
from typing import Any


def ratio(value: Any) -> float:
    """TopK's: part of the elements that is sent.

    Raises:
        ValueError: it is no number above 0 and at most 1.
    """
    if not isinstance(value, Real) or not 0 < float(value) <= 1:
        raise ValueError(f"ratio={value!r}: it must be a number above 0 and at most 1.")
    return float(value)


def count(name: str, value: Any) -> int:
    """A number of steps, or of bytes.

    Raises:
        ValueError: it is no whole number from 0.
    """
    if not isinstance(value, Real) or not float(value).is_integer() or value < 0:
        raise ValueError(f"{name}={value!r}: it must be a whole number, 0 or more.")
    return int(float(value))
