"""The choice of one bucket's mode: predicted, then measured, then held on to.

Dense comes first and is the measure of all others. Modes that should be faster are then tried, the
most promising first; the fastest is kept, one that loses bits only if it wins much. What is kept
is watched: it goes if it is slower than dense was, and all is measured anew when times change.
"""

import statistics
from collections import deque
from collections.abc import Mapping

from taco.lightcc.adaptive.mode import DENSE, Mode

TRIES = 4
"""Executions of a mode that is on trial; the first, which warms up, does not count."""

WINDOW = 20
"""Executions over which a mode that was chosen is judged."""

SLOWER = 1.03
"""So much slower than dense a mode may be over a window."""

_PROMISING = 0.9  # predicted, against the best measured: worth a trial
_LOSSY_GAIN = 0.8  # what a mode that loses bits must reach of the best that does not
_BETTER = 0.9  # what another mode must reach of the present one: hysteresis
_DRIFT = 1.5
_FIRST_REST = 200  # executions until a mode that disappointed may be tried again; doubles


class Choice:
    """One bucket's.

    Args:
        predicted: seconds by mode; dense flat is among them.
        learned: factors by mode's title that say how others' measurements differed from what was
            predicted; shared by all buckets.
    """

    dense = DENSE

    def __init__(self, predicted: Mapping[Mode, float], learned: dict[str, float]) -> None:
        self._raw = dict(predicted)
        self._learned = learned
        self._measured: dict[Mode, list[float]] = {}
        self._window: deque[float] = deque(maxlen=WINDOW)
        self._trial: Mode | None = DENSE
        self._settled_at = 0.0
        self._drifts = 0
        self._rest = 0
        self._next_rest = _FIRST_REST
        self._barred: set[Mode] = set()
        self.mode = DENSE
        self.why = "dense is measured first"

    @property
    def settled(self) -> bool:
        """Whether no mode is on trial."""
        return self._trial is None

    def predicted(self, mode: Mode) -> float:
        """Seconds, corrected by what was learned. 0 for a mode that was never predicted."""
        return self._raw.get(mode, 0.0) * self._learned.get(mode.title, 1.0)

    def measured(self, mode: Mode) -> float | None:
        """Median of the trial; None if there was none."""
        times = self._measured.get(mode, [])
        return statistics.median(times[1:]) if len(times) >= TRIES else None

    @property
    def recent(self) -> float | None:
        """Median of the last executions in the chosen mode."""
        return statistics.median(self._window) if self._window else None

    def next(self) -> Mode:
        """The mode of the next execution."""
        return self._trial if self._trial is not None else self.mode

    def observe(self, mode: Mode, seconds: float) -> None:
        """Takes the time of an execution."""
        if self._rest:
            self._rest -= 1
            if not self._rest:
                self._restart("it is time to look again")
        if mode == self._trial:
            times = self._measured.setdefault(mode, [])
            times.append(seconds)
            if len(times) >= TRIES:
                self._learn(mode)
                self._advance()
        elif mode == self.mode and self._trial is None:
            self._window.append(seconds)
            if len(self._window) == WINDOW:
                self._judge()

    def forbid(self, why: str, lossy_only: bool = False) -> None:
        """Goes back to dense (or to the best mode that loses no bits) for a while."""
        self._barred = {mode for mode in self._raw if not lossy_only or not mode.lossless}
        self._barred.discard(DENSE)
        self._keep_best(why)
        self._start_rest()

    def _start_rest(self) -> None:
        self._rest = self._next_rest
        self._next_rest = min(2 * self._next_rest, 1 << 16)

    def _learn(self, mode: Mode) -> None:
        measured, raw = self.measured(mode), self._raw.get(mode, 0.0)
        if measured and raw > 0:
            before = self._learned.get(mode.title)
            now = measured / raw
            self._learned[mode.title] = now if before is None else (before + now) / 2

    def _advance(self) -> None:
        """The next mode that is worth a trial, or the best of those that were tried."""
        best = min(filter(None, map(self.measured, self._measured)), default=0.0)
        scale = self._learned.get(DENSE.title, 1.0)
        waiting = [
            (self._raw[mode] * self._learned.get(mode.title, scale), str(mode), mode)
            for mode in self._raw
            if mode not in self._measured and mode not in self._barred
        ]
        promising = [each for each in waiting if each[0] < _PROMISING * best]
        if promising:
            self._trial = min(promising)[2]
            self.why = f"{self._trial.title} is tried: predicted {min(promising)[0] * 1e3:.2f} ms"
        else:
            self._keep_best("")

    def _keep_best(self, why: str) -> None:
        times = {
            mode: took
            for mode in self._measured
            if mode not in self._barred and (took := self.measured(mode)) is not None
        }
        self._trial = None
        self._window.clear()
        self._drifts = 0
        if not times:
            self.mode, self.why = DENSE, why or "nothing was measured"
            return
        lossless = min((m for m in times if m.lossless), key=lambda m: times[m])
        best = min(times, key=lambda m: times[m])
        if not best.lossless and times[best] > _LOSSY_GAIN * times[lossless]:
            best = lossless
        present = times.get(self.mode)
        if present is not None and not why and times[best] > _BETTER * present:
            best = self.mode
        self.mode = best
        self._settled_at = times[best]
        dense = times.get(DENSE, times[best])
        self.why = why or (
            f"measured {times[best] * 1e3:.2f} ms, dense flat {dense * 1e3:.2f} ms"
            if best != DENSE
            else f"dense flat is fastest: {dense * 1e3:.2f} ms"
        )

    def _judge(self) -> None:
        """A full window in the chosen mode."""
        recent = self.recent
        assert recent is not None
        dense = self.measured(DENSE)
        if self.mode != DENSE and dense is not None and recent > SLOWER * dense:
            self._barred.add(self.mode)
            self._keep_best(
                f"{self.mode.title} took {recent * 1e3:.2f} ms, dense {dense * 1e3:.2f} ms"
            )
            self._start_rest()
            return
        drifted = not 1 / _DRIFT < recent / max(self._settled_at, 1e-9) < _DRIFT
        self._drifts = self._drifts + 1 if drifted else 0
        self._window.clear()
        if self._drifts >= 2:
            self._restart(
                f"times changed from {self._settled_at * 1e3:.2f} to {recent * 1e3:.2f} ms"
            )

    def _restart(self, why: str) -> None:
        self._measured.clear()
        self._window.clear()
        self._barred.clear()
        self._drifts = self._rest = 0
        self._trial, self.why = DENSE, f"{why}: dense is measured again"
