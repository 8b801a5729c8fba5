"""`taco doctor`: gathers the report, and says by its exit code whether what is installed works."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from taco import _loader, _tunables
from taco._version import __version__
from taco.cli import machine, packages, probe

FORMAT = 1  # of the JSON report: raised when a field changes its meaning or goes

_EPILOG = """exit codes:
  0  everything that is installed loads
  1  something that is installed does not load; the report says what and why

A library whose framework is not installed counts as not installed."""


def main(argv: Sequence[str]) -> int:
    """Runs `taco doctor`.

    Args:
        argv: arguments after `doctor`.

    Returns:
        0 if everything that is installed loads, else 1.
    """
    parser = argparse.ArgumentParser(
        prog="taco doctor",
        description="Says what of TACO is installed, what loads, and what does not and why.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument(
        "--timeout",
        type=float,
        default=probe.TIME_LIMIT_S,
        metavar="SECONDS",
        help="how long one library may take to load (default: %(default)g)",
    )
    options = parser.parse_args(list(argv))
    if options.json:
        report = gather(options.timeout)
        print(json.dumps(report, indent=2))
    else:
        try:
            from taco.cli import render
        except ModuleNotFoundError as error:  # a source tree run by a bare Python
            sys.stderr.write(f"taco doctor: {error}. `taco doctor --json` needs no package.\n")
            return 1
        report = render.with_progress(lambda tell: gather(options.timeout, tell))
        render.show(report)
    return 0 if report["ok"] else 1


def gather(time_limit_s: float, tell: Callable[[str], None] = lambda what: None) -> dict[str, Any]:
    """The report as plain data; docs/doctor.md has its schema.

    Args:
        time_limit_s: how long one library may take to load.
        tell: is told what is being looked at.
    """
    tell("the machine")
    report: dict[str, Any] = {
        "format": FORMAT,
        "taco": {"version": __version__, "package": str(Path(__file__).resolve().parents[1])},
        "system": machine.system(),
        "cpu": machine.cpu(),
        "memory": machine.memory(),
        "gpus": machine.gpus(),
        "packages": packages.installed(),
        "tunables": [_tunable(reading) for reading in _tunables.in_force().values()],
        "artefacts": [],
    }
    for artefact in _loader.ARTEFACTS:
        tell(artefact.file_name)
        report["artefacts"].append(probe.artefact_report(artefact, time_limit_s=time_limit_s))
    report["problems"] = _problems(report)
    report["ok"] = not report["problems"]
    return report


def _problems(report: dict[str, Any]) -> list[str]:
    """One sentence for each thing that is installed and does not work."""
    problems = [each["error"] for each in report["tunables"] if each["error"]]
    for artefact in report["artefacts"]:
        if artefact["status"] == probe.FAILS and artefact["error"] not in problems:
            problems.append(f"{artefact['name']} does not load: {artefact['error']}")
    return problems


def _tunable(reading: _tunables.Reading) -> dict[str, Any]:
    return {
        "name": reading.tunable.name,
        "env": reading.tunable.env,
        "value": _plain(reading.value),
        "default": _plain(reading.tunable.default),
        "source": reading.source,
        "doc": reading.tunable.doc,
        "error": reading.error,
    }


def _plain(value: Any) -> Any:
    """A knob's value as its environment variable would spell it; None where TACO decides."""
    if isinstance(value, tuple):
        return os.pathsep.join(map(str, value)) or None
    return str(value) if isinstance(value, Path) else value
