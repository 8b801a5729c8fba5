"""The warm-up of TopK: a training's first steps, in which more is sent.

In them gradients change most, and what is held back is what the training needs: without a warm-up
small transformers learned less than dense ones, with it as much (docs/lightcc_benchmarks.md).
"""

RATIO = 0.25
"""Part of the elements that the first step sends."""

STEPS = 200
"""How long a warm-up is where nobody says otherwise."""


def warmed_up(ratio: float, step: int, steps: int) -> float:
    """The ratio of a step: it comes down from RATIO, by the same factor in each step.

    Args:
        ratio: where it ends; from RATIO on there is no warm-up.
        step: from 0.
        steps: of the warm-up; 0 for none.
    """
    if step >= steps or ratio >= RATIO:
        return ratio
    return RATIO * (ratio / RATIO) ** (step / steps)
