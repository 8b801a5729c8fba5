"""From rounds to figures: step times, ratios within a round, and what the link alone needs."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.embedding.stats import Spread, spread
from benchmarks.lightcc.cases import Case


@dataclasses.dataclass(frozen=True)
class Line:
    """What a contestant did in a case.

    Attributes:
        name: the contestant's.
        step: seconds; a round counts by its mean.
        faster: baseline -> how many times faster than it, taken within each round.
        megabytes: over the busier direction of a machine's link, a step.
        floor: seconds that the link needs for them; None where it has no limit.
        processor: seconds of all ranks' processors, a step.
        note: why it has no rounds, or fewer than others.
    """

    name: str
    step: Spread | None
    faster: dict[str, Spread | None]
    megabytes: float
    floor: float | None
    processor: float
    note: str


def step_seconds(round_: dict[str, Any]) -> float:
    """Mean time of a step of one round."""
    return sum(round_["seconds"]) / len(round_["seconds"])


def faster(own: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]) -> list[float]:
    """How many times faster than another, for every round that both did side by side."""
    beside = {(r["group"], r["index"]): step_seconds(r) for r in other}
    return [
        beside[key] / step_seconds(r) for r in own if (key := (r["group"], r["index"])) in beside
    ]


def lines(result: dict[str, Any], baselines: Sequence[str]) -> list[Line]:
    """The figures of all contestants of a case.

    Args:
        result: of `rounds.run`.
        baselines: contestants that the others are compared with.
    """
    case, found = Case.from_json(result["case"]), result["contestants"]
    made = []
    for name, contestant in found.items():
        own = contestant["rounds"]
        moved = _median([max(r["sent"], r["received"]) for r in own])
        made.append(
            Line(
                name,
                spread([step_seconds(r) for r in own]),
                {
                    base: spread(faster(own, found[base]["rounds"])) if base in found else None
                    for base in baselines
                },
                moved / 1e6,
                case.floor_seconds(moved),
                _median([r["processor_seconds"] for r in own]),
                contestant["note"],
            )
        )
    return made


def dense_floor(result: dict[str, Any]) -> float | None:
    """Seconds that the link needs for the least that a dense allreduce sends from a machine."""
    case = Case.from_json(result["case"])
    least = 2 * (case.machines - 1) / case.machines * 4 * result["elements"]
    return case.floor_seconds(least)


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0


@dataclasses.dataclass(frozen=True)
class Learned:
    """What a mode's runs reached, one value a seed.

    Attributes:
        mean: of the seeds.
        deviation: standard deviation between seeds.
        loss_of_mode: mean of what dense reached more with the same seed (a positive number: the
            mode is worse), in the metric's unit.
        verdict: "within" the seeds' spread, "better", "worse", or "same" bit for bit.
    """

    mean: float
    deviation: float
    loss_of_mode: float
    verdict: str


def learned(values: Sequence[float], dense: Sequence[float], *, higher_is_better: bool) -> Learned:
    """Compares a mode with dense, seed by seed.

    A mode is within the seeds' spread if its mean differs from dense's by no more than the larger
    of both standard deviations.

    Args:
        values: the mode's, in order of the seeds.
        dense: dense's, in the same order.
        higher_is_better: whether the metric is an accuracy, and not a loss.
    """
    sign = 1.0 if higher_is_better else -1.0
    mean, deviation = statistics.fmean(values), _deviation(values)
    short = sign * (statistics.fmean(dense) - mean) + 0.0  # no -0.0
    allowed = max(deviation, _deviation(dense))
    if list(values) == list(dense):
        verdict = "same"
    elif abs(short) <= allowed:
        verdict = "within"
    else:
        verdict = "worse" if short > 0 else "better"
    return Learned(mean, deviation, short, verdict)


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
