"""What doctor tells about the machine: system, processor, memory and GPUs. Nothing here fails."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

# Features that each x86-64 level adds to the one before (x86-64 psABI), by /proc/cpuinfo's names.
_LEVELS = {
    "v2": {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"},
    "v3": {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"},
    "v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}

_HUGE_PAGES = "sys/kernel/mm/transparent_hugepage"


def system() -> dict[str, Any]:
    """Operating system and Python."""
    try:
        distribution = platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        distribution = None
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "distribution": distribution,
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "virtual_env": sys.prefix if sys.prefix != sys.base_prefix else None,
    }


def cpu(root: Path = Path("/")) -> dict[str, Any]:
    """The processor's model, count, and the vector instructions that the kernels choose from."""
    fields: dict[str, str] = {}
    for line in _text(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if value:
            fields.setdefault(name.strip(), value.strip())
    flags = set(fields.get("flags", "").split())
    return {
        "model": fields.get("model name") or platform.processor() or None,
        "logical": os.cpu_count(),
        "usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "x86_64_level": x86_64_level(flags),
        "avx2": _LEVELS["v3"] <= flags,
        "avx512": _LEVELS["v4"] | _LEVELS["v3"] <= flags,
    }


def x86_64_level(flags: set[str]) -> str | None:
    """The x86-64 level that these features make up: v1 to v4; None if they are not x86-64's."""
    if not {"lm", "sse2"} <= flags:
        return None
    level = "v1"
    for name, features in _LEVELS.items():
        if not features <= flags:
            break
        level = name
    return level


def memory(root: Path = Path("/")) -> dict[str, Any]:
    """Memory in bytes, and the huge-page setting, which the embedding tables profit from."""
    sizes = {}
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        number = value.split()[:1]
        if number and number[0].isdigit():
            sizes[name] = int(number[0]) * 1024
    limit = _text(root / "sys/fs/cgroup/memory.max").strip()
    setting = _chosen(_text(root / _HUGE_PAGES / "enabled"))
    return {
        "total": sizes.get("MemTotal"),
        "available": sizes.get("MemAvailable"),
        "cgroup_limit": int(limit) if limit.isdigit() else None,
        "huge_pages": setting,
        "huge_pages_defrag": _chosen(_text(root / _HUGE_PAGES / "defrag")),
        "huge_pages_advice": _advice(setting),
    }


def _advice(setting: str | None) -> str | None:
    if setting in ("madvise", "always"):
        return None
    if setting is None:
        return "This system does not tell its huge-page setting."
    return (
        "Big embedding tables are looked up faster with huge pages. As root: "
        f"echo madvise > /{_HUGE_PAGES}/enabled"
    )


def gpus(timeout: float = 20.0) -> dict[str, Any]:
    """NVIDIA GPUs as nvidia-smi lists them, and a note where there is no list."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {"found": [], "note": "none (no nvidia-smi on PATH); nothing in TACO needs one"}
    query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            [program, *query], capture_output=True, text=True, timeout=timeout, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"found": [], "note": f"nvidia-smi gave no answer: {error}"}
    if answer.returncode != 0:
        said = (answer.stdout + answer.stderr).strip().splitlines() or ["nothing"]
        return {"found": [], "note": f"nvidia-smi failed ({answer.returncode}): {said[0]}"}
    found = []
    for line in answer.stdout.splitlines():
        name, _, rest = line.partition(",")
        mebibytes, _, driver = (part.strip() for part in rest.partition(","))
        found.append(
            {
                "name": name.strip(),
                "memory": int(mebibytes) * 2**20 if mebibytes.isdigit() else None,
                "driver": driver or None,
            }
        )
    return {"found": found, "note": None if found else "none"}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _chosen(text: str) -> str | None:
    """The word in brackets of a line such as `always [madvise] never`."""
    _, _, rest = text.partition("[")
    return rest.partition("]")[0] or None
