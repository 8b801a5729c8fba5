"""Whole steps compared, those of the modes that were chosen with dense ones.

What buckets take alone does not show it: communication may be hidden behind backward.
"""

import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from taco.lightcc.adaptive.choice import SLOWER, WINDOW
from taco.lightcc.adaptive.mode import DENSE, Mode

Key = tuple[int, str]
"""A bucket: its process set and its name."""

_REFERENCE_STEPS = 3


@dataclass(frozen=True)
class Verdict:
    """What steps said.

    Attributes:
        why: in words.
        lossy_only: only modes that lose bits gain nothing; else all steps became slower.
    """

    why: str
    lossy_only: bool


class Steps:
    """Those of a training."""

    def __init__(self) -> None:
        # Of the step under way and of the last one: what buckets with a choice ran in.
        self._under_way: dict[Key, Mode] = {}
        self._last: dict[Key, Mode] = {}
        self._first = False  # whether one of them runs for the first time
        self._dense: deque[float] = deque(maxlen=2 * WINDOW)
        self._alike: deque[float] = deque(maxlen=WINDOW)  # that ran as the last one did

    @property
    def buckets(self) -> list[Key]:
        """Those of the last step that have a choice."""
        return list(self._last)

    @property
    def dense(self) -> int:
        """How many dense ones are known."""
        return len(self._dense)

    def begins(self) -> None:
        """A bucket is there for the first time."""
        self._first = True

    def runs(self, bucket: Key, mode: Mode) -> None:
        """A bucket that has a choice is about to run in a mode."""
        self._under_way[bucket] = mode.family

    def times_changed(self) -> None:
        """What dense steps took counts no more."""
        self._dense.clear()

    def end(self, seconds: float, settled: Callable[[], bool]) -> Verdict | None:
        """A step is over.

        Args:
            seconds: what it took.
            settled: whether all choices of the last step are.

        Returns:
            What to do, if there is anything.
        """
        before, self._last, self._under_way = self._last, self._under_way, {}
        first, self._first = self._first, False
        modes = set(self._last.values())
        if not before.keys() & self._last.keys():
            self._dense.clear()  # they were of other buckets
        if first or not modes:
            return None  # what comes first takes longer
        if modes == {DENSE}:
            self._dense.append(seconds)
        if self._last != before:
            self._alike.clear()
        if modes == {DENSE} or not settled():
            return None
        self._alike.append(seconds)
        if len(self._alike) < WINDOW or len(self._dense) < _REFERENCE_STEPS:
            return None
        now, dense = statistics.median(self._alike), statistics.median(self._dense)
        self._alike.clear()
        why = f"steps take {now * 1e3:.1f} ms, dense ones took {dense * 1e3:.1f} ms"
        if now > SLOWER * dense:
            return Verdict(why, lossy_only=False)
        if now > dense / SLOWER and any(not mode.lossless for mode in modes):
            return Verdict(f"losing bits gains nothing: {why}", lossy_only=True)
        return None
