"""`python -m benchmarks.embedding`: measures, prints the table, writes the JSON and the plot."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import re
import sys
import tempfile
import time
from typing import Any

import rich.console
import rich.progress

from benchmarks.embedding import claims, machine, peers, plot, process, terminal
from benchmarks.embedding.cases import CONTESTANTS, KINDS, QUICK, Matrix, blocks
from benchmarks.embedding.driver import Driver, Settings
from benchmarks.embedding.process import Launch

SCHEMA = 1
DEFAULT_OUT = process.ROOT / "build" / "benchmarks" / "embedding"
_PIPED_WIDTH = 180


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(float(part)) for part in text.split(","))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embedding", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="small tables, few rounds: does everything run?")
    add("--only", action="append", choices=KINDS, help="this kind of case; may be repeated")
    add("--contestants", default=",".join(CONTESTANTS), help="who takes part")
    add(
        "--out",
        type=pathlib.Path,
        default=DEFAULT_OUT,
        help="folder (default: build/benchmarks/embedding)",
    )
    add("--json", type=pathlib.Path, help="results file (default: OUT/results.json)")
    add("--rounds", type=int, help="rounds of each case")
    add("--budget-minutes", type=float, help="begin nothing new after this time")
    add("--threads", type=_numbers, help="for example 1,2")
    add("--dims", type=_numbers, help="for example 16,64")
    add("--rows", type=_numbers, help="for example 1e6,1e7")
    add("--seed", type=int, default=2026)
    add("--peers-venv", type=pathlib.Path, default=peers.DEFAULT_FOLDER, help="TFRA's environment")
    args = parser.parse_args(arguments)
    args.contestants = args.contestants.split(",")
    for name in args.contestants:
        if name not in CONTESTANTS:
            parser.error(f"unknown contestant {name}; there are {', '.join(CONTESTANTS)}")
    return args


def matrix_of(args: argparse.Namespace) -> Matrix:
    """The sizes that the options ask for, threads limited to the processors there are."""
    processors = len(os.sched_getaffinity(0))
    chosen = QUICK if args.quick else Matrix()
    threads = args.threads or chosen.threads
    changes: dict[str, Any] = {"threads": tuple(dict.fromkeys(min(t, processors) for t in threads))}
    for field, value in (("dims", args.dims), ("rows", args.rows), ("rounds", args.rounds)):
        if value:
            changes[field] = value
    if args.only:
        changes["kinds"] = tuple(kind for kind in KINDS if kind in args.only)
    return dataclasses.replace(chosen, **changes)


def launches(args: argparse.Namespace, missing: dict[str, str]) -> dict[str, Launch]:
    """How to start each contestant; those that cannot be are named in `missing`."""
    made = {name: process.own_launch() for name in args.contestants if name != "tfra"}
    if "tfra" in args.contestants:
        try:
            made["tfra"] = peers.launch(args.peers_venv.resolve())
        except peers.PeersError as error:
            missing["tfra"] = str(error)
    return made


def run(args: argparse.Namespace, console: rich.console.Console) -> dict[str, Any]:
    """Runs everything; returns what goes into the results file."""
    begin = time.monotonic()
    todo = blocks(matrix_of(args))
    missing: dict[str, str] = {}
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": machine.command(),
        "revision": machine.revision(),
        "machine": machine.describe(),
        "quick": args.quick,
        "results": [],
    }
    with tempfile.TemporaryDirectory(prefix="taco-bench-") as folder, _progress(console) as bar:
        settings = Settings(
            launches(args, missing), pathlib.Path(folder), args.seed, say=bar.console.print
        )
        if args.budget_minutes:
            settings.deadline = begin + 60 * args.budget_minutes
        driver = Driver(settings)
        task = bar.add_task("", total=len(todo))
        for block in todo:
            bar.update(task, description=block.first.name)
            results["results"] += driver.run(block)
            bar.advance(task)
    results["versions"] = {"python": sys.version.split()[0], **driver.versions}
    results["missing"] = {**missing, **driver.missing}
    results["seconds"] = round(time.monotonic() - begin)
    results["findings"] = [
        finding.to_json() for result in results["results"] for finding in claims.findings(result)
    ]
    return results


def _progress(console: rich.console.Console) -> rich.progress.Progress:
    columns = rich.progress.Progress.get_default_columns()
    elapsed = rich.progress.TimeElapsedColumn()
    return rich.progress.Progress(*columns, elapsed, console=console)


def to_text(results: dict[str, Any]) -> str:
    """JSON a person can read: indented, but lists of numbers on one line."""
    text = json.dumps(results, indent=1)
    return re.sub(r"\[[-+.eE\d,\s]+\]", lambda m: " ".join(m[0].split()), text) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when something was measured, whatever the figures are."""
    args = parse(arguments)
    console = rich.console.Console()
    if not console.is_terminal:
        console = rich.console.Console(width=_PIPED_WIDTH)
    results = run(args, console)
    file = args.json or args.out / "results.json"
    for folder in (file.parent, args.out):
        folder.mkdir(parents=True, exist_ok=True)
    file.write_text(to_text(results))
    terminal.show(console, results)
    picture = args.out / "embedding_benchmarks.png"
    drawn = f" and {picture}" if plot.draw(results, picture) else ""
    console.print(f"written: {file}{drawn}")
    measured = any(c["rounds"] for r in results["results"] for c in r["contestants"].values())
    return 0 if measured else 1


if __name__ == "__main__":
    sys.exit(main())
