"""Worlds whose true times are known, for choices and policies to find out."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from taco.lightcc.adaptive.choice import Choice
from taco.lightcc.adaptive.execution import Executed
from taco.lightcc.adaptive.mode import DENSE, Mode, parse
from taco.lightcc.adaptive.places import Levels
from taco.lightcc.adaptive.policy import Policy
from taco.lightcc.engine.requests import ALLREDUCE, Response, TensorSpec

FLAT, TWO, THREE = DENSE, Mode(2), Mode(3)
HALF, TWO_HALF = Mode(half=True), Mode(2, half=True)
TOPK, TWO_TOPK = Mode(1, 1.0), Mode(2, 1.0)

HOSTS = Levels(((0, 1), (2, 3)))
"""Two machines of two ranks."""


class Noise:
    """Factors on true times: log-normal, and now and then a multiple.

    Args:
        seed: of the random numbers.
        spread: standard deviation of the logarithm.
        outliers: part of the times that is 2 to 6 times as long.
    """

    def __init__(self, seed: int, spread: float = 0.1, outliers: float = 0.05) -> None:
        self._rng = random.Random(seed)
        self._spread = spread
        self._outliers = outliers

    def __call__(self) -> float:
        factor = self._rng.lognormvariate(0, self._spread)
        if self._rng.random() < self._outliers:
            factor *= self._rng.uniform(2, 6)
        return factor


@dataclass
class Ran:
    """What a choice did.

    Attributes:
        modes: of each execution.
        kept: what the choice held on to, after each.
        took: true seconds of each.
    """

    modes: list[Mode]
    kept: list[Mode]
    took: list[float]

    def mean(self, first: int = 0) -> float:
        """True seconds of an execution, from the first-th on."""
        return sum(self.took[first:]) / len(self.took[first:])

    def changes(self) -> int:
        """How often another mode was kept."""
        return sum(a != b for a, b in zip(self.kept, self.kept[1:], strict=False))


def drive(
    choice: Choice, true: Mapping[Mode, float], noise: Callable[[], float], count: int
) -> Ran:
    """Executes what a choice names. A mode's first execution takes half as long again."""
    ran = Ran([], [], [])
    before = None
    for _ in range(count):
        mode = choice.next()
        choice.observe(mode, true[mode] * noise() * (1.0 if mode == before else 1.5))
        before = mode
        ran.modes.append(mode)
        ran.kept.append(choice.mode)
        ran.took.append(true[mode])
    return ran


def allowed(true: Mapping[Mode, float]) -> float:
    """The time of the best mode, where one that loses bits has to gain a fifth."""
    lossless = min(took for mode, took in true.items() if mode.lossless)
    best = min(true.values())
    return best if best <= 0.8 * lossless else lossless


def response(
    name: str = "bucket.0",
    elements: int = 1 << 20,
    mode: str = "gradient",
    dtype: str = "float32",
    op: str = "average",
    ranks: Sequence[int] = (0, 1, 2, 3),
    **more: object,
) -> Response:
    """An allreduce that all ranks are ready for."""
    device = str(more.pop("device", "cpu"))
    return Response(
        ALLREDUCE,
        (name,),
        tensors=(TensorSpec(dtype, (elements,), device),),
        counts=(1,),
        op=op,
        mode=mode,
        ranks=tuple(ranks),
        **more,  # type: ignore[arg-type]
    )


def executed(mode: str | Mode, seconds: float = 1e-3, **more: float) -> Executed:
    """What rank 0 saw; norms that alarm nobody where nothing else is said."""
    mode = parse(mode) if isinstance(mode, str) else mode
    numbers = {"gradient_norm": 2.0, "residual_norm": 1.0} if mode.ratio else {}
    return Executed(mode, seconds, {"across": 1}, **{**numbers, **more})  # type: ignore[arg-type]


def run_step(
    policy: Policy,
    buckets: Sequence[Response],
    seconds: Callable[[Response, Mode], float],
    step: Callable[[Sequence[Mode]], float],
) -> list[Mode]:
    """A training step: all buckets, then the step's own time. Returns the modes."""
    modes = []
    for bucket in buckets:
        mode = parse(policy.assign(bucket))
        policy.observe(bucket, executed(mode, seconds(bucket, mode)))
        modes.append(mode)
    policy.step(step(modes))
    return modes
