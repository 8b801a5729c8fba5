"""What no hash table with its rows in memory can be quicker than: the memory work alone."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from benchmarks.embedding import floor, native


class Contestant:
    """Index lines and rows, read and written for each key as quickly as we know; no table."""

    merge_batches = 1

    def __init__(self, threads: int):
        self._threads = threads
        self._table: floor.FloorTable | None = None
        native.build("floor")

    def versions(self) -> dict[str, str]:
        """Nothing but our own source."""
        return {}

    def create(self, dim: int, rows: int, slots: int) -> None:
        """Allocates and touches the memory of the table."""
        self._dim, self._rows = dim, rows
        self._out = _aligned(0, dim)
        self._table = floor.FloorTable(rows, dim, slots, self._threads)

    def keys(self, ids: np.ndarray) -> np.ndarray:
        """The ids, contiguous."""
        return np.ascontiguousarray(ids, dtype=np.int64)

    def values(self, rows: np.ndarray) -> np.ndarray:
        """The rows, aligned as a tensor is."""
        made = _aligned(len(rows), rows.shape[1])
        made[:] = rows
        return made

    def lookup(self, keys: np.ndarray) -> Any:
        """Rows of the keys, in memory that is used again."""
        assert self._table
        if len(self._out) != keys.size:
            self._out = _aligned(keys.size, self._dim)
        self._table.lookup(keys, self._out)
        return self._out

    def upsert(self, keys: np.ndarray, values: np.ndarray) -> None:
        """Overwrites the rows."""
        assert self._table
        self._table.upsert(keys, values)

    def train_step(self, keys: np.ndarray, gradient: np.ndarray) -> None:
        """A lookup, and the traffic of Adam."""
        assert self._table
        self.lookup(keys)
        self._table.apply(keys, gradient)

    def size(self) -> int:
        """Rows that the memory is for."""
        return self._rows

    def own_bytes(self) -> int | None:
        """None."""
        return None

    def drop(self) -> None:
        """Gives the memory back."""
        if self._table:
            self._table.close()
        self._table = None


def _aligned(rows: int, dim: int) -> np.ndarray:
    """A float32 array (rows, dim) that begins a page."""
    memory = mmap.mmap(-1, max(1, rows * dim * 4))
    return np.frombuffer(memory, np.float32, rows * dim).reshape(rows, dim)
