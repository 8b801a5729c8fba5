"""The machine itself: memory written for the first time, as much as a growing table takes."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from benchmarks.embedding.cases import FLOAT_BYTES, KEY_BYTES

_CHUNK = 64 << 20
_LINE = 64


class Contestant:
    """Fresh memory in huge pages; a word is written in each line that the batch's rows would fill.

    What is long in its batches, no table that grows can do without.
    """

    merge_batches = 1

    def __init__(self, threads: int):
        self._chunks: list[np.ndarray] = []

    def versions(self) -> dict[str, str]:
        """Nothing but our own source."""
        return {}

    def create(self, dim: int, rows: int, slots: int) -> None:
        """Begins with no memory."""
        self._row_bytes = KEY_BYTES + FLOAT_BYTES * dim * (1 + slots)
        self._rows = 0
        self._touched = 0
        self._chunks = []

    def keys(self, ids: np.ndarray) -> np.ndarray:
        """The ids."""
        return ids

    def values(self, rows: np.ndarray) -> np.ndarray:
        """Unused."""
        return rows

    def lookup(self, keys: np.ndarray) -> Any:
        """Not a thing that fresh memory has."""
        raise NotImplementedError

    def upsert(self, keys: np.ndarray, values: Any) -> None:
        """Writes to the lines of the rows up to the highest id."""
        self._rows = max(self._rows, int(keys[-1]) + 1)
        wanted = self._rows * self._row_bytes // _LINE
        while self._touched < wanted:
            place = self._touched % (_CHUNK // _LINE)
            if place == 0:
                self._chunks.append(_chunk())
            end = min(_CHUNK // _LINE, place + wanted - self._touched)
            self._chunks[-1][place:end] = 1
            self._touched += end - place

    def train_step(self, keys: np.ndarray, gradient: Any) -> None:
        """The same."""
        self.upsert(keys, gradient)

    def size(self) -> int:
        """Rows that the memory stands for."""
        return self._rows

    def own_bytes(self) -> int | None:
        """None."""
        return None

    def drop(self) -> None:
        """Gives the memory back."""
        self._chunks = []


def _chunk() -> np.ndarray:
    """The first word of every line of a fresh mapping."""
    memory = mmap.mmap(-1, _CHUNK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.int64)[:: _LINE // 8]
