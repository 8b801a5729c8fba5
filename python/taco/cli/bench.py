"""`taco bench`: hands over to the benchmarks of the source tree."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_SOURCE_TREE = Path(__file__).resolve().parents[3]

# `python -m benchmarks.embedding`, but never the `benchmarks` of the folder the user stands in.
_RUN = """
import runpy, sys
sys.path[:] = [path for path in sys.path if path]
runpy.run_module("benchmarks.embedding", run_name="__main__", alter_sys=True)
"""


def main(argv: Sequence[str], source_tree: Path = _SOURCE_TREE) -> int:
    """Runs `benchmarks.embedding` in a process of its own.

    Args:
        argv: handed on to the benchmark.
        source_tree: where the folder `benchmarks` is expected.

    Returns:
        The benchmark's exit code; 1 where there is no source tree.
    """
    if not (source_tree / "benchmarks" / "embedding" / "__main__.py").is_file():
        sys.stderr.write(
            "taco bench: the benchmarks are not part of the wheel; they live in the source tree, "
            "with the peers they measure against.\n"
            "In a clone of TACO's repository, run `make bench`.\n"
        )
        return 1
    paths = [str(source_tree), str(source_tree / "python"), os.environ.get("PYTHONPATH", "")]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-c", _RUN, *argv]
    return subprocess.run(command, env=environ, check=False).returncode
