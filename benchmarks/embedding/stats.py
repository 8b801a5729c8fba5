"""The statistics of the benchmark: medians and spreads of ratios taken round by round."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Spread:
    """Median with the 10th and 90th percentile of `count` values."""

    median: float
    p10: float
    p90: float
    count: int

    def text(self, digits: int = 2) -> str:
        """`1.23 [1.20, 1.31]`."""
        return f"{self.median:.{digits}f} [{self.p10:.{digits}f}, {self.p90:.{digits}f}]"


def spread(values: Sequence[float]) -> Spread | None:
    """The spread of the values; None where there are none."""
    if not values:
        return None
    p10, median, p90 = np.percentile(np.asarray(values, np.float64), [10, 50, 90])
    return Spread(float(median), float(p10), float(p90), len(values))


def rate(round_: dict[str, Any]) -> float:
    """Items a second of one round."""
    return round_["items"] / sum(round_["seconds"])


def ratios(subject: Sequence[dict[str, Any]], peer: Sequence[dict[str, Any]]) -> list[float]:
    """Subject's rate over the peer's, for each round of the peer: noise hits both alike.

    The subject may have run in several groups; its round beside the peer is taken. Where they were
    never side by side (memory), rounds of equal number are compared.
    """
    beside = {(r["group"], r["index"]): r for r in subject}
    by_number = {r["index"]: r for r in reversed(subject)}
    made = []
    for other in peer:
        ours = beside.get((other["group"], other["index"])) or by_number.get(other["index"])
        if ours:
            made.append(rate(ours) / rate(other))
    return made


@dataclasses.dataclass(frozen=True)
class Tail:
    """How long the slow batches are, in seconds and against the median."""

    median: float
    p99: float
    p999: float
    longest: float

    @property
    def p999_ratio(self) -> float:
        """p99.9 over the median."""
        return self.p999 / self.median

    @property
    def longest_ratio(self) -> float:
        """The longest batch over the median."""
        return self.longest / self.median


def tail(seconds: Sequence[float]) -> Tail | None:
    """Tail of the batches' times.

    The percentiles are of the nearest rank above, not interpolated: with 1221 batches p99.9 is the
    second longest.
    """
    if not seconds:
        return None
    values = np.asarray(seconds, np.float64)
    median, p99, p999 = np.percentile(values, [50, 99, 99.9], method="inverted_cdf")
    return Tail(float(median), float(p99), float(p999), float(values.max()))
