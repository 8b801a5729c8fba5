"""`taco bench`: hands over to the benchmarks of the source tree."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_SOURCE_TREE = Path(__file__).resolve().parents[3]

PARTS = ("embedding", "lightcc", "harp")

# `python -m benchmarks.PART`, but never the `benchmarks` of the folder the user stands in.
_RUN = """
import runpy, sys
sys.path[:] = [path for path in sys.path if path]
runpy.run_module("benchmarks." + sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def main(argv: Sequence[str], source_tree: Path = _SOURCE_TREE) -> int:
    """Runs a part's benchmark in a process of its own.

    Args:
        argv: the part, one of `PARTS` (embedding where none is named), and what is handed on to
            its benchmark.
        source_tree: where the folder `benchmarks` is expected.

    Returns:
        The benchmark's exit code; 1 where there is no source tree.
    """
    part, rest = PARTS[0], list(argv)
    if rest and not rest[0].startswith("-"):
        part = rest.pop(0)
    if part not in PARTS:
        sys.stderr.write(f"taco bench: no part '{part}': it is one of {', '.join(PARTS)}.\n")
        return 2
    if not (source_tree / "benchmarks" / part / "__main__.py").is_file():
        sys.stderr.write(
            "taco bench: the benchmarks are not part of the wheel; they live in the source tree, "
            "with the peers they measure against.\n"
            "In a clone of TACO's repository, run `make bench`.\n"
        )
        return 1
    paths = [str(source_tree), str(source_tree / "python"), os.environ.get("PYTHONPATH", "")]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-c", _RUN, part, *rest]
    return subprocess.run(command, env=environ, check=False).returncode
