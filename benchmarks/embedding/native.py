"""Builds a C++ file that lies beside the package with the machine's compiler, once a source."""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile

_FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread")


def build(name: str, folder: pathlib.Path | None = None) -> pathlib.Path:
    """Compiles `name`.cc into a library in `folder` (default: a cache in the temporary folder).

    Raises:
      RuntimeError: there is no C++ compiler, or it fails; the message says which.
    """
    source = pathlib.Path(__file__).with_name(f"{name}.cc")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    folder = folder or pathlib.Path(tempfile.gettempdir()) / f"taco-benchmarks-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    library = folder / f"{name}-{digest}.so"
    if library.exists():
        return library
    compiler = shutil.which(os.environ.get("CXX", "")) or shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        raise RuntimeError("no C++ compiler on PATH (set CXX, or install g++)")
    unfinished = library.with_suffix(f".{os.getpid()}.tmp")
    command = [compiler, *_FLAGS, str(source), "-o", str(unfinished)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    unfinished.rename(library)
    return library
