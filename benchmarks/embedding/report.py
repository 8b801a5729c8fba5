"""Writes the tables and the picture in docs/ from a results file.

python -m benchmarks.embedding.report results.json [--page docs/embedding_benchmarks.md]

What stands between the page's two marks is replaced; the picture goes to images/ beside the page.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from typing import Any

from benchmarks.embedding import plot, terminal
from benchmarks.embedding.process import ROOT

BEGIN = "<!-- results: begin (made by benchmarks.embedding.report; do not edit) -->"
END = "<!-- results: end -->"
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
            lines += [f"### {heading}", "", *_table(mine), ""]
    notes = [f"- {r['case']['name']}: {note}" for r in results["results"] for note in r["notes"]]
    if notes:
        lines += ["### Remarks", "", *notes, ""]
    return "\n".join(lines)


def rewrite(page: str, block: str) -> str:
    """The page with what stands between the marks replaced by `block`.

    Raises:
      ValueError: the page lacks the marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no block between '{BEGIN}' and '{END}'")
    return f"{before}{BEGIN}\n\n{block}\n{END}{after}"


def _about(results: dict[str, Any]) -> list[str]:
    machine, revision = results["machine"], results["revision"]
    changed = " with changes" if revision["modified"] else ""
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
    return [
        f"Command: `{results['command']}`, started {results['started']}, {results['seconds']} s,",
        f"revision {revision['commit'][:12]}{changed}.",
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
        "| case | what | contestant | value | target | | remark |",
        "|---|---|---|--:|--:|---|---|",
    ]
    verdicts = {True: "met", False: "**missed**"}
    for f in findings:
        verdict = verdicts.get(f["met"], "not measured" if f["target"] else "")
        cells = [f["case"], f["what"], f["peer"], terminal.value_text(f), f["target"], verdict]
        rows.append("| " + " | ".join([*cells, f["remark"].replace("|", "/")]) + " |")
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=pathlib.Path)
    parser.add_argument("--page", type=pathlib.Path, default=ROOT / "docs/embedding_benchmarks.md")
    args = parser.parse_args()
    results = json.loads(args.results.read_text())
    block = markdown(results)
    picture = args.page.parent / "images" / PICTURE
    if plot.draw(results, picture):
        block += f"\n![Speed over the peers; batch times and memory in growth](images/{PICTURE})\n"
    try:
        args.page.write_text(rewrite(args.page.read_text(), block))
    except ValueError as error:
        sys.exit(f"{args.page}: {error}")


if __name__ == "__main__":
    main()
