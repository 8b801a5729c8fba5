"""What a results file rests on, in words: its commands, its rounds, the cases without a peer."""

from __future__ import annotations

from typing import Any

from benchmarks.embedding.cases import MACHINE, SUBJECT

# Between the commands of runs that were put together.
JOINT = " ; "


def commands(results: dict[str, Any]) -> list[str]:
    """The command of each of the runs."""
    return list(results["command"].split(JOINT))


def rounds(results: dict[str, Any], kind: str = "") -> str:
    """How often the cases of one kind (or all) were measured: "1 round", "2 to 5 rounds"."""
    counts = {
        # A contestant that ran in several groups has rounds of one number in each.
        len({each["index"] for each in contestant["rounds"]})
        for result in _cases(results, kind)
        for contestant in result["contestants"].values()
        if contestant["rounds"]
    }
    if not counts:
        return "no rounds"
    low, high = min(counts), max(counts)
    span = str(low) if low == high else f"{low} to {high}"
    return f"{span} round" if high == 1 else f"{span} rounds"


def sentence(results: dict[str, Any], kind: str) -> str:
    """What stands above the table of a kind of case."""
    measured = rounds(results, kind)
    text = f"Of each case {measured}"
    if " to " in measured:
        text += ", by case and contestant"
    if measured.startswith("1 "):
        text += "; where it is one, median, p10 and p90 are that round's"
    alone = [result["case"]["name"] for result in _cases(results, kind) if not _peers(result)]
    if alone:
        text += f". Without a peer, TACO and the machine alone: {', '.join(alone)}"
    return text + "."


def _cases(results: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [result for result in results["results"] if kind in ("", result["case"]["kind"])]


def _peers(result: dict[str, Any]) -> list[str]:
    return [
        name
        for name, contestant in result["contestants"].items()
        if name not in MACHINE | {SUBJECT} and contestant["rounds"]
    ]
