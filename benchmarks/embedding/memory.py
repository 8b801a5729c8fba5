"""Resident memory of this process, as the kernel counts it (Linux)."""

from __future__ import annotations

import contextlib
import ctypes
import pathlib

_PROC = pathlib.Path("/proc/self")


def _field(file: str, name: str) -> int:
    for line in (_PROC / file).read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(f"{file} has no {name}")


def resident() -> int:
    """Resident set now, in bytes; walks the page tables (milliseconds a GiB), and is exact."""
    return _field("smaps_rollup", "Rss")


def huge_pages() -> int:
    """Bytes of the resident set that lie in transparent huge pages."""
    return _field("smaps_rollup", "AnonHugePages")


def reset_peak() -> bool:
    """Forgets the highest resident set so far; False where the kernel does not allow it."""
    try:
        (_PROC / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak() -> int:
    """Highest resident set since `reset_peak` (else since the start of the process), in bytes."""
    return _field("status", "VmHWM")


def trim() -> None:
    """Gives the C library's free memory back to the kernel: it is not a table's."""
    # Not glibc: the figures are then a little worse for everyone.
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def available() -> int:
    """Memory that the machine can give without swapping, in bytes; respects a cgroup's limit."""
    free = 0
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    limit = pathlib.Path("/sys/fs/cgroup/memory.max")
    used = pathlib.Path("/sys/fs/cgroup/memory.current")
    try:
        text = limit.read_text().strip()
        if text != "max":
            free = min(free, int(text) - int(used.read_text()))
    except OSError:
        pass
    return free
