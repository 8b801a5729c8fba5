"""`import taco` is cheap: a program that only may use TACO pays nothing for having it."""

import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
PROMISED_SECONDS = 0.050


def seconds(program: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, env=ENVIRONMENT)
    return time.perf_counter() - start


def test_import_taco_imports_no_framework():
    program = "import sys, taco; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, env=ENVIRONMENT, capture_output=True, text=True
    ).stdout.split()
    assert not {"tensorflow", "torch", "keras", "numpy", "rich", "matplotlib"} & set(loaded)


def test_import_taco_takes_under_50_ms():
    seconds("import taco")  # leaves the bytecode behind, as any first import does
    # Alternating, and the best of each: what else runs on the machine slows both.
    pairs = [(seconds("pass"), seconds("import taco")) for _ in range(10)]
    empty, with_taco = (min(column) for column in zip(*pairs, strict=True))
    assert with_taco - empty < max(PROMISED_SECONDS, 2 * empty)
