"""One pass over a log before any training: how long, how many ids, which ceiling."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taco.demo.metrics import logit
from taco.demo.runner import Result, RunConfig
from taco.demo.sources import Source, windows


@dataclass(frozen=True)
class Survey:
    """What the pass found.

    Attributes:
        samples: Examples.
        distinct: Distinct ids over all fields.
        positives: Share of label 1.
        ceiling: Metrics of the true chances where the log knows them, else `None`.
    """

    samples: int
    distinct: int
    positives: float
    ceiling: Result | None


def survey(source: Source, config: RunConfig) -> Survey:
    """Reads the log once without a model, in memory of 24 bytes a distinct id at most."""
    distinct = DistinctIds()
    ceiling = Result("ceiling")
    samples = 0
    positives = 0.0
    limit = min(n for n in (source.rows, config.rows, 2**62) if n is not None)
    for window in windows(source.chunks(), config.window, config.rows):
        distinct.update(window.ids)
        samples += len(window)
        positives += float(window.labels.sum())
        if window.truth is not None:
            ceiling.add(window.labels, logit(window.truth), limit // 2)
    known = ceiling if ceiling.metrics.samples else None
    return Survey(samples, len(distinct), positives / max(samples, 1), known)


class DistinctIds:
    """Counts distinct ids exactly: a sorted array, and newcomers merged when they are as many."""

    def __init__(self) -> None:
        self._sorted = np.empty(0, np.int64)
        self._pending: list[NDArray[np.int64]] = []
        self._waiting = 0

    def update(self, ids: NDArray[np.int64]) -> None:
        """Adds ids of any shape."""
        fresh = np.unique(ids)
        self._pending.append(fresh)
        self._waiting += len(fresh)
        if self._waiting > max(len(self._sorted), 1 << 16):
            self._merge()

    def __len__(self) -> int:
        self._merge()
        return len(self._sorted)

    def _merge(self) -> None:
        self._sorted = np.unique(np.concatenate([self._sorted, *self._pending]))
        self._pending.clear()
        self._waiting = 0
