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
from taco.lightcc.adaptive.guard import PROBE_STEPS, Guard, LossWatch
from taco.lightcc.adaptive.mode import DENSE, Mode
from taco.lightcc.adaptive.places import Levels
from taco.lightcc.adaptive.wish import CALIBRATE, Wish, understand
from taco.lightcc.engine.requests import Response
from taco.lightcc.warmup import warmed_up

_log = logging.getLogger("taco.lightcc")

_FLOATS = ("float32", "float16", "bfloat16")
_BALANCED_FROM = 8  # ranks from which lists are not gathered by everybody
_NO_GAIN = 0.5  # a ratio from which dense is as short: an index is as long as a value
_PROBE_EVERY = 200
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
    if topk and rules.ratio < _NO_GAIN:
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


_Ran = dict[tuple[int, str], Mode]


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
        self._costs: dict[int, Costs] = {}
        self._learned: dict[str, float] = {}
        self._loss = LossWatch()
        self._trained = 0  # steps
        # Of the step under way and of the last one: what buckets with a choice ran in.
        self._under_way: _Ran = {}
        self._last: _Ran = {}
        self._first = False  # whether one of them runs for the first time
        self._dense_steps: deque[float] = deque(maxlen=2 * WINDOW)
        self._steps: deque[float] = deque(maxlen=WINDOW)  # that ran as the last one did
        self._layout_due = False

    def assign(self, response: Response) -> str:
        """The mode of an allreduce that all ranks are about to execute."""
        if response.mode == CALIBRATE:
            return CALIBRATE
        wish = understand(response.mode)
        with self._lock:
            mode = self._bucket_mode(response, wish) if wish.gradient else self._plain(response)
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
                before, drifted = bucket.choice.mode, bucket.choice.drifted
                bucket.choice.observe(done.mode.family, done.seconds)
                if bucket.choice.mode != before:
                    why = bucket.choice.why
                    self._say(f"{bucket.name}: {bucket.choice.mode.title} from now on: {why}")
                if bucket.choice.drifted and not drifted:
                    self._drifted()
            if done.mode.ratio:
                self._guard(bucket, done)

    def step(self, seconds: float) -> None:
        """A training step is over. Compares whole steps: what the buckets alone do not show."""
        with self._lock:
            self._trained += 1
            before, self._last, self._under_way = self._last, self._under_way, {}
            first, self._first = self._first, False
            modes = set(self._last.values())
            if not before.keys() & self._last.keys():
                self._dense_steps.clear()  # they were of other buckets
            if first or not modes:
                return  # what comes first takes longer
            if modes == {DENSE}:
                self._dense_steps.append(seconds)
            if self._last != before:
                self._steps.clear()
            if modes == {DENSE} or not all(choice.settled for choice in self._choices()):
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

    def costs(self) -> dict[int, Costs]:
        """What was measured, by process set."""
        with self._lock:
            return dict(self._costs)

    # Inside: with the lock.

    def _say(self, text: str) -> None:
        _log.info("%s", text)
        self._note(text)

    def _plain(self, response: Response) -> Mode:
        levels = self._rules.levels
        if self._rules.auto and response.nbytes >= _LARGE and response.set_id in self._costs:
            levels = self._best_dense(response)
        return Mode(self._deep(levels, response))

    def _deep(self, levels: int, response: Response) -> int:
        """So many levels, as far as they make sense and are allowed."""
        if levels == 1 or response.nbytes > self._rules.hierarchical_threshold:
            return 1
        return min(levels, self._levels_of(response).deep)

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
            bucket = Bucket(response.names[0], elements, item, wish, set_id=response.set_id)
            if len(self._buckets) >= _BUCKETS:
                self._buckets.clear()
            self._buckets[key] = bucket
            self._first = True
        mode = self._wanted(bucket, response)
        if mode.ratio:
            mode = self._sparse(bucket, mode, response)
        if bucket.choice is not None:
            self._under_way[key] = mode.family
        return mode

    def _sparse(self, bucket: Bucket, mode: Mode, response: Response) -> Mode:
        """With the ratio of this execution, which may be so large that it is dense."""
        ratio = self._ratio(bucket, mode.ratio)
        step, bucket.steps = bucket.steps, bucket.steps + 1
        if bucket.guard.dense or ratio >= _NO_GAIN:
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
            balanced = wish.mode.balanced or (deep == 1 and len(response.ranks) > _BALANCED_FROM)
            return Mode(deep, wish.mode.ratio, wish.mode.half, balanced)
        if rules.topk and topk and not rules.auto:
            deep = self._deep(rules.levels, response)
            balanced = deep == 1 and len(response.ranks) > _BALANCED_FROM
            return Mode(deep, rules.ratio, rules.topk_half, balanced)
        on_cpu = all(spec.device == "cpu" for spec in response.tensors)
        measurable = on_cpu and _adds_floats(response) and _seen(response) and not response.joined
        if not rules.auto or not measurable:
            return self._plain(response)
        topk = topk and self._trained >= rules.warmup  # until then it is dense
        if bucket.choice is None or topk > bucket.tries_topk:
            costs = self._costs.get(response.set_id)
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

    def _back(self, why: str, lossy_only: bool = False) -> None:
        self._say(f"{'modes that lose bits are' if lossy_only else 'all but dense is'} left: {why}")
        for choice in self._choices():
            if not lossy_only or not choice.mode.lossless:  # others may yet gain by it
                choice.forbid(why, lossy_only)

    def _choices(self) -> list[Choice]:
        """Those of the last step: there may be others, of buckets that are gone."""
        buckets = [self._buckets.get(key) for key in self._last]
        return [each.choice for each in buckets if each is not None and each.choice is not None]

    def _drifted(self) -> None:
        """Times have changed for a bucket. For half of them: so they have for steps."""
        choices = self._choices()
        count = sum(choice.drifted for choice in choices)
        if count and 2 * (count - 1) < len(choices) <= 2 * count:  # not again at those that follow
            self._dense_steps.clear()
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
