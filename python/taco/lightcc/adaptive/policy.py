"""Rank 0's mind: names the mode of every allreduce. No clocks, no sockets, no tensors.

Thread-safe: the coordinator asks, the executor and the training loop report.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from taco.lightcc.adaptive.choice import WINDOW, Choice
from taco.lightcc.adaptive.cost import Costs, predict
from taco.lightcc.adaptive.execution import Executed
from taco.lightcc.adaptive.guard import PROBE_STEPS, Guard, LossWatch
from taco.lightcc.adaptive.mode import DENSE, Mode
from taco.lightcc.adaptive.places import Levels
from taco.lightcc.adaptive.rules import BALANCED_FROM, NO_GAIN, Rules, candidates
from taco.lightcc.adaptive.steps import Steps, Verdict
from taco.lightcc.adaptive.wish import CALIBRATE, Wish, understand
from taco.lightcc.engine.requests import Response
from taco.lightcc.warmup import warmed_up

_log = logging.getLogger("taco.lightcc")

_FLOATS = ("float32", "float16", "bfloat16")
_PROBE_EVERY = 200
_LARGE = 1 << 20  # bytes from which an allreduce that is no gradient is worth two levels
_BUCKETS = 10_000  # remembered at most


@dataclass
class Bucket:
    """What is known of one bucket.

    Attributes:
        name: of its request.
        elements, item_bytes: of its tensor.
        wish: what was asked for.
        choice: in auto.
        tries_topk: whether TopK is among what it chooses from.
        guard: of TopK.
        steps: executions for which TopK was wanted.
        mode: of the last execution.
        seconds: of the last executions.
        last: the last execution.
        set_id: its process set.
    """

    name: str
    elements: int
    item_bytes: int
    wish: Wish
    choice: Choice | None = None
    tries_topk: bool = False
    guard: Guard = field(default_factory=Guard)
    steps: int = 0
    mode: Mode = DENSE
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    last: Executed | None = None
    set_id: int = 0


class Policy:
    """One job's.

    Args:
        rules: what the user allows.
        levels_of: the groups of a response's ranks.
        note: told of what people should see: in the log and the timeline.
    """

    def __init__(
        self,
        rules: Rules,
        levels_of: Callable[[Response], Levels],
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._rules = rules
        self._levels_of = levels_of
        self._note = note
        self._lock = threading.Lock()
        self._buckets: dict[tuple[int, str], Bucket] = {}
        self._costs: dict[tuple[int, str], Costs] = {}  # by process set and kind of device
        self._learned: dict[str, float] = {}
        self._loss = LossWatch()
        self._trained = 0  # steps
        self._resumed: dict[int, int] = {}  # steps of process sets, before this process
        self._steps = Steps()
        self._layout_due = False

    def assign(self, response: Response) -> str:
        """The mode of an allreduce that all ranks are about to execute."""
        if response.mode == CALIBRATE:
            return CALIBRATE
        wish = understand(response.mode)
        with self._lock:
            mode = self._bucket_mode(response, wish) if wish.gradient else self._plain(response)
        return str(mode)

    def calibrated(self, set_id: int, costs: Costs, device: str = "cpu") -> None:
        """Takes what was measured of a process set, on a kind of device."""
        with self._lock:
            self._costs[set_id, device] = costs

    def observe(self, response: Response, done: Executed) -> None:
        """Takes what an execution on this rank saw."""
        with self._lock:
            bucket = self._buckets.get((response.set_id, response.names[0]))
            if bucket is None:
                return
            bucket.mode, bucket.last = done.mode, done
            bucket.seconds.append(done.seconds)
            if bucket.choice is not None:
                before, drifted = bucket.choice.mode, bucket.choice.drifted
                bucket.choice.observe(done.mode.family, done.seconds)
                if bucket.choice.mode != before:
                    why = bucket.choice.why
                    self._say(f"{bucket.name}: {bucket.choice.mode.title} from now on: {why}")
                if bucket.choice.drifted and not drifted:
                    self._drifted()
            if done.mode.ratio:
                self._guard(bucket, done)

    def resume(self, set_id: int, steps: int) -> None:
        """Training of a process set goes on behind so many steps: what was warm is."""
        with self._lock:
            self._resumed[set_id] = steps
            self._trained = max(self._trained, steps)
            for bucket in self._buckets.values():
                if bucket.set_id == set_id:
                    bucket.steps = max(bucket.steps, steps)

    def step(self, seconds: float) -> None:
        """A training step is over. Compares whole steps: what the buckets alone do not show."""
        with self._lock:
            self._trained += 1
            verdict = self._steps.end(
                seconds, lambda: all(choice.settled for choice in self._choices())
            )
            if verdict is not None:
                self._back(verdict)

    def wants_layout(self) -> bool:
        """Whether to cut buckets anew, as times have changed for half of them: says it once."""
        with self._lock:
            due, self._layout_due = self._layout_due, False
            return due

    def loss(self, value: float) -> None:
        """Takes a step's loss."""
        with self._lock:
            what = self._loss.observe(value)
            if what and self._rules.guarded:
                for bucket in self._buckets.values():
                    if bucket.mode.ratio:
                        self._act(bucket, bucket.guard.breach(what))

    def buckets(self) -> list[Bucket]:
        """What is known, for reports."""
        with self._lock:
            return list(self._buckets.values())

    @property
    def rules(self) -> Rules:
        return self._rules

    def deep(self, response: Response) -> int:
        """Levels that a response's ranks have."""
        return self._levels_of(response).deep

    def costs(self) -> dict[tuple[int, str], Costs]:
        """What was measured, by process set and kind of device."""
        with self._lock:
            return dict(self._costs)

    # Inside: with the lock.

    def _say(self, text: str) -> None:
        _log.info("%s", text)
        self._note(text)

    def _plain(self, response: Response) -> Mode:
        levels = self._rules.levels
        if self._rules.auto and response.nbytes >= _LARGE:
            costs = self._costs_of(response)
            levels = levels if costs is None else self._best_dense(response, costs)
        return Mode(self._deep(levels, response))

    def _deep(self, levels: int, response: Response) -> int:
        """So many levels, as far as they make sense and are allowed."""
        if levels == 1 or response.nbytes > self._rules.hierarchical_threshold:
            return 1
        return min(levels, self._levels_of(response).deep)

    def _costs_of(self, response: Response) -> Costs | None:
        """As they were measured where its tensors are; None if nobody has."""
        devices = {spec.device for spec in response.tensors}
        return self._costs.get((response.set_id, devices.pop())) if len(devices) == 1 else None

    def _best_dense(self, response: Response, costs: Costs) -> int:
        found = self._levels_of(response)
        elements = sum(spec.elements for spec in response.tensors)
        item = max(1, response.nbytes // max(1, elements))
        return min(
            range(1, found.deep + 1),
            key=lambda levels: predict(Mode(levels), elements, item, found, costs),
        )

    def _bucket_mode(self, response: Response, wish: Wish) -> Mode:
        key = (response.set_id, response.names[0])
        elements = sum(spec.elements for spec in response.tensors)
        bucket = self._buckets.get(key)
        if bucket is None or bucket.elements != elements or bucket.wish != wish:
            item = max(1, response.nbytes // max(1, elements))
            bucket = Bucket(response.names[0], elements, item, wish, set_id=response.set_id)
            bucket.steps = self._resumed.get(response.set_id, 0)
            if len(self._buckets) >= _BUCKETS:
                self._buckets.clear()
            self._buckets[key] = bucket
            self._steps.begins()
        mode = self._wanted(bucket, response)
        if mode.ratio:
            mode = self._sparse(bucket, mode, response)
        if bucket.choice is not None:
            self._steps.runs(key, mode)
        return mode

    def _sparse(self, bucket: Bucket, mode: Mode, response: Response) -> Mode:
        """With the ratio of this execution, which may be so large that it is dense."""
        ratio = self._ratio(bucket, mode.ratio)
        step, bucket.steps = bucket.steps, bucket.steps + 1
        if bucket.guard.dense or ratio >= NO_GAIN:
            if bucket.choice is not None:
                bucket.choice.drop_topk(bucket.guard.why)
            return Mode(mode.levels)
        probe = (
            step % _PROBE_EVERY >= _PROBE_EVERY - PROBE_STEPS
            and self._rules.guarded
            and _seen(response)
        )
        return Mode(mode.levels, ratio, mode.half, mode.balanced, probe)

    def _wanted(self, bucket: Bucket, response: Response) -> Mode:
        """Before warm-up and guard."""
        rules, wish = self._rules, bucket.wish
        topk = _adds_floats(response) and response.nbytes >= rules.topk_threshold
        levels = self._levels_of(response)
        if wish.mode is not None:
            if (wish.mode.ratio and not topk) or (wish.mode.half and not _adds_floats(response)):
                return self._plain(response)
            deep = min(max(wish.mode.levels, self._deep(rules.levels, response)), levels.deep)
            balanced = wish.mode.balanced or (deep == 1 and len(response.ranks) > BALANCED_FROM)
            return Mode(deep, wish.mode.ratio, wish.mode.half, balanced)
        if rules.topk and topk and not rules.auto:
            deep = self._deep(rules.levels, response)
            balanced = deep == 1 and len(response.ranks) > BALANCED_FROM
            return Mode(deep, rules.ratio, rules.topk_half, balanced)
        measurable = _adds_floats(response) and _seen(response) and not response.joined
        if not rules.auto or not measurable:
            return self._plain(response)
        topk = topk and self._trained >= rules.warmup  # until then it is dense
        if bucket.choice is None or topk > bucket.tries_topk:
            costs = self._costs_of(response)
            if costs is None:
                return DENSE
            modes = candidates(rules, levels, topk, bucket.item_bytes)
            bucket.tries_topk = topk
            bucket.choice = Choice(
                {m: self._predicted(m, bucket, levels, costs) for m in modes}, self._learned
            )
        mode = bucket.choice.next()
        return Mode(mode.levels, rules.ratio, mode.half, mode.balanced) if mode.ratio else mode

    def _predicted(self, mode: Mode, bucket: Bucket, levels: Levels, costs: Costs) -> float:
        if mode.ratio:
            mode = Mode(mode.levels, self._rules.ratio, mode.half, mode.balanced)
        return predict(mode, bucket.elements, bucket.item_bytes, levels, costs)

    def _ratio(self, bucket: Bucket, ratio: float) -> float:
        if bucket.choice is None:
            wished = bucket.wish.mode is not None
            steps = bucket.wish.warmup if wished else self._rules.warmup
            ratio = warmed_up(ratio, bucket.steps, steps)
        return min(1.0, ratio * bucket.guard.factor)

    def _guard(self, bucket: Bucket, done: Executed) -> None:
        if not self._rules.guarded:
            return
        ended = done.cosine is not None and bucket.steps % _PROBE_EVERY == 0
        self._act(
            bucket,
            bucket.guard.observe(
                done.mode.ratio,
                done.gradient_norm,
                done.residual_norm,
                done.cosine if ended else None,
            ),
        )

    def _act(self, bucket: Bucket, done: str) -> None:
        if done:
            self._say(f"{bucket.name}: {done}")

    def _back(self, verdict: Verdict) -> None:
        left = "modes that lose bits are" if verdict.lossy_only else "all but dense is"
        self._say(f"{left} left: {verdict.why}")
        for choice in self._choices():
            if not verdict.lossy_only or not choice.mode.lossless:  # others may yet gain by it
                choice.forbid(verdict.why, verdict.lossy_only)

    def _choices(self) -> list[Choice]:
        """Those of the last step: there may be others, of buckets that are gone."""
        buckets = [self._buckets.get(key) for key in self._steps.buckets]
        return [each.choice for each in buckets if each is not None and each.choice is not None]

    def _drifted(self) -> None:
        """Times have changed for a bucket. For half of them: so they have for steps."""
        choices = self._choices()
        count = sum(choice.drifted for choice in choices)
        if count and 2 * (count - 1) < len(choices) <= 2 * count:  # not again at those that follow
            self._steps.times_changed()
            self._layout_due = True


def _seen(response: Response) -> bool:
    """Whether rank 0 executes it, and sees what it takes."""
    return 0 in response.ranks and 0 not in response.joined


def _adds_floats(response: Response) -> bool:
    """Whether modes that lose bits can serve it at all."""
    kinds = {(spec.dtype, spec.device) for spec in response.tensors}
    if len(kinds) != 1 or response.op not in ("sum", "average"):
        return False
    elements = sum(spec.elements for spec in response.tensors)
    return next(iter(kinds))[0] in _FLOATS and elements < 1 << 31
