"""The choice of one bucket's mode: predicted, then measured, then held on to.

A look measures: dense first, which is the measure of all others, then what may win, the most
hopeful first. The fastest is kept; one that loses bits only if it wins much. What is kept is
watched: if it is slower than dense, or its times change, all is measured anew. There is another
look after 60 executions, then after 120, 240 and so on, and later where dense takes more than twice
as long and measuring it again would take more than 2% of the time since. What looks measure adds
up, and each trusts predictions less than the one before: so a choice that noise or a prediction has
spoilt comes right, and the cost of looking grows with the logarithm of the executions.

Times of a busy machine vary by some 10%, and now and then one is several times as long. A mode's
time is therefore the third of its times from below, which in 20 executions 13 outliers do not move.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping

from taco.lightcc.adaptive.mode import DENSE, Mode

TRIES = 6
"""Executions of a mode in a look; the first, which warms up, does not count."""

WINDOW = 20
"""Executions over which a mode that was chosen is judged, and that are remembered of each mode."""

SLOWER = 1.03
"""So much slower than dense a mode may be over a window."""

_HOPELESS = 2.0  # so much slower than the best, in each of its first two executions that count
_OPTIMISM = 1.3  # predictions may be too high by this; in each look by so much more,
_MOST_OPTIMISM = 4.0  # up to here
_BETTER = 0.9  # what another mode must reach of the present one: hysteresis
_LOSSY_GAIN = 0.8  # what a mode that loses bits must reach of the best that does not
_LOSSY_KEEP = 0.9  # what it must keep up when there is a look
_DRIFT = 1.5  # by this times change, in two windows
_FIRST_LOOK = 3 * WINDOW  # executions until the next look; doubles,
_LAST_LOOK = 1 << 16  # up to here
_LOOK_SHARE = 0.02  # of the time, for measuring dense again
_HOPELESS_TRIES = 3  # executions after which what is hopeless is given up
_FIRST_BAN = 12 * WINDOW  # executions for which what is forbidden stays so; doubles,
_LAST_BAN = 1 << 14  # up to here
_LOSSY_BAN = 3  # so much longer for modes that lose bits, if only they are forbidden
_KNOWN = 3  # looks after which a measurement counts no more
_FIRST_PAUSE = 2 * WINDOW  # executions after a look in which times do not count as changed; doubles
_LAST_PAUSE = 64 * WINDOW  # up to here, where they change all the time
_LEARNED = 2.0  # other buckets, of other sizes, change a prediction by this factor at most


class Choice:
    """One bucket's.

    Attributes:
        mode: what is kept.
        why: the reason for what `next` says.
        drifted: whether all is being measured anew as times have changed.

    Args:
        predicted: seconds by mode; dense flat is among them.
        learned: by mode's title, how much slower than predicted others measured it, by dense's
            measure; shared by all buckets.
    """

    dense = DENSE

    def __init__(self, predicted: Mapping[Mode, float], learned: dict[str, float]) -> None:
        self._raw = dict(predicted)
        self._learned = learned
        self._times: dict[Mode, deque[float]] = {}  # those that count
        self._tried: dict[Mode, int] = {DENSE: 0}  # in which look
        self._trial: Mode | None = DENSE
        self._tries = 0  # of the mode on trial
        self._looks = 0
        self._barred: set[Mode] = set()  # for so many executions:
        self._rest = 0
        self._next_ban = _FIRST_BAN
        self._age = 0  # executions since the last look
        self._settled_at = 0.0
        self._drifts = 0  # windows, one after the other
        self._look_at = self._next_look = _FIRST_LOOK
        self._pause = _FIRST_PAUSE
        self.drifted = False
        self.mode = DENSE
        self.why = "dense is measured first"

    @property
    def settled(self) -> bool:
        """Whether no mode is on trial."""
        return self._trial is None

    def predicted(self, mode: Mode) -> float:
        """Seconds, corrected by what was learned. 0 for a mode that was never predicted."""
        learned = 1.0 if mode == DENSE else self._learned.get(mode.title, 1.0)
        learned = min(max(learned, 1 / _LEARNED), _LEARNED)
        return self._raw.get(mode, 0.0) * self._scale() * learned

    def measured(self, mode: Mode) -> float | None:
        """Seconds that it takes, by its last executions; None if there are not two that count."""
        times = self._times.get(mode, ())
        return sorted(times)[(len(times) - 1) // 3] if len(times) > 1 else None

    def next(self) -> Mode:
        """The mode of the next execution."""
        return self._trial if self._trial is not None else self.mode

    def observe(self, mode: Mode, seconds: float) -> None:
        """Takes the time of an execution. In another mode than `next` names, it says nothing."""
        if mode != self.next():
            return
        if self._trial is not None:
            self._try(mode, seconds)
            return
        self._remember(mode, seconds)
        self._age += 1
        self._rest = max(self._rest - 1, 0)
        if self._age % WINDOW == 0:
            self._judge()

    def forbid(self, why: str, lossy_only: bool = False) -> None:
        """Goes back to dense (or to the best mode that loses no bits) for a while."""
        self._barred = {mode for mode in self._raw if not lossy_only or not mode.lossless}
        self._barred.discard(DENSE)
        self._rest, self._next_ban = self._next_ban, min(2 * self._next_ban, _LAST_BAN)
        if lossy_only:  # each further trial loses bits again
            self._rest *= _LOSSY_BAN
        self._leave(self._barred, why)

    def drop_topk(self, why: str) -> None:
        """Does without TopK from now on."""
        gone = {mode for mode in self._raw if mode.ratio}
        self._raw = {mode: each for mode, each in self._raw.items() if not mode.ratio}
        self._times = {mode: each for mode, each in self._times.items() if not mode.ratio}
        self._leave(gone, why)

    def _leave(self, modes: Collection[Mode], why: str) -> None:
        running = self.next()
        if self.mode in modes:
            self.mode, self.why = DENSE, why
        if running in modes:
            self._advance(why)

    def _scale(self) -> float:
        dense, raw = self.measured(DENSE), self._raw.get(DENSE, 0.0)
        return dense / raw if dense is not None and raw > 0 else 1.0

    def _hoped(self, mode: Mode) -> float:
        """Like `predicted`, but where dense takes longer than predicted, only dense may.

        It may be the processor that is slower, or the link alone, of which others need less.
        """
        return self.predicted(mode) / max(self._scale(), 1.0)

    def _remember(self, mode: Mode, seconds: float) -> None:
        self._times.setdefault(mode, deque(maxlen=WINDOW)).append(seconds)

    def _best(self, modes: Iterable[Mode]) -> float:
        """The shortest time that was measured; 0 if there is none."""
        times = (self.measured(mode) for mode in modes if mode not in self._barred)
        return min((each for each in times if each is not None), default=0.0)

    # A look.

    def _look(self, why: str) -> None:
        if not self._rest:
            self._barred.clear()
        self._looks += 1
        if len(self._times.get(self.mode, ())) == WINDOW:
            self._tried[self.mode] = self._looks
        oldest = self._looks - _KNOWN
        self._times = {m: each for m, each in self._times.items() if self._tried[m] >= oldest}
        if self._tried.get(DENSE) == self._looks:
            self._advance()
        else:
            self._start(DENSE, f"{why}: dense is measured again")

    def _start(self, mode: Mode, why: str) -> None:
        self._trial, self._tries, self.why = mode, 0, why
        self._tried[mode] = self._looks
        times = self._times.get(mode)
        while times and len(times) >= TRIES:
            times.popleft()  # what is older than a look ago

    def _try(self, mode: Mode, seconds: float) -> None:
        self._tries += 1
        if self._tries > 1:
            self._remember(mode, seconds)
        hopeless = self._tries == _HOPELESS_TRIES and self._hopeless(mode)
        if self._tries == TRIES or hopeless:
            self._learn(mode)
            self._advance()

    def _hopeless(self, mode: Mode) -> bool:
        best = self._best(other for other in self._times if other != mode)
        return 0 < _HOPELESS * best < min(list(self._times[mode])[-2:])

    def _learn(self, mode: Mode) -> None:
        measured = self.measured(mode)
        expected = self._raw.get(mode, 0.0) * self._scale()
        if measured and expected > 0:
            factor = measured / expected
            # The geometric mean of what is known and what is new.
            self._learned[mode.title] = (factor * self._learned.get(mode.title, factor)) ** 0.5

    def _advance(self, why: str = "") -> None:
        """Tries the next mode that may win; keeps the best if there is none.

        Args:
            why: the reason for which the present mode has to go; empty if it has not.
        """
        best = self._best(self._times)
        lossless = self._best(mode for mode in self._times if mode.lossless)
        optimism = min(_OPTIMISM ** (self._looks + 1), _MOST_OPTIMISM)
        hopes = []
        for mode in self._raw:
            if self._tried.get(mode) == self._looks or mode in self._barred:
                continue
            need = min(_LOSSY_GAIN * lossless, best)
            if mode.lossless:  # it may also show that another need not lose bits
                need = min(_BETTER * lossless, best / _LOSSY_GAIN)
            times = self._times.get(mode)
            hope = min(times) if times else self._hoped(mode) / optimism
            if hope < need:
                hopes.append((hope / need, str(mode), mode))
        if hopes:
            mode = min(hopes)[2]
            took = self.predicted(mode)
            self._start(mode, f"{mode.title} is tried: predicted {took * 1e3:.2f} ms")
        else:
            self._keep_best(why)

    def _keep_best(self, why: str) -> None:
        """Ends a look. The reason is as in `_advance`."""
        times = {
            mode: took
            for mode in self._times
            if mode not in self._barred and (took := self.measured(mode)) is not None
        }
        self._trial = None
        self.drifted = False
        self._age = self._drifts = 0
        self._look_at, self._next_look = self._next_look, min(2 * self._next_look, _LAST_LOOK)
        if DENSE not in times:
            self.mode, self.why, self._settled_at = DENSE, why or "nothing was measured", 0.0
            return
        self.mode = best = self._winner(times)
        self._settled_at, dense = times[best], times[DENSE]
        if dense > _HOPELESS * times[best]:
            longer = _HOPELESS_TRIES * (dense / max(times[best], 1e-9) - 1.0)  # in executions
            self._look_at = min(max(self._look_at, int(longer / _LOOK_SHARE)), _LAST_LOOK)
        self.why = why or (
            f"measured {times[best] * 1e3:.2f} ms, dense flat {dense * 1e3:.2f} ms"
            if best != DENSE
            else f"dense flat is fastest: {dense * 1e3:.2f} ms"
        )

    def _winner(self, times: Mapping[Mode, float]) -> Mode:
        best = self._fastest(times)
        if best.lossless:
            return best
        lossless = self._fastest({mode: took for mode, took in times.items() if mode.lossless})
        limit = _LOSSY_KEEP if best == self.mode else _LOSSY_GAIN
        return best if times[best] <= limit * times[lossless] else lossless

    def _fastest(self, times: Mapping[Mode, float]) -> Mode:
        best = min(times, key=lambda mode: times[mode])
        present = times.get(self.mode, float("inf"))
        stays = _BETTER * present < times[best] and present <= times[DENSE]
        return self.mode if stays else best

    # Between looks.

    def _judge(self) -> None:
        """A window in the mode that was chosen is full."""
        recent = self.measured(self.mode)
        assert recent is not None
        self._settled_at = self._settled_at or recent
        drifted = not 1 / _DRIFT < recent / max(self._settled_at, 1e-9) < _DRIFT
        self._drifts = self._drifts + 1 if drifted else 0
        if self._drifts >= 2 and self._age >= self._pause:
            self._start_anew(recent)
        elif self._disappoints(recent):
            # The others' times are old. Are they still so? And soon again, when in doubt.
            self._times = {self.mode: self._times[self.mode]}
            self._next_look = _FIRST_LOOK
            self.drifted = drifted
            self._look(f"{self.mode.title} took {recent * 1e3:.2f} ms")
        elif not self._drifts and (self._age >= self._look_at or (self._barred and not self._rest)):
            self._look("it is time to look again")

    def _disappoints(self, recent: float) -> bool:
        dense = self.measured(DENSE)
        if self.mode == DENSE or dense is None:
            return False
        if self.mode.lossless:
            return recent > SLOWER * dense
        return recent > self._best(mode for mode in self._times if mode.lossless)

    def _start_anew(self, recent: float) -> None:
        was, now = self._settled_at * 1e3, recent * 1e3
        self._pause = min(2 * self._pause, _LAST_PAUSE)
        self._next_look = _FIRST_LOOK
        self._rest, self._looks = 0, -1
        self._tried.clear()
        self._times.clear()
        self._learned.clear()
        self.drifted = True
        self._look(f"times changed from {was:.2f} to {now:.2f} ms")
