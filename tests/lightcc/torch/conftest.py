"""Runs a program on several ranks, as users do, within a time limit."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import taco

PYTHON_ROOT = str(Path(taco.__file__).resolve().parents[1])
LIMIT_S = 120

_PROLOGUE = """
import torch
import taco.lightcc.torch as hvd

torch.set_num_threads(1)
hvd.init()
rank, size = hvd.rank(), hvd.size()
"""


@pytest.fixture
def ranks(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`ranks(size, program)` runs a program after `hvd.init()`; it has `hvd`, `rank`, `size`.

    Raises AssertionError unless the job's exit code is `expect` (0).
    """

    def run(
        size: int, program: str, expect: int = 0, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "program.py"
        script.write_text(_PROLOGUE + textwrap.dedent(program))
        env = {k: v for k, v in os.environ.items() if not k.startswith(("HOROVOD_", "LIGHT_"))}
        env["PYTHONPATH"] = os.pathsep.join([PYTHON_ROOT, env.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-m", "taco.cli", "run", "-np", str(size), sys.executable, script],
            env=env | environ,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    return run
