"""Checks that the commands a page shows exist, without running them."""

import functools
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

_PYTHONS = ("python", "python3", ".venv/bin/python")
_TOOLS = (".venv/bin/pytest", "pytest")


def complaint(words: list[str], root: Path) -> str | None:
    """What is wrong with one command; None if nothing is, or if it is no command of this project.

    Args:
        words: the command.
        root: the folder of the repository.
    """
    program, arguments = words[0], words[1:]
    if program == "make":
        return _make(arguments, root)
    if program == "taco":
        return _taco(arguments)
    if program in _PYTHONS:
        return _python(arguments, root)
    if program in _TOOLS:
        return _paths(arguments, root)
    return None


def _make(arguments: list[str], root: Path) -> str | None:
    makefile = (root / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
    wanted = {each for each in arguments if not each.startswith("-") and "=" not in each}
    missing = sorted(wanted - targets)
    return f"the Makefile has no target {missing[0]}" if missing else None


def _taco(arguments: list[str]) -> str | None:
    own = [each for each in arguments if each.startswith("--")]
    named = [each for each in arguments[:1] if not each.startswith("-")]
    code, text = _help(*named)
    if code != 0:
        return f"taco has no command {named[0]}"
    for option in own:
        name = option.partition("=")[0]
        if not re.search(rf"{re.escape(name)}\b", text):
            return f"`{' '.join(['taco', *named])} --help` does not tell of {name}"
    return None


@functools.cache
def _help(*command: str) -> tuple[int, str]:
    """What `taco COMMAND --help` says. bench is the source tree's own program: not asked."""
    if command == ("bench",):
        command = ()
    done = subprocess.run(
        [sys.executable, "-m", "taco.cli", *command, "--help"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def _python(arguments: list[str], root: Path) -> str | None:
    if arguments[:1] == ["-m"] and len(arguments) > 1:
        return _module(arguments[1], root)
    if arguments and arguments[0].endswith(".py") and not (root / arguments[0]).is_file():
        return f"there is no file {arguments[0]}"
    return None


def _module(name: str, root: Path) -> str | None:
    ours = Path(*name.split("."))
    for folder in (root, root / "python"):
        if (folder / ours).with_suffix(".py").is_file() or (folder / ours).is_dir():
            return None
    if importlib.util.find_spec(name.partition(".")[0]) is None or (root / ours.parts[0]).is_dir():
        return f"there is no module {name}"
    return None


def _paths(arguments: list[str], root: Path) -> str | None:
    for each in arguments:
        path = each.partition("::")[0]
        if "/" in path and not path.startswith("-") and not (root / path).exists():
            return f"there is no {path}"
    return None
