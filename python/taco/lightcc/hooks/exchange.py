"""The average of a bucket over the ranks of a group, of which each sends its largest elements."""

import dataclasses
import functools

import torch

from taco import _loader
from taco.lightcc.adaptive.places import Groups
from taco.lightcc.hooks.held_back import Bucket
from taco.lightcc.patterns import sparse, sparse_balanced, sparse_hierarchical
from taco.lightcc.patterns.sparse_list import SparseList
from taco.lightcc.patterns.transport import Transport

# A rank's part in the plain exchange grows with the number of ranks, in the balanced one not
# (docs/lightcc_patterns.md).
MOST_RANKS_GATHERED = 8

TWO_LEVELS = "2d"

# So many elements of a gradient tell whether it is zero, unless they are.
_GLANCE = 64


@dataclasses.dataclass(frozen=True)
class Selection:
    """What is sent.

    Attributes:
        ratio: part of the elements.
        half: whether values travel as float16.
        groups: the ranks of each machine, for the exchange in two levels; None: in one.
    """

    ratio: float
    half: bool = False
    groups: Groups | None = None

    def count(self, elements: int) -> int:
        """Of so many."""
        return min(elements, max(1, round(elements * self.ratio)))


def average(
    transport: Transport, buffer: torch.Tensor, bucket: Bucket, selection: Selection
) -> torch.Tensor:
    """Replaces a bucket's gradients by the average of what the ranks send of them.

    Args:
        transport: joins the ranks.
        buffer: (n,) float32, float16 or bfloat16, contiguous.
        bucket: what is held back of it, in and out.
        selection: the same on every rank.

    Returns:
        `buffer`, with the same bits on every rank.
    """
    state, n = bucket.state, buffer.numel()
    scale = 1.0 / transport.size
    total = buffer if buffer.dtype == torch.float32 else torch.empty(n)
    if selection.groups is not None:
        total.copy_(buffer)
        if state.family != TWO_LEVELS:
            # It may be anywhere in the bucket, and this rank looks at its own shard alone.
            state.family = TWO_LEVELS if flush(total, bucket) else ""
        sparse_hierarchical.all_reduce(
            transport,
            total,
            selection.groups,
            lambda shard, low: _select(shard, low, bucket, selection),
            add=functools.partial(_add, scale=scale),
        )
        return buffer if total is buffer else buffer.copy_(total)
    state.family = ""
    part = _select(buffer, 0, bucket, selection)
    if transport.size <= MOST_RANKS_GATHERED:
        sparse.all_reduce(transport, part, total, add=functools.partial(_add, scale=scale))
    else:
        dropped = sparse_balanced.all_reduce(transport, part, selection.count(n), total, add=_add)
        assert state.residual is not None
        for lost in dropped:
            _add(state.residual, lost)
        total.mul_(scale)
    return buffer if total is buffer else buffer.copy_(total)


def flush(buffer: torch.Tensor, bucket: Bucket) -> bool:
    """Puts what is held back into the gradients, but for those that are zero.

    Returns:
        Whether nothing is held back now but what the gradients' dtype could not hold.
    """
    state = bucket.state
    residual, state.residual = state.residual, None
    if residual is None:
        return True
    residual = residual.to(buffer.device)
    aside = _set_aside(buffer, 0, residual, bucket.bounds)
    whole = buffer.float() + residual
    buffer.copy_(whole)
    state.thresholds.clear()
    if aside or buffer.dtype != torch.float32:
        state.residual = whole.sub_(buffer.float()).nan_to_num_(0.0, 0.0, 0.0)
        _put_back(state.residual, aside)
    return not aside


def _select(shard: torch.Tensor, low: int, bucket: Bucket, selection: Selection) -> SparseList:
    """The largest elements of a part of the bucket that begins at `low`."""
    state, n = bucket.state, shard.numel()
    state.prepare(bucket.bounds[-1], shard.device)
    assert state.residual is not None
    residual = state.residual[low : low + n]
    k = selection.count(n)
    aside = _set_aside(shard, low, residual, bucket.bounds)
    indices, values, count = _loader.load_torch_ops().topk_compress(
        shard,
        residual,
        state.threshold(low),
        k,
        exact=k == n,
        values_dtype=torch.float16 if selection.half else None,
    )
    _put_back(residual, aside)
    sent = int(count)
    return SparseList(indices[:sent], values[:sent], n)


def _set_aside(
    shard: torch.Tensor, low: int, residual: torch.Tensor, bounds: list[int]
) -> list[tuple[int, torch.Tensor]]:
    """Zeroes the residual of parameters whose gradient is zero; gives places, and what was there.

    DDP throws away the result for a parameter that no rank has used in this step, and what was
    sent of it would be lost.
    """
    aside = []
    for start, end in zip(bounds, bounds[1:], strict=False):
        start, end = max(start - low, 0), min(end - low, shard.numel())
        if start >= end or bool(shard[start : min(start + _GLANCE, end)].any()):
            continue
        if not bool(shard[start:end].any()):
            piece = residual[start:end]
            aside.append((start, piece.clone()))
            piece.zero_()
    return aside


def _put_back(residual: torch.Tensor, aside: list[tuple[int, torch.Tensor]]) -> None:
    for place, kept in aside:
        residual[place : place + kept.numel()] = kept


def _add(out: torch.Tensor, part: SparseList, scale: float = 1.0) -> None:
    ops = _loader.load_torch_ops()
    ops.topk_accumulate_(out, [part.indices], [part.values], scale=scale)
