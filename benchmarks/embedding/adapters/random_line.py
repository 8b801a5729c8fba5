"""The machine itself: bare, prefetched, independent reads of the lines where rows would lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.embedding import random_line

_KEY_AND_FLOAT = (8, 4)
# A batch of a growing table's tail control takes about as long as a quick table's batch does.
_READS_A_KEY = 16


class Contestant:
    """An array of the table's payload; one read a key."""

    merge_batches = 8  # so that starting the second thread costs nothing that can be seen

    def __init__(self, threads: int):
        self._threads = threads
        self._array: random_line.LineArray | None = None
        random_line.build()

    def versions(self) -> dict[str, str]:
        """Nothing but our own source."""
        return {}

    def create(self, dim: int, rows: int, slots: int) -> None:
        """Allocates and touches the array."""
        key, value = _KEY_AND_FLOAT
        self._rows = rows
        self._reads = np.empty(0, np.int64)
        self._array = random_line.LineArray(rows, key + value * dim * (1 + slots), self._threads)

    def keys(self, ids: np.ndarray) -> np.ndarray:
        """The ids, contiguous."""
        return np.ascontiguousarray(ids, dtype=np.int64)

    def values(self, rows: np.ndarray) -> np.ndarray:
        """Unused."""
        return rows

    def lookup(self, keys: np.ndarray) -> Any:
        """Reads a line a key."""
        assert self._array
        return self._array.read(keys)

    def upsert(self, keys: np.ndarray, values: Any) -> None:
        """Equal work every batch, whatever the keys: the control of the longest batch."""
        assert self._array
        self._array.read(self._spread(keys.size))

    def _spread(self, count: int) -> np.ndarray:
        wanted = count * _READS_A_KEY
        if self._reads.size < wanted:
            self._reads = np.random.default_rng(1).integers(0, self._rows, wanted, dtype=np.int64)
        return self._reads[:wanted]

    def train_step(self, keys: Any, gradient: Any) -> None:
        """Not a thing that the machine does."""
        raise NotImplementedError

    def size(self) -> int:
        """Rows that the array stands for."""
        return self._rows

    def own_bytes(self) -> int | None:
        """None."""
        return None

    def drop(self) -> None:
        """Gives the array back."""
        if self._array:
            self._array.close()
        self._array = None
