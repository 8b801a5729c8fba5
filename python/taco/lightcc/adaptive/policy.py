"""Rank 0's mind: names the mode of every allreduce. No clocks, no sockets, no tensors.

Thread-safe: the coordinator asks, the executor and the training loop report.
"""

import logging
import statistics
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from taco.lightcc.adaptive.choice import SLOWER, WINDOW, Choice
from taco.lightcc.adaptive.cost import Costs, predict
from taco.lightcc.adaptive.execution import Executed
from taco.lightcc.adaptive.guard import Guard, LossWatch
from taco.lightcc.adaptive.mode import DENSE, Mode
from taco.lightcc.adaptive.places import Levels
from taco.lightcc.adaptive.wish import CALIBRATE, Wish, understand
from taco.lightcc.engine.requests import Response

_log = logging.getLogger("taco.lightcc")

_FLOATS = ("float32", "float16", "bfloat16")
_FIRST_RATIO = 0.25  # of a warm-up
_BALANCED_FROM = 8  # ranks from which lists are not gathered by everybody
_PROBE_EVERY, _PROBE_STEPS = 200, 10
_LARGE = 1 << 20  # bytes from which an allreduce that is no gradient is worth two levels
_REFERENCE_STEPS = 3
_BUCKETS = 10_000  # remembered at most


@dataclass(frozen=True)
class Rules:
    """What the user allows, and what is fixed.

    Attributes:
        auto: modes are chosen by measurement.
        lossy: auto may choose TopK and float16 for gradients.
        levels: of dense allreduces that nothing else is said of: 1, 2 or 3.
        hierarchical_threshold: bytes up to which `levels` counts.
        topk: gradients are sent by TopK.
        ratio: part of the elements that TopK keeps.
        topk_threshold: bytes from which TopK is used.
        topk_half: TopK's values travel as float16.
        warmup: steps in which TopK's ratio comes down from 25%.
        guarded: whether the guard may raise TopK's ratio or end it.
    """

    auto: bool = False
    lossy: bool = True
    levels: int = 1
    hierarchical_threshold: int = 1 << 30
    topk: bool = False
    ratio: float = 0.01
    topk_threshold: int = 1 << 20
    topk_half: bool = False
    warmup: int = 0
    guarded: bool = True


@dataclass
class Bucket:
    """What is known of one bucket.

    Attributes:
        name: of its request.
        elements, item_bytes: of its tensor.
        wish: what was asked for.
        choice: in auto.
        guard: of TopK.
        steps: executions by TopK.
        mode: of the last execution.
        seconds: of the last executions.
        last: the last execution.
    """

    name: str
    elements: int
    item_bytes: int
    wish: Wish
    choice: Choice | None = None
    guard: Guard = field(default_factory=Guard)
    steps: int = 0
    mode: Mode = DENSE
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    last: Executed | None = None


def candidates(rules: Rules, levels: Levels, topk: bool, item_bytes: int) -> list[Mode]:
    """The modes that a bucket may be reduced in; TopK's with a ratio of 1, for any.

    Args:
        rules: what is allowed.
        levels: the groups of the ranks.
        topk: whether the bucket is large enough for TopK.
        item_bytes: of an element.
    """
    deep = range(1, levels.deep + 1)
    modes = [Mode(each) for each in deep]
    if not rules.lossy:
        return modes
    if item_bytes == 4:
        modes += [Mode(each, half=True) for each in deep]
    if topk:
        modes += [Mode(each, 1.0, rules.topk_half) for each in deep if each < 3]
        if sum(map(len, levels.hosts)) > _BALANCED_FROM:
            modes.append(Mode(1, 1.0, rules.topk_half, True))
    return modes


def bucket_cost(
    rules: Rules, costs: Costs, levels: Levels, item_bytes: int
) -> Callable[[int], float]:
    """For the layout of buckets: seconds that so many bytes take in the best mode there is."""
    modes = candidates(rules, levels, True, item_bytes)
    if not rules.auto:
        deep = min(rules.levels, levels.deep)
        modes = [Mode(deep), Mode(deep, 1.0, rules.topk_half)] if rules.topk else [Mode(deep)]

    def seconds(count: int) -> float:
        elements = max(1, count // item_bytes)
        times = []
        for mode in modes:
            if mode.ratio and count < rules.topk_threshold:
                continue
            ratio = rules.ratio if mode.ratio else 0.0
            actual = Mode(mode.levels, ratio, mode.half, mode.balanced)
            times.append(predict(actual, elements, item_bytes, levels, costs))
        return times[-1] if not rules.auto else min(times)

    return seconds


class Policy:
    """One job's.

    Args:
        rules: what the user allows.
        levels_of: the groups of a response's ranks.
        measures: whether this process executes what it decides: rank 0 does, in sets that hold it.
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
        self._costs: dict[int, Costs] = {}
        self._learned: dict[str, float] = {}
        self._loss = LossWatch()
        self._step_modes: set[Mode] = set()
        self._exploring = False
        self._dense_steps: deque[float] = deque(maxlen=2 * WINDOW)
        self._steps: deque[float] = deque(maxlen=WINDOW)

    def assign(self, response: Response) -> str:
        """The mode of an allreduce that all ranks are about to execute."""
        if response.mode == CALIBRATE:
            return CALIBRATE
        wish = understand(response.mode)
        with self._lock:
            mode = self._bucket_mode(response, wish) if wish.gradient else self._plain(response)
            if wish.gradient:
                self._step_modes.add(mode.family)
        return str(mode)

    def calibrated(self, set_id: int, costs: Costs) -> None:
        """Takes what was measured of a process set."""
        with self._lock:
            self._costs[set_id] = costs

    def observe(self, response: Response, done: Executed) -> None:
        """Takes what an execution on this rank saw."""
        with self._lock:
            bucket = self._buckets.get((response.set_id, response.names[0]))
            if bucket is None:
                return
            bucket.mode, bucket.last = done.mode, done
            bucket.seconds.append(done.seconds)
            if bucket.choice is not None:
                before = bucket.choice.mode
                bucket.choice.observe(done.mode.family, done.seconds)
                if bucket.choice.mode != before:
                    why = bucket.choice.why
                    self._say(f"{bucket.name}: {bucket.choice.mode.title} from now on: {why}")
            if done.mode.ratio:
                bucket.steps += 1
                self._guard(bucket, done)

    def step(self, seconds: float) -> None:
        """A training step is over. Compares whole steps: what the buckets alone do not show."""
        with self._lock:
            modes, self._step_modes = self._step_modes, set()
            if not self._rules.auto or not modes:
                return
            choices = [each.choice for each in self._buckets.values() if each.choice is not None]
            if modes == {DENSE}:
                self._dense_steps.append(seconds)
            if not all(choice.settled for choice in choices) or modes == {DENSE}:
                self._steps.clear()
                return
            self._steps.append(seconds)
            if len(self._steps) < WINDOW or len(self._dense_steps) < _REFERENCE_STEPS:
                return
            now = statistics.median(self._steps)
            dense = statistics.median(self._dense_steps)
            self._steps.clear()
            if now > SLOWER * dense:
                self._back(f"steps take {now * 1e3:.1f} ms, dense ones took {dense * 1e3:.1f} ms")
            elif now > dense / SLOWER and any(not mode.lossless for mode in modes):
                text = f"steps take {now * 1e3:.1f} ms, dense ones took {dense * 1e3:.1f} ms"
                self._back(f"losing bits gains nothing: {text}", lossy_only=True)

    def loss(self, value: float) -> None:
        """Takes a step's loss."""
        with self._lock:
            what = self._loss.observe(value)
            if what:
                for bucket in self._buckets.values():
                    if bucket.mode.ratio:
                        self._act(bucket, bucket.guard.breach(what))

    def buckets(self) -> list[Bucket]:
        """What is known, for reports."""
        with self._lock:
            return list(self._buckets.values())

    def costs(self) -> dict[int, Costs]:
        """What was measured, by process set."""
        with self._lock:
            return dict(self._costs)

    # Inside: with the lock.

    def _say(self, text: str) -> None:
        _log.info("%s", text)
        self._note(text)

    def _plain(self, response: Response) -> Mode:
        rules = self._rules
        levels = rules.levels
        if rules.auto and response.nbytes >= _LARGE and response.set_id in self._costs:
            levels = self._best_dense(response)
        if levels == 1 or response.nbytes > rules.hierarchical_threshold:
            return DENSE
        return Mode(min(levels, self._levels_of(response).deep))

    def _best_dense(self, response: Response) -> int:
        costs, found = self._costs[response.set_id], self._levels_of(response)
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
            bucket = Bucket(response.names[0], elements, item, wish)
            if len(self._buckets) >= _BUCKETS:
                self._buckets.clear()
            self._buckets[key] = bucket
        mode = self._wanted(bucket, response)
        if not mode.ratio:
            return mode
        if bucket.guard.dense:
            return Mode(mode.levels)
        ratio = self._ratio(bucket, mode.ratio)
        if ratio >= 0.5:  # an index is as long as a value: no gain
            return Mode(mode.levels)
        probe = bucket.steps % _PROBE_EVERY >= _PROBE_EVERY - _PROBE_STEPS
        return Mode(mode.levels, ratio, mode.half, mode.balanced, probe and self._rules.guarded)

    def _wanted(self, bucket: Bucket, response: Response) -> Mode:
        """Before warm-up and guard."""
        rules, wish = self._rules, bucket.wish
        topk = _adds_floats(response) and response.nbytes >= rules.topk_threshold
        levels = self._levels_of(response)
        if wish.mode is not None:
            if wish.mode.ratio and not topk:
                return Mode(min(rules.levels, levels.deep))
            deep = min(max(wish.mode.levels, rules.levels), levels.deep)
            balanced = wish.mode.balanced or (deep == 1 and len(response.ranks) > _BALANCED_FROM)
            return Mode(deep, wish.mode.ratio, wish.mode.half, balanced)
        if rules.topk and topk and not rules.auto:
            deep = min(rules.levels, levels.deep)
            balanced = deep == 1 and len(response.ranks) > _BALANCED_FROM
            return Mode(deep, rules.ratio, rules.topk_half, balanced)
        measured = 0 in response.ranks and not response.joined
        if not rules.auto or not _adds_floats(response) or not measured:
            return self._plain(response)
        if bucket.choice is None:
            costs = self._costs.get(response.set_id)
            if costs is None:
                return DENSE
            modes = candidates(rules, levels, topk, bucket.item_bytes)
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
        warmup = bucket.wish.warmup or self._rules.warmup
        if bucket.steps < warmup and ratio < _FIRST_RATIO:
            ratio = _FIRST_RATIO * (ratio / _FIRST_RATIO) ** (bucket.steps / warmup)
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

    def _back(self, why: str, lossy_only: bool = False) -> None:
        self._say(f"{'modes that lose bits are' if lossy_only else 'all but dense is'} left: {why}")
        for bucket in self._buckets.values():
            if bucket.choice is not None:
                bucket.choice.forbid(why, lossy_only)


def _adds_floats(response: Response) -> bool:
    """Whether modes that lose bits can serve it at all."""
    kinds = {(spec.dtype, spec.device) for spec in response.tensors}
    if len(kinds) != 1 or response.op not in ("sum", "average"):
        return False
    dtype, device = next(iter(kinds))
    elements = sum(spec.elements for spec in response.tensors)
    return dtype in _FLOATS and device == "cpu" and elements < 1 << 31
