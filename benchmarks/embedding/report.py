"""Writes the tables, the JSON and the picture in docs/, and the README's summary, from results.

python -m benchmarks.embedding.report results.json [more.json ...]
    [--page docs/embedding_benchmarks.md] [--readme README.md]

The cases of several files are put together; of one that several hold, the last counts. What stands
between the marks of each page is replaced; the picture goes to images/ beside the page, and the
JSON of the page's name beside it holds every round, each batch's time summed up. The page can be
made again from that JSON; the picture, which shows each batch, is then left as it is.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import statistics
import sys
from typing import Any

from benchmarks.embedding import extent, plot, stats, terminal
from benchmarks.embedding.process import ROOT

BEGIN = "<!-- results: begin (made by benchmarks.embedding.report; do not edit) -->"
END = "<!-- results: end -->"
README_BEGIN, README_END = "<!-- bench:begin -->", "<!-- bench:end -->"
PICTURE = "embedding_benchmarks.png"
_HEADINGS = {
    "lookup": "Lookup",
    "upsert": "Upsert of existing keys",
    "insert": "Insert of new keys, growing from empty",
    "train": "Adam step",
    "growth": "Growth: longest batch and memory",
}


def markdown(results: dict[str, Any]) -> str:
    """The block of the page: where and how it was measured, then one table a kind of case."""
    lines = [*_about(results), ""]
    for kind, heading in _HEADINGS.items():
        mine = [f for f in results["findings"] if f["case"].split("/")[0] == kind]
        if mine:
            about = extent.sentence(results, kind)
            lines += [f"### {heading}", "", about, "", *_table(mine), ""]
    notes = [f"- {r['case']['name']}: {note}" for r in results["results"] for note in r["notes"]]
    if notes:
        lines += ["### Remarks", "", *notes, ""]
    return "\n".join(lines)


def merge(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One results file out of several runs: of a case that several did, the last; all else of the
    first."""
    merged = dict(runs[0])
    merged["command"] = extent.JOINT.join(run["command"] for run in runs)
    merged["seconds"] = round(sum(run["seconds"] for run in runs))
    merged["quick"] = any(run["quick"] for run in runs)
    merged["revisions"] = list(dict.fromkeys(each for run in runs for each in _revisions(run)))
    merged["ended"] = max(run.get("ended", run.get("started", "")) for run in runs)
    last = {f["case"]: number for number, run in enumerate(runs) for f in run["findings"]}
    merged["results"] = [
        r for number, run in enumerate(runs) for r in run["results"]
        if last.get(r["case"]["name"], number) == number
    ]  # fmt: skip
    merged["findings"] = [
        f for number, run in enumerate(runs) for f in run["findings"] if last[f["case"]] == number
    ]
    return merged


def _revisions(run: dict[str, Any]) -> list[str]:
    """`7295cc4ea810`, or that with changes; several of runs that were put together."""
    if "revisions" in run or "revision" not in run:
        return run.get("revisions", [])
    revision = run["revision"]
    return [revision["commit"][:12] + (" with changes" if revision["modified"] else "")]


def compact(results: dict[str, Any]) -> dict[str, Any]:
    """The results with each round's list of batch times replaced by what it comes to."""
    small = dict(results)
    small["results"] = []
    for result in results["results"]:
        contestants = {
            name: {**found, "rounds": [_compact_round(r) for r in found["rounds"]]}
            for name, found in result["contestants"].items()
        }
        small["results"].append({**result, "contestants": contestants})
    return small


def _compact_round(round_: dict[str, Any]) -> dict[str, Any]:
    seconds = round_["seconds"]
    if isinstance(seconds, dict):
        return round_  # of a page's own JSON
    tail = stats.tail(seconds)
    times = dataclasses.asdict(tail) if tail else {}
    return {**round_, "seconds": {"batches": len(seconds), "sum": sum(seconds), **times}}


def headline(results: dict[str, Any]) -> str:
    """The README's table: a line a claim, over all cases that were measured."""
    claims: dict[tuple[str, str, str, str], list[dict[str, Any]]] = {}
    for f in results["findings"]:
        if f["target"] and f["value"]:
            key = (f["case"].split("/")[0], f["what"], f["peer"], f["target"])
            claims.setdefault(key, []).append(f)
    lines = [
        "| what | beside | lowest case | median case | highest case | target | met in | floor |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    order = list(_HEADINGS)
    for key in sorted(claims, key=lambda key: order.index(key[0])):
        (kind, what, peer, target), found = key, claims[key]
        medians = sorted(f["value"]["median"] for f in found)
        middle = statistics.median(medians)
        met = sum(bool(f["met"]) for f in found)
        ratios = " | ".join(f"{value:.2f}x" for value in (medians[0], middle, medians[-1]))
        name = _HEADINGS[kind] if what == "speed over" else what
        beside = peer.replace("_", " ") if what == "speed over" else ""
        cells = [name, beside, ratios, target, f"{met} of {len(found)}", _floors(found)]
        lines.append("| " + " | ".join(cells) + " |")
    commands = extent.commands(results)
    how = f"by `{commands[0]}`" if len(commands) == 1 else f"in {len(commands)} runs put together"
    machine = results["machine"]["processor"]
    floor = (
        "Floor: what the memory work of a batch alone, with no table around it, would reach in the "
        "median case, and in how many cases it would meet the target."
    )
    how = f"Measured {how}, {extent.rounds(results)} of each case, on {machine}."
    return "\n".join([*lines, "", f"{how} {floor}"])


def _floors(found: list[dict[str, Any]]) -> str:
    """`9.10x, 14 of 16`: the floor's median case, and the cases in which it meets the target."""
    floors = [f for f in found if f.get("floor")]
    if not floors:
        return ""
    middle = statistics.median(f["floor"]["median"] for f in floors)
    reached = sum(not terminal.beyond_floor(f) for f in floors)
    return f"{middle:.2f}x, {reached} of {len(floors)}"


def _is_compact(results: dict[str, Any]) -> bool:
    return any(
        isinstance(round_["seconds"], dict)
        for result in results["results"]
        for contestant in result["contestants"].values()
        for round_ in contestant["rounds"]
    )


def rewrite(page: str, block: str, begin: str = BEGIN, end: str = END) -> str:
    """The page with what stands between the marks replaced by `block`.

    Raises:
      ValueError: the page lacks the marks.
    """
    before, found_begin, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"the page has no block between '{begin}' and '{end}'")
    return f"{before}{begin}\n\n{block}\n{end}{after}"


def _about(results: dict[str, Any]) -> list[str]:
    machine = results["machine"]
    revisions = _revisions(results)
    ended = results.get("ended", results["started"])
    last = f" (the last one {ended})" if ended != results["started"] else ""
    quick = ["", "**A quick run: it shows that everything runs, not how fast.**"]
    versions = [
        f"- {name}: " + ", ".join(f"{k} {v}" for k, v in found.items())
        for name, found in results["versions"].items()
        if isinstance(found, dict) and found
    ]
    missing = [
        f"- {name} did not take part: {' '.join(why.split())}"
        for name, why in results["missing"].items()
    ]
    commands = extent.commands(results)
    together = f"{len(commands)} runs put together (of a case that several did, the last counts)"
    return [
        f"{'One run' if len(commands) == 1 else together}, started {results['started']}{last},",
        f"{results['seconds']} s in all, revision{'s' * (len(revisions) > 1)} "
        + ", ".join(revisions)
        + ":",
        "",
        "```sh",
        *commands,
        "```",
        "",
        f"Machine: {machine['processor']}, {machine['processors']} processors,",
        f"L2 {machine['l2']}, L3 {machine['l3']},",
        f"{machine['memory_bytes'] / 2**30:.0f} GiB available, {machine['system']},",
        f"transparent huge pages: {machine['huge_pages']}.",
        *(quick if results["quick"] else []),
        "",
        *versions,
        *missing,
        "",
        f"**{terminal.tally(results)}.** Values are medians with [p10, p90] of the rounds.",
    ]


def _table(findings: list[dict[str, Any]]) -> list[str]:
    rows = [
        "| case | what | contestant | value | target | | floor | remark |",
        "|---|---|---|--:|--:|---|--:|---|",
    ]
    verdicts = {True: "met", False: "**missed**"}
    for f in findings:
        verdict = verdicts.get(f["met"], "not measured" if f["target"] else "")
        if f["met"] is False and terminal.beyond_floor(f):
            verdict += ", by the floor too"
        floor = f"{f['floor']['median']:.2f}" if f.get("floor") else ""
        cells = [f["case"], f["what"], f["peer"], terminal.value_text(f), f["target"], verdict]
        cells.append(floor)
        rows.append("| " + " | ".join([*cells, f["remark"].replace("|", "/")]) + " |")
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=pathlib.Path, nargs="+")
    parser.add_argument("--page", type=pathlib.Path, default=ROOT / "docs/embedding_benchmarks.md")
    parser.add_argument("--readme", type=pathlib.Path, default=ROOT / "README.md")
    args = parser.parse_args()
    results = merge([json.loads(path.read_text()) for path in args.results])
    data = args.page.with_suffix(".json")
    data.write_text(json.dumps(compact(results), indent=1) + "\n")
    block = f"{markdown(results)}\nEvery round, as JSON: [{data.name}]({data.name}).\n"
    picture = args.page.parent / "images" / PICTURE
    if picture.exists() if _is_compact(results) else plot.draw(results, picture):
        block += f"\n![Speed over the peers; batch times and memory in growth](images/{PICTURE})\n"
    for page, text, marks in (
        (args.page, block, (BEGIN, END)),
        (args.readme, headline(results), (README_BEGIN, README_END)),
    ):
        try:
            page.write_text(rewrite(page.read_text(), text, *marks))
        except ValueError as error:
            sys.exit(f"{page}: {error}")


if __name__ == "__main__":
    main()
