"""What the tests of the `taco` command share: running it as users do, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import taco

PYTHON_ROOT = str(Path(taco.__file__).resolve().parents[1])


@pytest.fixture
def environment() -> Callable[..., dict[str, str]]:
    """Makes this process's environment less TACO's own variables, with changes."""

    def make(**changes: str) -> dict[str, str]:
        kept = {name: text for name, text in os.environ.items() if not name.startswith("TACO_")}
        path = os.pathsep.join(filter(None, [PYTHON_ROOT, os.environ.get("PYTHONPATH", "")]))
        return {**kept, "PYTHONPATH": path, **changes}

    return make


@pytest.fixture
def python(
    environment: Callable[..., dict[str, str]],
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs this Python with arguments; keywords are changes to the environment."""

    def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            env=environment(**changes),
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def run_taco(
    python: Callable[..., subprocess.CompletedProcess[str]],
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the `taco` command with arguments; keywords are changes to the environment."""

    def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return python("-m", "taco.cli", *arguments, **changes)

    return run
