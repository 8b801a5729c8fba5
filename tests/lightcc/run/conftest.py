"""What the launcher's tests share: running it as users do, and seeing what it leaves."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import taco

PYTHON_ROOT = str(Path(taco.__file__).resolve().parents[1])
LIMIT_S = 60

_FAKE_RSH = """#!{python}
import os, sys
host, command = sys.argv[-2:]
clean = {{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}}
clean["RSH_HOST"] = host
clean["RSH_OPTIONS"] = " ".join(sys.argv[1:-2])
if host == "unreachable":
    sys.exit("fake: connect to host unreachable port 22: No route to host")
os.chdir("/")
os.execve("/bin/sh", ["sh", "-c", command], clean)
"""


@pytest.fixture
def tag() -> str:
    """Stands in the command of every rank of a test, and of nothing else."""
    return f"tag{uuid.uuid4().hex}"


@pytest.fixture
def survivors(tag: str) -> Callable[[], list[str]]:
    """Lists the processes of the test's ranks, waiting a little for the last ones to go."""

    def look() -> list[str]:
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and tag.encode() in (folder / "environ").read_bytes():
                    found.append(f"{folder.name} {(folder / 'cmdline').read_bytes()!r}")
            except OSError:
                continue
        return found

    def wait() -> list[str]:
        until = time.monotonic() + LIMIT_S
        while look() and time.monotonic() < until:
            time.sleep(0.02)
        return look()

    return wait


@pytest.fixture
def environment(tag: str) -> dict[str, str]:
    """A user's, without a launcher's variables."""
    started = ("TACO_", "HOROVOD_", "LIGHT_", "OMPI_", "SLURM_", "PMI_", "MASTER_")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(started)}
    path = os.pathsep.join(filter(None, [PYTHON_ROOT, os.environ.get("PYTHONPATH", "")]))
    return {**kept, "PYTHONPATH": path, "TEST_TAG": tag}


@pytest.fixture
def fake_rsh(tmp_path: Path) -> str:
    """A remote shell whose hosts are all this one; it keeps nothing of the environment."""
    program = tmp_path / "fake_rsh"
    program.write_text(_FAKE_RSH.format(python=sys.executable))
    program.chmod(0o755)
    return str(program)


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    """Writes the script of a rank, and gives its path. `rank` and `size` are there already."""

    def write(text: str, name: str = "script.py") -> str:
        head = "import os, signal, subprocess, sys, time\n"
        head += "rank, size = (int(os.environ['HOROVOD_' + each]) for each in ('RANK', 'SIZE'))\n"
        (tmp_path / name).write_text(head + text)
        return str(tmp_path / name)

    return write


@pytest.fixture
def launch(
    environment: dict[str, str], survivors: Callable[[], list[str]]
) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts the launcher; keywords are changes to its environment. Nothing may be left of it."""
    started = []

    def start(*arguments: str, **changes: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "taco.lightcc.run", *arguments],
            env={**environment, **changes},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=LIMIT_S)
    assert survivors() == []


@pytest.fixture
def taco_run(
    launch: Callable[..., subprocess.Popen[bytes]],
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the launcher to its end."""

    def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        process = launch(*arguments, **changes)
        out, err = process.communicate(timeout=LIMIT_S)
        return subprocess.CompletedProcess(
            arguments, process.returncode, out.decode(), err.decode(errors="replace")
        )

    return run
