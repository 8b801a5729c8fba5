"""What every results file says of itself: machine, revision, command."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import re
import shlex
from collections.abc import Sequence
from typing import Any

from benchmarks.embedding import machine
from benchmarks.lightcc.process import ROOT

SCHEMA = 1
FOLDER = ROOT / "build" / "benchmarks" / "lightcc"


def header(kind: str, quick: bool, arguments: Sequence[str]) -> dict[str, Any]:
    """The first fields of a results file.

    Args:
        kind: "training" or "accuracy".
        quick: whether sizes are too small for the figures to count.
        arguments: of the command line.
    """
    return {
        "schema": SCHEMA,
        "kind": kind,
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": f"python -m benchmarks.lightcc.{kind} {shlex.join(arguments)}".strip(),
        "revision": machine.revision(),
        "machine": machine.describe(),
        "quick": quick,
    }


def load() -> list[float]:
    """Processes that wanted a processor, over the last 1, 5 and 15 minutes."""
    return [round(each, 2) for each in os.getloadavg()]


def shown(path: pathlib.Path) -> str:
    """A path for people: relative to the project if it is inside."""
    path = path.absolute()
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def write(file: pathlib.Path, results: dict[str, Any]) -> None:
    """JSON a person can read: indented, lists of numbers on one line."""
    text = json.dumps(results, indent=1)
    text = re.sub(r"\[[-+.eE\d,\s]+\]", lambda match: " ".join(match[0].split()), text)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")
