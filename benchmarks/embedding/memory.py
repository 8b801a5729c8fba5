"""Resident memory of this process, as the kernel counts it, and memory made ready (Linux)."""

from __future__ import annotations

import contextlib
import ctypes
import pathlib
import subprocess
import sys

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


_TOUCH = """
import mmap, sys

size = int(sys.argv[1])
memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_HUGEPAGE)
for at in range(0, size, 2 << 20):
    memory[at] = 1
for at in range(0, size, mmap.PAGESIZE):
    memory[at] = 1
"""


def warm(size: int) -> bool:
    """Has `size` bytes of the machine's free memory touched once, by a process that ends at once.

    False where that did not work: then nothing is lost but the help.

    A virtual machine's host gives memory when it is first touched, which takes several times as
    long as touching it again. Whoever runs next would be timed with it.
    """
    return subprocess.run([sys.executable, "-c", _TOUCH, str(size)], check=False).returncode == 0
