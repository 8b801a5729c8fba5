"""The Makefile: what the README and the docs promise of it."""

import pathlib
import subprocess

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
    assert "setup.sh build test" not in commands
    assert "peers" not in commands
