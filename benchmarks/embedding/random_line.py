"""Builds random_line.cc with the machine's C++ compiler and calls it."""

from __future__ import annotations

import ctypes
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile

import numpy as np

_SOURCE = pathlib.Path(__file__).with_name("random_line.cc")
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread")


def build(folder: pathlib.Path | None = None) -> pathlib.Path:
    """Compiles the library into `folder` (default: a cache in the temporary folder), once a source.

    Raises:
      RuntimeError: there is no C++ compiler, or it fails; the message says which.
    """
    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    folder = folder or pathlib.Path(tempfile.gettempdir()) / f"taco-benchmarks-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    library = folder / f"random_line-{digest}.so"
    if library.exists():
        return library
    compiler = shutil.which(os.environ.get("CXX", "")) or shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        raise RuntimeError("no C++ compiler on PATH (set CXX, or install g++)")
    unfinished = library.with_suffix(f".{os.getpid()}.tmp")
    command = [compiler, *_FLAGS, str(_SOURCE), "-o", str(unfinished)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    unfinished.rename(library)
    return library


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
