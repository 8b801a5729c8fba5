"""Jobs as users start them, and a job of one rank within the test itself."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import taco
import taco.lightcc.torch as hvd

PYTHON_ROOT = str(Path(taco.__file__).resolve().parents[1])
LIMIT_S = 120
LAUNCHERS = ("HOROVOD_", "LIGHT_", "TACO_", "OMPI_", "PMI_", "SLURM_", "MASTER_", "RANK", "WORLD_")

# All its hosts are this one.
_FAKE_RSH = """#!{python}
import os, sys
os.execve("/bin/sh", ["sh", "-c", sys.argv[-1]], {{"PATH": os.environ["PATH"]}})
"""

_IMPORTS = """
import torch
import taco.lightcc.torch as hvd

torch.set_num_threads(1)
"""


@pytest.fixture
def unlaunched() -> Iterator[None]:
    """No launcher's variables; whatever becomes of them is undone."""
    kept = dict(os.environ)
    for name in kept:
        if name.startswith(LAUNCHERS):
            del os.environ[name]
    yield
    os.environ.clear()
    os.environ |= kept


@pytest.fixture
def alone(unlaunched: None) -> Iterator[None]:
    """A job of one rank."""
    hvd.init()
    yield
    hvd.shutdown()


@pytest.fixture
def taco_run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`taco_run(options, program)` runs a program after `hvd.init()`, or what `init` says.

    Hosts of any name are this one. The program's first argument is a folder for it. What `first`
    says comes before everything else.
    """
    rsh = tmp_path / "fake_rsh"
    rsh.write_text(_FAKE_RSH.format(python=sys.executable))
    rsh.chmod(0o755)

    def run(
        options: list[str], program: str, init: str = "hvd.init()", first: str = ""
    ) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "program.py"
        parts = ["import os, signal, sys", first, _IMPORTS, init, textwrap.dedent(program)]
        script.write_text("\n".join(parts))
        env = {name: text for name, text in os.environ.items() if not name.startswith(LAUNCHERS)}
        path = os.pathsep.join(filter(None, [PYTHON_ROOT, env.get("PYTHONPATH", "")]))
        return subprocess.run(
            [sys.executable, "-m", "taco.lightcc.run", *options, str(script), str(tmp_path)],
            env=env | {"PYTHONPATH": path, "TACO_RSH": str(rsh)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )

    return run
