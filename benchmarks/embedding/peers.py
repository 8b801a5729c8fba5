"""The peers' own environment: made from requirements/peers.lock, started with what TFRA needs.

python -m benchmarks.embedding.peers            makes it
python -m benchmarks.embedding.peers --relock   makes it from peers.in and writes peers.lock
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

from benchmarks.embedding.process import ROOT, Launch

LOCK = ROOT / "requirements" / "peers.lock"
INPUT = ROOT / "requirements" / "peers.in"
DEFAULT_FOLDER = ROOT / ".venv-peers"
# TensorFlow 2.16 and TFRA have wheels for these, and the workers run on them.
_PYTHONS = ("3.11", "3.12", "3.10")
_STAMP = "peers.lock.installed"
_HEADER = """\
# Made from peers.in by `python -m benchmarks.embedding.peers --relock`; do not edit.
"""


class PeersError(RuntimeError):
    """The environment cannot be made; the message says why and what would help."""


def launch(folder: pathlib.Path, say: Callable[[str], None] = print) -> Launch:
    """How to start TFRA; makes its environment first where it is missing or of another lock.

    Raises:
      PeersError: it cannot be made.
    """
    if not _is_current(folder):
        say(f"making the peers' environment in {folder.name} (a few minutes, 2 GB of disk)")
        make(folder, LOCK)
        shutil.copyfile(LOCK, folder / _STAMP)
    preload = next(folder.glob("lib/python*/site-packages/nvidia/cuda_runtime/lib/libcudart.so.*"))
    environment = {
        # TFRA's op library is linked against CUDA's run time, which a machine without a GPU lacks.
        "LD_PRELOAD": str(preload),
        "TF_USE_LEGACY_KERAS": "1",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": str(ROOT),
    }
    return Launch(str(folder / "bin" / "python"), environment)


def make(folder: pathlib.Path, requirements: pathlib.Path) -> None:
    """Makes the environment anew from a requirements file.

    Raises:
      PeersError: no suitable Python, or pip failed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    _run([_python(), "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    _run([*pip, "install", "--quiet", "-r", str(requirements)])


def relock(folder: pathlib.Path) -> None:
    """Installs peers.in and writes down every version that came."""
    make(folder, INPUT)
    frozen = _run([str(folder / "bin" / "python"), "-m", "pip", "freeze"])
    LOCK.write_text(_HEADER + frozen)
    shutil.copyfile(LOCK, folder / _STAMP)


def _is_current(folder: pathlib.Path) -> bool:
    stamp = folder / _STAMP
    return stamp.exists() and stamp.read_text() == LOCK.read_text()


def _python() -> str:
    if f"{sys.version_info.major}.{sys.version_info.minor}" in _PYTHONS:
        return sys.executable
    for version in _PYTHONS:
        if found := shutil.which(f"python{version}"):
            return found
    raise PeersError(f"TFRA's TensorFlow wants one of Python {', '.join(_PYTHONS)} on PATH")


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise PeersError(f"{command[0]}: {error}") from error
    if done.returncode:
        last = done.stderr.strip().splitlines()[-3:]
        raise PeersError(f"{' '.join(command)} failed: {' '.join(last)}")
    return done.stdout


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=pathlib.Path, default=DEFAULT_FOLDER)
    parser.add_argument("--relock", action="store_true")
    args = parser.parse_args()
    try:
        if args.relock:
            relock(args.folder)
        else:
            launch(args.folder)
    except PeersError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
