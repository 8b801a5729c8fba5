"""The time of a training step over slow links, beside PyTorch's DDP and Horovod.

    python -m benchmarks.lightcc.training --json build/benchmarks/lightcc/training.json
    python -m benchmarks.lightcc.training --quick

Needs root, for network namespaces. docs/lightcc_benchmarks.md says what is trained and who takes
part; `python -m benchmarks.lightcc.report` makes its tables from the JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
import tempfile
import time
from typing import Any

from benchmarks.lightcc import about, peer, report, rounds
from benchmarks.lightcc.cases import Case, matrix, plan
from benchmarks.lightcc.contestants import CONTESTANTS, HOROVOD
from benchmarks.lightcc.links import LinksUnavailable
from benchmarks.lightcc.models import MODELS

QUICK_SCALE = 1 / 64
DEFAULT = about.FOLDER / "training.json"


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lightcc.training", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="small models, two rounds: does everything run?")
    add("--models", type=_words, help=f"of {','.join(MODELS)}")
    add("--layouts", type=_words, help="machines x ranks in each, such as 2x1,2x2")
    add("--mbits", type=_words, help="of a link, such as 1000,10000,0; 0: no limit")
    add("--contestants", type=_words, default=list(CONTESTANTS), help=f"of {','.join(CONTESTANTS)}")
    add("--rounds", type=int, help="turns of each contestant (7)")
    add("--turn-seconds", type=float, help="about, of a turn (3)")
    add("--warm-up-seconds", type=float, help="about, before the first round (8)")
    add("--budget-minutes", type=float, help="begin nothing new after this time")
    add("--json", type=pathlib.Path, default=DEFAULT, help="results file")
    args = parser.parse_args(arguments)
    args.given = sys.argv[1:] if arguments is None else arguments
    if unknown := [name for name in args.contestants if name not in CONTESTANTS]:
        parser.error(f"no contestant {unknown[0]}; there are {', '.join(CONTESTANTS)}")
    try:
        args.cases = _cases(args)
    except ValueError as error:
        parser.error(str(error))
    return args


def _cases(args: argparse.Namespace) -> list[Case]:
    """The page's cases; with any of the three options, all that they combine to."""
    scale = QUICK_SCALE if args.quick else 1.0
    if not (args.models or args.layouts or args.mbits):
        return plan(scale)
    mbits = [int(rate) for rate in args.mbits or ["1000"]]
    return matrix(args.models or ["resnet50"], args.layouts or ["2x1", "2x2"], mbits, scale)


def run(args: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """Runs everything.

    Args:
        args: of `parse`.
        folder: for logs.

    Returns:
        What goes into the results file.

    Raises:
        LinksUnavailable: there can be no network namespaces.
    """
    begin = time.monotonic()
    results = about.header("training", args.quick, args.given)
    missing: dict[str, str] = {}
    settings = rounds.Settings(folder, tuple(args.contestants), _horovod(args, missing), say=_say)
    quick = {"rounds": 2, "turn_seconds": 0.2, "warm_up_seconds": 0.2} if args.quick else {}
    for name in ("rounds", "turn_seconds", "warm_up_seconds"):
        if (value := getattr(args, name)) is not None:
            quick[name] = value
    settings = dataclasses.replace(settings, **quick)
    if args.budget_minutes:
        settings = dataclasses.replace(settings, deadline=begin + 60 * args.budget_minutes)
    results |= {"results": [], "missing": missing}
    for case in args.cases:
        if time.monotonic() < settings.deadline:
            results["results"].append(_measure(case, settings))
            print("\n".join(report.training_table(results["results"][-1])), flush=True)
    results["seconds"] = round(time.monotonic() - begin)
    return results


def _measure(case: Case, settings: rounds.Settings) -> dict[str, Any]:
    result = rounds.run(case, settings)
    return result | {"load": about.load()}


def _horovod(args: argparse.Namespace, missing: dict[str, str]) -> str:
    """Horovod's interpreter; empty, and the reason noted, where there is none."""
    if HOROVOD not in args.contestants:
        return ""
    try:
        return peer.python(say=_say, build=not args.quick)
    except peer.PeerError as error:
        missing[HOROVOD] = f"not installed: {error}"
        _say(f"{HOROVOD} does not take part, {missing[HOROVOD]}")
        return ""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when something was measured, whatever the figures are."""
    args = parse(arguments)
    with tempfile.TemporaryDirectory(prefix="taco-bench-") as folder:
        try:
            results = run(args, pathlib.Path(folder))
        except LinksUnavailable as error:
            _say(f"no links: {error}")
            return 1
    about.write(args.json, results)
    _say(f"written: {about.shown(args.json)}")
    found = [c for result in results["results"] for c in result["contestants"].values()]
    return 0 if any(each["rounds"] for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
