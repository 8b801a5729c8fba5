"""Calls floor.cc: the memory work that no hash table can be without."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from benchmarks.embedding import native
from benchmarks.embedding.cases import FLOAT_BYTES

# Bytes of the index a row: a key and a 32-bit handle, in a table that is three quarters full.
_INDEX_BYTES = (8 + 4) / 0.75


class FloorTable:
    """A table's memory, and the traffic of its batches; not for use by two callers at once."""

    def __init__(self, rows: int, dim: int, slots: int, threads: int):
        self._library = ctypes.CDLL(str(native.build("floor")))
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self._library.floor_create.restype = pointer
        self._library.floor_create.argtypes = [number, number, number, number, ctypes.c_int]
        self._library.floor_free.restype = None
        self._library.floor_free.argtypes = [pointer]
        for call in ("lookup", "upsert", "apply"):
            function = getattr(self._library, f"floor_{call}")
            function.restype = None
            function.argtypes = [pointer, pointer, number, pointer]
        vector = FLOAT_BYTES * dim
        self._dim = dim
        self._handle = self._library.floor_create(
            rows, vector, vector * (1 + slots), int(rows * _INDEX_BYTES), threads
        )
        if not self._handle:
            raise MemoryError(f"no memory for {rows} rows of {vector * (1 + slots)} bytes")

    def lookup(self, ids: np.ndarray, out: np.ndarray) -> None:
        """Copies the vectors of `ids` (int64, (n,)) to `out` (float32, (n, dim))."""
        self._call(self._library.floor_lookup, ids, out)

    def upsert(self, ids: np.ndarray, values: np.ndarray) -> None:
        """Writes `values` (float32, (n, dim)) to the vectors of `ids`."""
        self._call(self._library.floor_upsert, ids, values)

    def apply(self, ids: np.ndarray, gradients: np.ndarray) -> None:
        """Reads and writes vector and two slots of `ids`; made with 2 slots."""
        self._call(self._library.floor_apply, ids, gradients)

    def _call(self, function: Any, ids: np.ndarray, rows: np.ndarray) -> None:
        assert ids.dtype == np.int64 and ids.flags.c_contiguous
        assert rows.dtype == np.float32 and rows.flags.c_contiguous
        assert rows.shape == (ids.size, self._dim)
        function(self._handle, ids.ctypes.data, ids.size, rows.ctypes.data)

    def close(self) -> None:
        """Gives the memory back."""
        if self._handle:
            self._library.floor_free(self._handle)
            self._handle = None
