"""Ids and keys: what every contestant is asked for, the same for all.

A row has an id, its rank of insertion (0 .. rows - 1), which is what a dense variable is indexed
by, and a key, a 64-bit value spread over the whole range, which is what a hash table is asked for.
"""

from __future__ import annotations

import pathlib

import numpy as np

ZIPF_EXPONENT = 1.05
# Values of a row are those of PATTERN_ROWS rows, repeated: a lookup can be checked at no cost.
PATTERN_ROWS = 1 << 16


def key_of(ids: np.ndarray) -> np.ndarray:
    """Maps ids to keys one to one: the finaliser of SplitMix64 (Steele et al., OOPSLA 2014).

    Args:
      ids: int64, any shape.

    Returns:
      int64 of the same shape; id 0 is key 0, about half the keys are negative.
    """
    x = ids.astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))).view(np.int64)


def absent_keys(count: int) -> list[int]:
    """Keys that no id below 2**62 has, for tables that reserve some."""
    return key_of(np.arange(1 << 62, (1 << 62) + count)).tolist()


def pattern(dim: int) -> np.ndarray:
    """(PATTERN_ROWS, dim) float32: row i % PATTERN_ROWS is the value of id i."""
    return np.random.default_rng(7).standard_normal((PATTERN_ROWS, dim), dtype=np.float32)


def draw_ids(keys: str, rows: int, count: int, seed: int) -> np.ndarray:
    """Draws `count` ids of a table of `rows` rows.

    Args:
      keys: "uniform", or "zipf": bounded Zipf with ZIPF_EXPONENT, the ranks shuffled over the ids,
        so that hot rows are not neighbours.
      rows: number of rows.
      count: number of ids.
      seed: makes the draw reproducible.

    Returns:
      int64 (count,).
    """
    rng = np.random.default_rng([seed, rows])
    if keys == "uniform":
        return rng.integers(0, rows, count, dtype=np.int64)
    if keys != "zipf":
        raise ValueError(f"unknown distribution of keys: {keys!r}")
    mass = np.cumsum(np.arange(1, rows + 1, dtype=np.float64) ** -ZIPF_EXPONENT)
    ranks = np.searchsorted(mass, rng.random(count) * mass[-1])
    return rng.permutation(rows)[np.minimum(ranks, rows - 1)].astype(np.int64)


def ids_file(folder: pathlib.Path, keys: str, rows: int, count: int, seed: int) -> pathlib.Path:
    """The .npy file of `draw_ids`, made where it is missing."""
    path = folder / f"ids-{keys}-{rows}-{count}-{seed}.npy"
    if not path.exists():
        np.save(path, draw_ids(keys, rows, count, seed))
    return path
