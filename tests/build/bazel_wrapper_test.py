"""tools/bazel: which Bazel it takes, and what it tells which release."""

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
RC = f"--bazelrc={ROOT}/bazel7.rc"
NEW = '[ "$1" = --version ] && echo "bazel 7.0.0" && exit\necho real "$@"'
OLD = '[ "$1" = --version ] && echo "bazel no_version" && exit\necho real "$@"'
# What bazelisk and the wrappers do.
CALLS_BACK = f'BAZEL_REAL={{real}} exec {ROOT}/tools/bazel "$@"'


@pytest.fixture
def machine(tmp_path):
    """A PATH that holds only chosen programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ["dirname", "sh"]:
        (folder / tool).symlink_to(shutil.which(tool))

    class Machine:
        path = str(folder)

        def add(self, name: str, script: str) -> pathlib.Path:
            program = folder / name
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
            return program

        def run(self, *args: str) -> subprocess.CompletedProcess:
            return subprocess.run(
                [ROOT / "tools" / "bazel", *args],
                env={"PATH": self.path},
                capture_output=True,
                text=True,
                timeout=30,
            )

        def ran(self, *args: str) -> list[str]:
            result = self.run(*args)
            assert result.returncode == 0, result.stderr
            return result.stdout.split()

    return Machine()


def test_bazel_4_is_told_nothing(machine):
    machine.add("bazel", OLD)
    assert machine.ran("build", "//x") == ["real", "build", "//x"]


def test_a_newer_bazel_that_has_no_wrapper_reads_its_rc_file(machine):
    machine.add("bazel", NEW)
    assert machine.ran("build", "//x") == ["real", RC, "build", "//x"]


@pytest.mark.parametrize("launcher", ["bazel", "bazelisk"])
def test_a_launcher_that_calls_back_is_told_once(machine, launcher):
    real = machine.add("real-7", NEW)
    machine.add(launcher, CALLS_BACK.format(real=real))
    assert machine.ran("build", "//x") == ["real", RC, "build", "//x"]


def test_bazel_comes_before_bazelisk(machine):
    machine.add("bazel", OLD)
    machine.add("bazelisk", "exit 1")
    assert machine.ran("build")[0] == "real"


def test_a_version_is_asked_for_with_no_flag_before(machine):
    """Bazel knows --version as its first argument alone."""
    machine.add("bazel", NEW)
    assert machine.ran("--version") == ["bazel", "7.0.0"]


def test_it_does_not_call_itself_where_tools_is_on_the_path(machine):
    machine.add("bazelisk", OLD)
    machine.path = f"{ROOT}/tools:{machine.path}"
    assert machine.ran("build") == ["real", "build"]


def test_a_launcher_that_fails_ends_it_with_its_own_words(machine):
    machine.add("bazelisk", "echo no network >&2; exit 3")
    result = machine.run("build")
    assert (result.returncode, result.stderr) == (3, "no network\n")


def test_without_any_bazel_it_says_what_to_do(machine):
    result = machine.run("build")
    assert result.returncode == 127
    assert "make build" in result.stderr
