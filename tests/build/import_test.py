"""`import taco` is cheap: a program that only may use TACO pays nothing for having it."""

import os
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
PROMISED_SECONDS = 0.050


def seconds_of_import() -> float:
    """What the interpreter itself measures for `import taco` and all that it imports."""
    command = [sys.executable, "-X", "importtime", "-c", "import taco"]
    result = subprocess.run(command, check=True, env=ENVIRONMENT, capture_output=True, text=True)
    # import time: self [us] | cumulative | imported package
    (line,) = re.findall(r"^import time:\s+\d+ \|\s+(\d+) \| taco$", result.stderr, re.MULTILINE)
    return int(line) * 1e-6


def test_import_taco_imports_no_framework():
    program = "import sys, taco; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, env=ENVIRONMENT, capture_output=True, text=True
    ).stdout.split()
    assert not {"tensorflow", "torch", "keras", "numpy", "rich", "matplotlib"} & set(loaded)


def test_import_taco_takes_under_50_ms():
    seconds_of_import()  # leaves the bytecode behind, as any first import does
    assert statistics.median(seconds_of_import() for _ in range(5)) < PROMISED_SECONDS
