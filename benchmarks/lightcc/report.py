"""Writes the tables and the JSON of docs/lightcc_benchmarks.md from results files.

    python -m benchmarks.lightcc.report build/benchmarks/lightcc/*.json

Files of training and of accuracy may be mixed; of a case that several hold, the last counts. What
stands between the marks of the page is replaced; the JSON beside it holds every round.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.embedding.report import rewrite
from benchmarks.embedding.stats import Spread
from benchmarks.lightcc import about, claims
from benchmarks.lightcc.cases import Case
from benchmarks.lightcc.contestants import ANCHORS

BEGIN = "<!-- results: begin (made by benchmarks.lightcc.report; do not edit) -->"
END = "<!-- results: end -->"
PAGE = about.ROOT / "docs" / "lightcc_benchmarks.md"
_VERDICTS = {
    "within": "within",
    "better": "better",
    "worse": "**worse**",
    "same": "the same bits as dense",
}


def training_table(result: dict[str, Any]) -> list[str]:
    """One case of the training benchmark, as Markdown."""
    case = Case.from_json(result["case"])
    floor = claims.dense_floor(result)
    about_link = f"; dense across needs at least {1e3 * floor:.0f} ms of link" if floor else ""
    heads = ["contestant", "step, ms", *(f"times {name}" for name in ANCHORS)]
    heads += ["MB over the link", "link alone, ms", "processor, ms"]
    rows = [
        f"### {case.name}",
        "",
        f"{result['elements'] / 1e6:.1f} M values in {result['tensors']} tensors{about_link}.",
        "",
        _row(heads),
        _row(["---", *["--:"] * (len(heads) - 1)]),
    ]
    for line in claims.lines(result, ANCHORS):
        cells = [line.name, f"not measured: {line.note}"]
        if line.step is not None:
            cells = [line.name, _spread(line.step, 1e3, 0)]
            cells += [_spread(line.faster[name], 1.0, 2) for name in ANCHORS]
            cells += [f"{line.megabytes:.1f}", "-", f"{1e3 * line.processor:.0f}"]
            if line.floor is not None:
                cells[-2] = f"{1e3 * line.floor:.0f}"
        rows.append(_row([*cells, *[""] * (len(heads) - len(cells))]))
    notes = [
        f"- {line.name} stopped: {line.note}"
        for line in claims.lines(result, ANCHORS)
        if line.note and line.step
    ]
    if len(result["groups"]) > 1:
        apart = " | ".join(", ".join(part) for part in result["groups"])
        notes.append(f"- In turn, as memory did not hold all at once: {apart}.")
    if "load" in result:
        notes.append(f"- Load average at the end: {result['load'][0]}.")
    return [*rows, "", *notes, ""]


def accuracy_table(results: dict[str, Any]) -> list[str]:
    """The accuracy benchmark, as Markdown."""
    heads = ["task", "metric", "ranks", "mode", "mean", "deviation of seeds", "behind dense", ""]
    rows = ["### Accuracy", "", _row(heads), _row(["---"] * 4 + ["--:"] * 3 + ["---"])]
    for result in results["results"]:
        dense = result["modes"]["dense"]["values"]
        for mode, found in result["modes"].items():
            cells = [result["task"], result["metric"], str(result["ranks"]), mode]
            if found["note"]:
                rows.append(_row([*cells, f"not measured: {found['note']}", "", "", ""]))
                continue
            better = result["higher_is_better"]
            seen = claims.learned(found["values"], dense, higher_is_better=better)
            cells += [f"{seen.mean:.4f}", f"{seen.deviation:.4f}"]
            other = [f"{seen.loss_of_mode:+.4f}", _VERDICTS[seen.verdict]]
            rows.append(_row([*cells, *(["", ""] if mode == "dense" else other)]))
    return [*rows, ""]


def merge(runs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Runs by kind, of each case only the last that did it; of accuracy, a mode's is a case."""
    last: dict[tuple[str, ...], int] = {}
    for number, run in enumerate(runs):
        for result in run["results"]:
            last |= dict.fromkeys(_cases(run["kind"], result), number)
    kept: dict[str, list[dict[str, Any]]] = {"training": [], "accuracy": []}
    for number, run in enumerate(runs):
        mine = []
        for result in run["results"]:
            cases = _cases(run["kind"], result)
            old = {case[-1] for case in cases if last[case] != number}
            if len(old) == len(cases):
                continue
            if run["kind"] == "accuracy":
                modes = {mode: found for mode, found in result["modes"].items() if mode not in old}
                result = {**result, "modes": modes}
            mine.append(result)
        if mine:
            kept[run["kind"]].append({**run, "results": mine})
    return kept


def _cases(kind: str, result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Those of a result. Dense is beside each mode, and no case where there are others."""
    if kind == "training":
        return [(kind, result["case"]["name"])]
    modes = [mode for mode in result["modes"] if mode != "dense"] or ["dense"]
    return [(kind, result["task"], str(result["ranks"]), mode) for mode in modes]


def markdown(kept: dict[str, list[dict[str, Any]]]) -> str:
    """The block of the page."""
    blocks: list[str] = []
    for run in kept["training"]:
        blocks += [*_about(run), ""]
        for result in run["results"]:
            blocks += training_table(result)
    for run in kept["accuracy"]:
        blocks += [*_about(run), "", *accuracy_table(run)]
    return "\n".join(blocks)


def _about(run: dict[str, Any]) -> list[str]:
    machine, revision = run["machine"], run["revision"]
    changed = " with changes" if revision["modified"] else ""
    versions = _versions(run)
    missing = [f"- {name} did not take part, {_cell(why)}" for name, why in run["missing"].items()]
    quick = ["", "**A quick run: it shows that everything runs, not how fast.**"]
    return [
        f"Command: `{run['command']}`, started {run['started']}, {run['seconds']} s, revision",
        f"{revision['commit'][:12]}{changed}. Machine: {machine['processor']}, "
        f"{machine['processors']} processors, {machine['system']}, kernel {machine['kernel']}.",
        *([versions] if versions else []),
        *(quick if run["quick"] else []),
        *(["", *missing] if missing else []),
    ]


def _versions(run: dict[str, Any]) -> str:
    found: dict[str, str] = {}
    for result in run["results"]:
        for contestant in result.get("contestants", {}).values():
            found |= contestant.get("versions", {})
    return ", ".join(f"{name} {version}" for name, version in found.items()) + "." if found else ""


def _spread(value: Spread | None, factor: float, digits: int) -> str:
    if value is None:
        return "-"
    low, middle, high = (factor * each for each in (value.p10, value.median, value.p90))
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=pathlib.Path, nargs="+")
    parser.add_argument("--page", type=pathlib.Path, default=PAGE)
    args = parser.parse_args(arguments)
    kept = merge([json.loads(path.read_text()) for path in args.results])
    data = args.page.with_suffix(".json")
    about.write(data, kept)
    block = f"{markdown(kept)}\nEvery round, as JSON: [{data.name}]({data.name}).\n"
    try:
        args.page.write_text(rewrite(args.page.read_text(), block, BEGIN, END))
    except ValueError as error:
        sys.exit(f"{args.page}: {error}")


if __name__ == "__main__":
    main()
