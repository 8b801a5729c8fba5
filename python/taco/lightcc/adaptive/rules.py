"""What the user allows, and the modes that this leaves for a bucket."""

from collections.abc import Callable
from dataclasses import dataclass

from taco.lightcc.adaptive.cost import Costs, predict
from taco.lightcc.adaptive.mode import Mode
from taco.lightcc.adaptive.places import Levels

BALANCED_FROM = 8
"""Ranks from which lists are not gathered by everybody."""

NO_GAIN = 0.5
"""A ratio from which dense is as short: an index is as long as a value."""


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
    if topk and rules.ratio < NO_GAIN:
        modes += [Mode(each, 1.0, rules.topk_half) for each in deep if each < 3]
        if sum(map(len, levels.hosts)) > BALANCED_FROM:
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


def reason(rules: Rules, deep: int, mode: Mode, nbytes: int) -> str:
    """Why a bucket that is not chosen for by measurement has its mode.

    Args:
        rules: what is allowed.
        deep: levels that its ranks have.
        mode: of its execution.
        nbytes: of its tensors.
    """
    parts = []
    if mode.ratio:
        parts.append("LIGHT_TOPK_ALLREDUCE")
    elif rules.topk and nbytes < rules.topk_threshold:
        parts.append(f"below LIGHT_TOPK_THRESHOLD={rules.topk_threshold}")
    elif rules.topk:
        parts.append("no float, or a ratio of TopK at which dense is as short")
    if mode.levels > 1:
        parts.append(f"LIGHT_{mode.levels}D_ALLREDUCE")
    elif rules.levels > 1 and deep == 1:
        parts.append("one level, as all ranks are one group, or each is one")
    elif rules.levels > 1:
        parts.append(f"above LIGHT_HIERARCHICAL_THRESHOLD={rules.hierarchical_threshold}")
    if rules.auto:
        return "not chosen for by measurement"
    return ", ".join(parts) or "the default: no LIGHT_* variable asks for more"
