"""Every instruction set gives the same bits."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(level: str) -> dict:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "tests.torch_ext._simd_child"],
        env={**os.environ, "TACO_SIMD": level, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_levels_agree():
    baseline = run("baseline")
    assert baseline["simd"] == "baseline"
    assert len(set(baseline["results"].values())) > 12
    for level in ("avx2", "avx512"):  # as far as the processor has them
        assert run(level)["results"] == baseline["results"]
