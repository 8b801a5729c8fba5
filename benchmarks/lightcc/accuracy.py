"""What LightCC's modes learn, beside dense: accuracy after training on real data.

    python -m benchmarks.lightcc.accuracy --json build/benchmarks/lightcc/accuracy.json
    python -m benchmarks.lightcc.accuracy --quick

Each seed trains once with every mode, from the same parameters and on the same batches. All ranks
run on this machine. docs/lightcc_benchmarks.md says what is learned.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.lightcc import about, process, report
from benchmarks.lightcc.process import ContestantError, Ranks
from benchmarks.lightcc.tasks import TASKS, Task

DEFAULT = about.FOLDER / "accuracy.json"
QUICK_STEPS = 5
_START_SECONDS, _LEARN_SECONDS = 120.0, 900.0
_FIRST_PORT = 21_000

# Models this small would be below the threshold of TopK.
_TOPK = {
    "LIGHT_TOPK_ALLREDUCE": "1",
    "LIGHT_TOPK_RATIO": "0.01",
    "LIGHT_TOPK_THRESHOLD": "1024",
    "LIGHT_TOPK_WARMUP": "0",
}
_TWO_LEVELS = {"LIGHT_2D_ALLREDUCE": "1", "LIGHT_INTRA_SIZE": "2"}
MODES: dict[str, Mapping[str, str]] = {
    "dense": {},
    "topk": _TOPK,
    "topk_warmup": {**_TOPK, "LIGHT_TOPK_WARMUP": "200"},
    # Deep Gradient Compression: the warm-up, and momentum before the selection.
    "topk_dgc": {**_TOPK, "LIGHT_TOPK_WARMUP": "200", "TACO_TOPK_MOMENTUM": "local"},
    "2d_topk": {**_TOPK, **_TWO_LEVELS},
    "2d_topk_warmup": {**_TOPK, **_TWO_LEVELS, "LIGHT_TOPK_WARMUP": "200"},
    "auto": {**_TOPK, "LIGHT_MODE": "auto"},
}


def measure(
    tasks: Sequence[str], ranks: int, mode: str, seeds: int, steps: int, folder: pathlib.Path
) -> dict[str, dict[str, Any]]:
    """Trains each task once for each seed, all in the same processes.

    Args:
        tasks: of TASKS.
        ranks: how many.
        mode: of MODES.
        seeds: how many.
        steps: of each training; 0 for the task's own number.
        folder: for the log.

    Returns:
        For each task values, the score of each seed; and note, why there are none.
    """
    found: dict[str, dict[str, Any]] = {
        task: {"values": [], "note": "", "environment": dict(MODES[mode])} for task in tasks
    }
    argv = [sys.executable, "-m", "benchmarks.lightcc.accuracy_worker"]
    port = _FIRST_PORT + 10 * list(MODES).index(mode) + ranks
    try:
        with Ranks(
            process.local,
            [0] * ranks,
            [argv] * ranks,
            [_environment(mode, rank, ranks, port) for rank in range(ranks)],
            folder / f"{mode}.log",
        ) as running:
            running.greetings(_START_SECONDS)
            for task in tasks:
                found[task] |= _learn(running, task, seeds, steps)
    except ContestantError as error:
        for each in found.values():
            each["note"] = "" if each["values"] else str(error)
    return found


def _learn(running: Ranks, task: str, seeds: int, steps: int) -> dict[str, Any]:
    """All seeds of a task."""
    begin, values = time.monotonic(), []
    for seed in range(seeds):
        answers = running.ask(
            _LEARN_SECONDS,
            task=task,
            seed=seed,
            steps=steps or TASKS[task].steps,
        )
        if not answers[0]["agreed"]:
            raise ContestantError(f"{task}, seed {seed}: ranks end with different parameters")
        values.append(answers[0]["score"])
    found = {"values": values, "seconds": round(time.monotonic() - begin, 1)}
    explained = answers[0]["explained"]
    return {**found, "explained": explained} if explained else found


def _environment(mode: str, rank: int, ranks: int, port: int) -> dict[str, str]:
    """Two machines of equally many ranks, as far as the launcher says."""
    per_machine = max(1, ranks // 2)
    variables = {
        "HOROVOD_RANK": str(rank),
        "HOROVOD_SIZE": str(ranks),
        "HOROVOD_LOCAL_RANK": str(rank % per_machine),
        "HOROVOD_LOCAL_SIZE": str(per_machine),
        "HOROVOD_CROSS_RANK": str(rank // per_machine),
        "HOROVOD_CROSS_SIZE": str(ranks // per_machine),
        "HOROVOD_HOSTNAME": f"machine{rank // per_machine}",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    return process.environment({**variables, **MODES[mode]})


def modes_for(modes: Sequence[str], ranks: int) -> list[str]:
    """Those that make sense: two levels need machines of several ranks."""
    return [mode for mode in modes if ranks >= 4 or not mode.startswith("2d")]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""

    def words(text: str) -> list[str]:
        return [word for word in text.split(",") if word]

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lightcc.accuracy", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="five steps, two seeds: does everything run?")
    add("--tasks", type=words, default=list(TASKS), help=f"of {','.join(TASKS)}")
    add("--ranks", type=words, default=["2", "4"])
    add("--modes", type=words, default=list(MODES), help=f"of {','.join(MODES)}; dense is added")
    add("--seeds", type=int, help="how many (5)")
    add("--steps", type=int, help="of each training (the task's own)")
    add("--json", type=pathlib.Path, default=DEFAULT, help="results file")
    args = parser.parse_args(arguments)
    args.given = sys.argv[1:] if arguments is None else arguments
    for kind, known in (("tasks", TASKS), ("modes", MODES)):
        if unknown := [name for name in getattr(args, kind) if name not in known]:
            parser.error(f"no {kind[:-1]} {unknown[0]}; there are {', '.join(known)}")
    args.modes = ["dense", *(mode for mode in args.modes if mode != "dense")]
    args.ranks = [int(count) for count in args.ranks]
    args.seeds = args.seeds or (2 if args.quick else 5)
    return args


def run(args: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """Runs everything; returns what goes into the results file."""
    begin = time.monotonic()
    results = about.header("accuracy", args.quick, args.given)
    results |= {"results": [], "missing": {}, "versions": {"torch": torch.__version__}}
    steps = args.steps or (QUICK_STEPS if args.quick else 0)
    for ranks in args.ranks:
        made = [_result(TASKS[name], ranks, steps) for name in args.tasks]
        for mode in modes_for(args.modes, ranks):
            found = measure(args.tasks, ranks, mode, args.seeds, steps, folder)
            for result in made:
                mine = result["modes"][mode] = found[result["task"]]
                said = mine["note"] or json.dumps(mine["values"])
                print(f"{result['task']}, {ranks} ranks, {mode}: {said}", file=sys.stderr)
        results["results"] += made
    results["seconds"] = round(time.monotonic() - begin)
    return results


def _result(task: Task, ranks: int, steps: int) -> dict[str, Any]:
    return {
        "task": task.name,
        "metric": task.metric,
        "higher_is_better": task.higher_is_better,
        "ranks": ranks,
        "steps": steps or task.steps,
        "modes": {},
    }


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when dense was measured, whatever the figures are."""
    args = parse(arguments)
    with tempfile.TemporaryDirectory(prefix="taco-bench-") as folder:
        results = run(args, pathlib.Path(folder))
    about.write(args.json, results)
    measured = all(result["modes"]["dense"]["values"] for result in results["results"])
    if measured:
        print("\n".join(report.accuracy_table(results)))
    print(f"written: {about.shown(args.json)}", file=sys.stderr)
    return 0 if measured else 1


if __name__ == "__main__":
    sys.exit(main())
