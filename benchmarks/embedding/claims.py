"""What the results say: ratios to the peers, tails, memory; the target of each, and if met."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from benchmarks.embedding import stats
from benchmarks.embedding.cases import FLOOR, MACHINE, SUBJECT

# (kind, peer) -> the least ratio of speeds that is to be reached.
SPEED_TARGETS = {
    ("lookup", "dense_variable"): 1.0,
    ("lookup", "tfra"): 8.0,
    ("insert", "tfra"): 8.0,
    ("insert", "dense_hash_table"): 5.0,
    ("upsert", "tfra"): 8.0,
    ("upsert", "dense_hash_table"): 5.0,
    ("train", "tfra"): 10.0,
    ("train", "dense_variable"): 1.0,
}
TAIL_TARGET = 5.0  # p99.9 of a batch's time over the median
MEMORY_TARGET = 1.25  # bytes over payload, at any moment; for dim >= MEMORY_LEAST_DIM
MEMORY_LEAST_DIM = 16


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the summary. `met` is None where there is no target, or nothing was measured.

    `floor`: of a target of speed, what the memory work alone (contestant `floor`) reaches over the
    same peer in the same rounds. Where that is below the target, no table reaches it here.
    """

    case: str
    what: str
    peer: str
    value: stats.Spread | None
    target: str
    met: bool | None
    remark: str = ""
    floor: stats.Spread | None = None

    def to_json(self) -> dict[str, Any]:
        """For the results file."""
        return dataclasses.asdict(self)


def findings(result: dict[str, Any]) -> list[Finding]:
    """All findings of one case's result."""
    if result["case"]["kind"] == "growth":
        return _tails(result) + _memory(result)
    return _speeds(result)


def _speeds(result: dict[str, Any]) -> list[Finding]:
    case, rounds = result["case"], _rounds(result)
    subject = rounds.get(SUBJECT, [])
    made = []
    for name, theirs in rounds.items():
        rate = stats.spread([stats.rate(r) / 1e6 for r in theirs])
        speed = f"{rate.text()} M rows/s" if rate else _why_not(result, name)
        if name == SUBJECT:
            made.append(Finding(case["name"], "speed, M rows/s", name, rate, "", None, speed))
            continue
        least = SPEED_TARGETS.get((case["kind"], name))
        value = stats.spread(stats.ratios(subject, theirs))
        met = value.median >= least if value and least else None
        target = f">= {least:g}x" if least else ""
        floor = stats.spread(stats.ratios(rounds.get(FLOOR, []), theirs)) if least else None
        made.append(Finding(case["name"], "speed over", name, value, target, met, speed, floor))
    return made


def _tails(result: dict[str, Any]) -> list[Finding]:
    """p99.9 and longest batch over the median, each round by itself."""
    made = []
    for name, rounds in _rounds(result).items():
        tails = [tail for r in rounds if (tail := stats.tail(r["seconds"]))]
        value = stats.spread([tail.p999_ratio for tail in tails])
        if not tails or not value:
            remark = _why_not(result, name)
        else:
            longest = max(tail.longest_ratio for tail in tails)
            median, p999, most = (
                float(np.median([getattr(tail, field) * 1e3 for tail in tails]))
                for field in ("median", "p999", "longest")
            )
            remark = (
                f"longest {longest:.1f}x; median {median:.2f} ms, p99.9 {p999:.1f} ms, "
                f"longest {most:.1f} ms"
            )
        ours = name == SUBJECT
        met = value.median <= TAIL_TARGET if value and ours else None
        target = f"<= {TAIL_TARGET:g}x" if ours else ""
        what = "p99.9 batch over median"
        made.append(Finding(result["case"]["name"], what, name, value, target, met, remark))
    return made


def _memory(result: dict[str, Any]) -> list[Finding]:
    """Largest ratio of memory to payload, by the kernel's count and by the table's own."""
    made = []
    judged = result["case"]["dim"] >= MEMORY_LEAST_DIM
    for name, rounds in _rounds(result).items():
        if name in MACHINE:
            continue
        for field, what in (("resident_max", "resident"), ("own_max", "own count")):
            figures = [r["memory"][field] for r in rounds if r["memory"][field] is not None]
            if not figures and field == "own_max":
                continue
            value = stats.spread(figures)
            ours = name == SUBJECT and judged
            met = max(figures) <= MEMORY_TARGET if figures and ours else None
            last = stats.spread([r["memory"]["resident_last"] for r in rounds])
            remark = f"at the end {last.median:.2f}x" if last else _why_not(result, name)
            target = f"<= {MEMORY_TARGET:g}x" if ours else ""
            what = f"highest {what} over payload"
            made.append(Finding(result["case"]["name"], what, name, value, target, met, remark))
    return made


def _rounds(result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {name: c["rounds"] for name, c in result["contestants"].items()}


def _why_not(result: dict[str, Any], name: str) -> str:
    note = result["contestants"][name]["note"]
    return note.splitlines()[0] if note else "not measured"
