"""Calls random_line.cc."""

from __future__ import annotations

import ctypes
import pathlib

import numpy as np

from benchmarks.embedding import native


def build(folder: pathlib.Path | None = None) -> pathlib.Path:
    """The library of random_line.cc; see `native.build`."""
    return native.build("random_line", folder)


class LineArray:
    """An array in memory whose lines are read in any order; not for use by two callers at once."""

    def __init__(self, rows: int, row_bytes: int, threads: int):
        self._library = ctypes.CDLL(str(build()))
        self._library.random_line_create.restype = ctypes.c_void_p
        self._library.random_line_create.argtypes = [ctypes.c_int64]
        self._library.random_line_read.restype = ctypes.c_uint64
        self._library.random_line_read.argtypes = [
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int,
        ]  # fmt: skip
        self._library.random_line_free.restype = None
        self._library.random_line_free.argtypes = [ctypes.c_void_p]
        self._row_bytes = row_bytes
        self._threads = threads
        self._handle = self._library.random_line_create(rows * row_bytes)
        if not self._handle:
            raise MemoryError(f"no {rows * row_bytes} bytes for the array of random lines")

    def read(self, ids: np.ndarray) -> int:
        """Reads the line of every row in `ids` (int64, contiguous); returns a check sum."""
        assert ids.dtype == np.int64 and ids.flags.c_contiguous
        return self._library.random_line_read(
            self._handle, ids.ctypes.data, ids.size, self._row_bytes, self._threads
        )

    def close(self) -> None:
        """Gives the memory back."""
        if self._handle:
            self._library.random_line_free(self._handle)
            self._handle = None
