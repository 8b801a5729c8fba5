"""Horovod 0.28.1 over Gloo, compiled for the PyTorch of this environment.

    python -m benchmarks.lightcc.peer       builds it, into .venv-horovod (minutes)

It has an environment of its own, so that `import horovod` means ours everywhere else. PyTorch is
not installed a second time: both sides of the benchmark run with the same files of it.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Callable

import torch

ROOT = pathlib.Path(__file__).absolute().parents[2]
LOCK = ROOT / "requirements" / "horovod.lock"
DEFAULT_FOLDER = ROOT / ".venv-horovod"
LOG = ROOT / "build" / "horovod.log"
_STAMP = "horovod.installed"
_REQUIREMENT = re.compile(r"^horovod==\S+", re.MULTILINE)
# Gloo alone, PyTorch alone. CMake 4 refuses files written for CMake 2, unless told to go on.
_BUILD = {
    "HOROVOD_WITH_GLOO": "1",
    "HOROVOD_WITHOUT_MPI": "1",
    "HOROVOD_WITH_PYTORCH": "1",
    "HOROVOD_WITHOUT_TENSORFLOW": "1",
    "HOROVOD_WITHOUT_MXNET": "1",
    "CMAKE_POLICY_VERSION_MINIMUM": "3.5",
}
# Lines that the sources need changed: PyTorch 2.13's headers are C++20.
_CHANGES = {
    "CMakeLists.txt": ("set(CMAKE_CXX_STANDARD 14)", "set(CMAKE_CXX_STANDARD 20)"),
    "horovod/torch/CMakeLists.txt": (
        "set(CMAKE_CXX_STANDARD 14)",
        "set(CMAKE_CXX_STANDARD 20)",
    ),
}


class PeerError(RuntimeError):
    """Horovod cannot be had here; the message says why and what would help."""

    def __init__(self, message: str):
        # Results are published: they say nothing of where the tree lies.
        super().__init__(message.replace(f"{ROOT}/", ""))


def python(
    folder: pathlib.Path = DEFAULT_FOLDER, *, say: Callable[[str], None] = print, build: bool = True
) -> str:
    """The interpreter in which `import horovod.torch` is Horovod; builds it first where needed.

    Args:
        folder: of the environment.
        say: told what takes long.
        build: False only looks whether it is there.

    Raises:
        PeerError: it is not there, and cannot be built or shall not be.
    """
    if not is_current(folder):
        if not build:
            raise PeerError("not built; `python -m benchmarks.lightcc.peer` does")
        say(f"building Horovod in {folder.name} (some ten minutes on two cores; log: {LOG.name})")
        make(folder)
    return str(folder / "bin" / "python")


def is_current(folder: pathlib.Path) -> bool:
    """Whether the environment was made from this lock file and for this PyTorch."""
    stamp = folder / _STAMP
    return stamp.exists() and stamp.read_text() == _fingerprint()


def make(folder: pathlib.Path) -> None:
    """Makes the environment anew.

    Raises:
        PeerError: a tool is missing, the sources cannot be had, or the compiler failed.
    """
    LOG.parent.mkdir(parents=True, exist_ok=True)
    LOG.write_text("")
    _run([str(ROOT / "tools" / "setup.sh"), "horovod"])
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory(prefix="taco-horovod-") as name:
        scratch = pathlib.Path(name)
        locked = LOCK.read_text()
        others = scratch / "others.lock"
        others.write_text(_REQUIREMENT.sub("#", locked))
        _run([*pip, "install", "--quiet", "--requirement", str(others)])
        _share_torch(folder)
        found = _REQUIREMENT.search(locked)
        if not found:
            raise PeerError(f"{LOCK} does not name Horovod")
        source = _source(pip, found[0], scratch)
        _run(
            [*pip, "install", "--no-deps", "--no-build-isolation", str(source)],
            _environment(folder),
        )
    _run([str(folder / "bin" / "python"), "-c", "import horovod.torch"])
    (folder / _STAMP).write_text(_fingerprint())


def _source(pip: list[str], requirement: str, scratch: pathlib.Path) -> pathlib.Path:
    """The unpacked and changed source."""
    download = ["download", "--quiet", "--no-deps", "--no-build-isolation"]
    _run([*pip, *download, "--no-binary", "horovod", "--dest", str(scratch), requirement])
    with tarfile.open(next(scratch.glob("horovod-*.tar.gz"))) as archive:
        archive.extractall(scratch)
    source = next(path for path in scratch.glob("horovod-*") if path.is_dir())
    for name, (old, new) in _CHANGES.items():
        file = source / name
        text = file.read_text()
        if old not in text:
            raise PeerError(
                f"{requirement}: {name} has no line '{old}'; other sources than expected"
            )
        file.write_text(text.replace(old, new))
    return source


def _environment(folder: pathlib.Path) -> dict[str, str]:
    """For the build: our CMake first, and no more jobs at once than there are processors."""
    jobs = min(len(os.sched_getaffinity(0)), 8)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**_BUILD, "PATH": path, "MAKEFLAGS": f"-j{jobs}"}


def _share_torch(folder: pathlib.Path) -> None:
    """Lets the environment import what this one has and it lacks: PyTorch and NumPy."""
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "torch_of_the_checkout.pth").write_text(sysconfig.get_path("purelib") + "\n")


def _fingerprint() -> str:
    return f"{LOCK.read_text()}torch {torch.__version__}, Python {sys.version.split()[0]}\n"


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    with LOG.open("a") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**_clean(), **(environment or {})},
                check=False,
            )
        except OSError as error:
            raise PeerError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise PeerError(f"{_cause(LOG.read_text(errors='replace'))} ({LOG} has the rest)")


def _clean() -> dict[str, str]:
    """The environment without what would bring our own `horovod` or `taco` along."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def _cause(log: str) -> str:
    """The line of a log that most likely says why: a compiler's or a tool's first error."""
    lines = [line.strip() for line in log.rpartition("\n$ ")[2].splitlines() if line.strip()]
    telling = re.compile(r"error:|Error:|ERROR:|^taco: |No such file|not found")
    found = [line for line in lines if telling.search(line)]
    return (found or lines[-1:] or ["no output"])[0]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=pathlib.Path, default=DEFAULT_FOLDER)
    try:
        print(python(parser.parse_args().folder.absolute()))
    except PeerError as error:
        sys.exit(f"no Horovod: {error}")


if __name__ == "__main__":
    main()
