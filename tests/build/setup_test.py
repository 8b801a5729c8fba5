"""tools/setup.sh: what it says where something is missing, and what its second run does."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What the script itself runs, beside what it looks for.
TOOLS = ["bash", "cat", "cmp", "dirname", "env", "grep", "mkdir", "test", "uname"]


@pytest.fixture
def machine(tmp_path):
    """A PATH that holds only chosen programs, as on a bare machine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in [*TOOLS, "g++"]:
        (folder / tool).symlink_to(shutil.which(tool))

    class Machine:
        log = tmp_path / "log"

        def add(self, name: str, script: str) -> None:
            """Puts a program there."""
            path = folder / name
            path.unlink(missing_ok=True)
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)

        def remove(self, name: str) -> None:
            (folder / name).unlink()

        def setup(self, *pieces: str, **environment: str) -> subprocess.CompletedProcess:
            return subprocess.run(
                [shutil.which("bash"), str(ROOT / "tools" / "setup.sh"), *pieces],
                env={"PATH": str(folder), "HOME": os.environ.get("HOME", "/"), **environment},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )

    bare = Machine()
    bare.add("python3", f'exec {sys.executable} "$@"')
    bare.add("id", "echo 1000")
    bare.add("apt-get", f'echo "$@" >> {bare.log}')
    return bare


def test_without_root_and_sudo_it_says_what_to_install(machine):
    result = machine.setup("build")
    assert result.returncode != 0
    assert "apt-get install --no-install-recommends bazel-bootstrap" in result.stderr
    assert not machine.log.exists()


def test_without_root_and_sudo_all_that_is_missing_is_named_at_once(machine):
    machine.remove("g++")
    machine.remove("python3")
    result = machine.setup("build", "test", "soak", "bench", "venv-dev", "horovod", "buildifier")
    assert result.returncode != 0
    (line,) = [each for each in result.stderr.splitlines() if "apt-get install" in each]
    named = line.partition("--no-install-recommends ")[2].split()
    assert {"bazel-bootstrap", "g++", "python3", "iproute2", "clang-14", "make"} <= set(named)
    venv = [] if (ROOT / ".venv" / "bin" / "python").exists() else ["python3-venv", "python3-dev"]
    assert set(venv) <= set(named)
    assert len(set(named)) == len(named)


def test_with_sudo_it_installs_what_is_missing_and_no_more(machine):
    machine.add("sudo", '[ "$1" = -n ] && shift; exec "$@"')
    machine.add("true", "exit 0")
    machine.setup("build")
    installed = machine.log.read_text().splitlines()[-1]
    assert installed.endswith("install --no-install-recommends bazel-bootstrap")


def test_as_root_it_needs_no_sudo(machine):
    machine.add("id", "echo 0")
    machine.setup("build")
    assert "bazel-bootstrap" in machine.log.read_text()


def test_bazelisk_serves_as_well(machine):
    machine.add("bazelisk", "exit 0")
    result = machine.setup("build")
    assert result.returncode == 0, result.stderr
    assert not machine.log.exists()


def test_a_python_without_a_tensorflow_wheel_is_refused_with_the_remedy(machine):
    machine.add("bazel", "exit 0")
    machine.add("python3.14", '[ "$1" = --version ] && echo "Python 3.14.0"; exit 1')
    result = machine.setup("build", PYTHON="python3.14")
    assert result.returncode != 0
    assert "Python 3.10 to 3.13" in result.stderr
    assert "Python 3.14.0" in result.stderr
    assert "make PYTHON=" in result.stderr


def test_an_old_compiler_is_refused_with_the_version_needed(machine):
    machine.add("bazel", "exit 0")
    machine.add("g++", '[ "$1" = -dumpversion ] && echo 9 && exit 0; exit 1')
    result = machine.setup("build")
    assert result.returncode != 0
    assert "GCC 11 or newer is needed, this is 9" in result.stderr


def test_the_second_run_touches_no_registry():
    """Everything is set up when these tests run: with registries out of reach nothing changes."""
    unreachable = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "",
        "npm_config_offline": "true",
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    result = subprocess.run(
        [ROOT / "tools" / "setup.sh", "build", "test", "venv-torch", "venv-dev"],
        env={**os.environ, **unreachable},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert not result.stderr, "it installed something again"


@pytest.mark.parametrize("piece", ["venv-run", "venv-torch", "venv-dev", "venv-bench"])
def test_a_failed_installation_is_not_taken_for_done(tmp_path, piece):
    for folder in ["tools", "requirements", ".venv/bin"]:
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "setup.sh", tmp_path / "tools")
    for lock in ["run.lock", "torch.lock", "dev.lock", "bench.lock"]:
        (tmp_path / "requirements" / lock).write_text("absent==1.0\n")
    python = tmp_path / ".venv/bin/python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    result = subprocess.run(
        [tmp_path / "tools" / "setup.sh", piece], stdin=subprocess.DEVNULL, capture_output=True
    )
    assert result.returncode != 0
    assert not list((tmp_path / ".venv").glob(".installed.*"))
