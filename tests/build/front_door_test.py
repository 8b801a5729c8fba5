"""The Makefile: what the README and the docs promise of it."""

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROMISED = ["demo", "test", "build", "bench", "wheel", "lint", "soak", "help"]


def make(*args: str) -> str:
    return subprocess.run(
        ["make", *args], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


def test_help_names_every_target():
    listed = {line.split()[0] for line in make("help").splitlines() if line.startswith("  ")}
    assert set(PROMISED) <= listed


def test_plain_make_is_help():
    assert make() == make("help")


def test_the_demo_installs_neither_test_tools_nor_peers():
    commands = make("--dry-run", "demo")
    assert "venv-run" in commands
    assert "venv-dev" not in commands
    assert "torch" not in commands
    assert "setup.sh build test" not in commands
    assert "peers" not in commands


@pytest.mark.parametrize("target", ["build", "test", "lint"])
def test_what_needs_pytorch_installs_it(target):
    assert "venv-torch" in make("--dry-run", target)


def test_a_bazel_that_the_setup_installs_is_the_one_that_builds(tmp_path):
    tools = tmp_path / "tools"
    programs = tmp_path / "bin"
    tools.mkdir()
    programs.mkdir()
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "tools" / "bazel", tools)
    for name in ["bash", "chmod", "dirname", "env", "sed"]:
        (programs / name).symlink_to(shutil.which(name))
    bazel = programs / "bazel"
    (tools / "setup.sh").write_text(
        f"#!/bin/bash\necho 'echo ran: \"$@\"' > {bazel}\nchmod +x {bazel}\n"
    )
    (tools / "setup.sh").chmod(0o755)
    result = subprocess.run(
        [shutil.which("make"), "libraries"],
        cwd=tmp_path,
        env={"PATH": str(programs), "HOME": os.environ.get("HOME", "/")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "ran: build" in result.stdout


def test_the_environment_of_the_checkout_has_taco_and_its_command(tmp_path):
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    for command in [
        [ROOT / ".venv/bin/python", "-c", "import taco; print(taco.__file__)"],
        [ROOT / ".venv/bin/taco", "--help"],
    ]:
        result = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert result.stdout
