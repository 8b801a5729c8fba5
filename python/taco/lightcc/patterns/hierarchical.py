"""Allreduce in levels: what crosses a slow link is reduced on the fast ones first.

    inside   reduce-scatter: each rank of a machine gets the machine's sum of a shard
    across   allreduce of the shard, among the owners of it, one of each machine
    inside   allgather

A third level (racks) goes between: reduce-scatter again before, allgather again after. For G
groups the ranks of a group send 2 (G - 1) / G of the tensor's bytes across, together, instead of
2 (size - 1) / size on each link that a flat ring has. The tensor goes through in chunks, and all
levels work at the same time. (arXiv 1807.11205; `plan` says how uneven groups are met.)
"""

import dataclasses
from collections.abc import Sequence

import torch

from taco.lightcc.patterns import ring
from taco.lightcc.patterns.pipeline import run_pipeline, run_together
from taco.lightcc.patterns.plan import Segment, checked_levels, plan
from taco.lightcc.patterns.reduction import Reduction, check_flat
from taco.lightcc.patterns.transport import Subgroup, Transport


@dataclasses.dataclass(frozen=True)
class HierarchicalOptions:
    """How the work is cut; docs/lightcc_patterns.md says what was measured.

    Attributes:
        chunk_bytes: bytes of the tensor that go through the levels together.
        lanes: pipelines side by side, which take turns with the chunks: while one waits for the
            answer of a peer, another keeps the slow link busy.
        inner: the rings at all levels but the outermost.
        outer: the rings at the outermost level, that is over the slowest links.
    """

    chunk_bytes: int = 8 << 20
    lanes: int = 2
    inner: ring.RingOptions = ring.RingOptions()
    outer: ring.RingOptions = ring.RingOptions()

    def __post_init__(self) -> None:
        if self.chunk_bytes < 1 or self.lanes < 1:
            raise ValueError(f"chunk_bytes and lanes have to be at least 1: {self}")


def all_reduce(
    transport: Transport,
    tensor: torch.Tensor,
    levels: Sequence[Sequence[Sequence[int]]],
    op: Reduction = Reduction.SUM,
    tag: int = 0,
    options: HierarchicalOptions | None = None,
) -> None:
    """Reduces a tensor over all ranks, in place, level by level.

    Args:
        transport: joins the ranks.
        tensor: (n,), contiguous, any dtype that torch can add, the same n on every rank.
        levels: for each level, from the innermost outwards, its groups as lists of ranks. One
            level makes it 2D, two make it 3D, none a flat ring.
        op: the operator.
        tag: the first of the tags used: `tags(levels, options)` of them.
        options: how the work is cut; the same on every rank.

    Raises:
        ValueError: the tensor is not flat and contiguous, or the levels are not as `plan` needs
            them.
    """
    check_flat(tensor)
    options = options or HierarchicalOptions()
    checked = checked_levels(transport.size, levels)
    if transport.size == 1 or tensor.numel() == 0:
        return
    length = max(1, options.chunk_bytes // tensor.element_size())
    chunks = tensor.split(length)
    stages = 2 * len(checked) - 1

    def segments(chunk: int, level: int) -> tuple[Segment, ...]:
        return plan(chunks[chunk].numel(), checked, transport.rank)[level]

    def run(chunk: int, stage: int) -> None:
        level = min(stage, stages - 1 - stage)
        own = tag + stages * (chunk % options.lanes) + stage
        for segment in segments(chunk, level):
            part = chunks[chunk][segment.low : segment.high]
            members = Subgroup(transport, segment.owners)
            if 2 * stage + 1 == stages:
                ring.all_reduce(members, part, op, own, options.outer)
            elif 2 * stage + 1 < stages:
                ring.reduce_scatter(members, part, segment.bounds, op, own, options.inner)
            else:
                ring.all_gather(members, part, segment.bounds, own, options.inner)

    def lane(first: int) -> None:
        steps = [lambda chunk, stage=stage: run(chunk, stage) for stage in range(stages)]
        run_pipeline(steps, range(first, len(chunks), options.lanes))

    lanes = min(options.lanes, len(chunks))
    run_together([lambda first=first: lane(first) for first in range(lanes)])  # type: ignore[misc]


def tags(levels: Sequence[object], options: HierarchicalOptions | None = None) -> int:
    """How many tags, from the one given, an `all_reduce` over these levels uses."""
    return (2 * len(levels) + 1) * (options or HierarchicalOptions()).lanes
