"""Stable 64-bit feature ids: the same on every machine, in every run.

One table serves all fields, so an id carries its field: `id = mix(value XOR salt(field))`. `mix` is
a bijection of the 64-bit integers (the finaliser of SplitMix64, Steele, Lea and Flood, "Fast
splittable pseudorandom number generators", 2014), hence two integer values of one field never
share an id; values of two fields, or two strings, do with probability 2**-64 a pair.
"""

import hashlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

_U64 = np.uint64


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scrambles 64-bit integers one to one.

    Args:
        values: uint64, any shape.

    Returns:
        uint64 of the same shape.
    """
    x = values + _U64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> _U64(30))) * _U64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> _U64(27))) * _U64(0x94D049BB133111EB)
    return x ^ (x >> _U64(31))


def hash_text(text: str) -> int:
    """Hashes a string to 64 bits, independent of `PYTHONHASHSEED`.

    Args:
        text: Any string; lone surrogates are allowed.

    Returns:
        An integer in `[0, 2**64)`.
    """
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


@cache
def _salt(field: str) -> np.uint64:
    return _U64(hash_text("field:" + field))


def field_ids(field: str, values: NDArray[np.generic]) -> NDArray[np.int64]:
    """Turns the raw integers of a field into ids that no other field uses.

    Args:
        field: The field's name; part of the id.
        values: int64 or uint64, any shape.

    Returns:
        int64 of the same shape, spread over the whole range, negative values included.

    Example:
        >>> ids = field_ids("user", np.array([1, 2, 1]))
        >>> bool(ids[0] == ids[2]), bool(ids[0] == field_ids("movie", np.array([1]))[0])
        (True, False)
    """
    raw = np.ascontiguousarray(values)
    if raw.dtype != np.uint64:
        raw = raw.astype(np.int64, copy=False).view(np.uint64)
    return mix(raw ^ _salt(field)).view(np.int64)
