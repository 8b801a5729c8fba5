"""What a result must say about where it was measured: machine, versions, revision, command."""

from __future__ import annotations

import os
import pathlib
import platform
import shlex
import subprocess
import sys
from typing import Any

from benchmarks.embedding import memory
from benchmarks.embedding.process import ROOT


def describe() -> dict[str, Any]:
    """Processor, caches, memory, kernel and load; nothing that names the machine."""
    info = _lscpu()
    return {
        "processor": info.get("Model name", platform.processor()),
        "processors": len(os.sched_getaffinity(0)),
        "l1d": info.get("L1d cache", ""),
        "l2": info.get("L2 cache", ""),
        "l3": info.get("L3 cache", ""),
        "memory_bytes": memory.available(),
        "kernel": platform.release().split("-")[0],
        "system": _system(),
        "huge_pages": _chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "virtual": info.get("Hypervisor vendor", ""),
    }


def revision() -> dict[str, Any]:
    """The commit measured, and whether the tree had changes on top of it."""
    head = _git("rev-parse", "HEAD")
    return {"commit": head or "unknown", "modified": bool(_git("status", "--porcelain"))}


def command() -> str:
    """The command that repeats the run."""
    return "python -m benchmarks.embedding " + shlex.join(sys.argv[1:])


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _lscpu() -> dict[str, str]:
    try:
        done = subprocess.run(["lscpu"], capture_output=True, text=True, check=False)
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _system() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return platform.system()
    return release.get("PRETTY_NAME", platform.system())


def _chosen(path: str) -> str:
    """`always [madvise] never` -> `madvise`."""
    try:
        text = pathlib.Path(path).read_text()
    except OSError:
        return "unknown"
    return text.partition("[")[2].partition("]")[0]
