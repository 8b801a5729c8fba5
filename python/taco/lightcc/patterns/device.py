"""Levels by the process groups' own collectives: for devices, whose sends have no tags.

    inside   reduce-scatter, among the ranks of a machine
    across   allreduce of the shard, or its TopK (`device_sparse`), among the owners of it
    inside   allgather

A third level, the machines of a rack, does the same with the shard. Where groups are uneven a shard
is reduced to its owner and broadcast by it, and the smallest group says how many owners there are.

NCCL runs each step on the device, in order, and the host waits for none: shapes depend on no data.
(`patterns.hierarchical` and `sparse_hierarchical`, for the CPU, hide the levels behind each other.)
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

Groups = tuple[tuple[int, ...], ...]

Across = Callable[[torch.Tensor, int], None]
"""Sums a shard, which begins at an element of the whole tensor, over its owners, in place."""


@dataclass(frozen=True)
class Plan:
    """Whom a rank works with.

    Attributes:
        stages: from the innermost on: the ranks of its group, and how many of them own shards.
        across: who owns its shard in the groups of the last stage; empty where it owns none.
    """

    stages: tuple[tuple[tuple[int, ...], int], ...]
    across: tuple[int, ...]


@functools.lru_cache(maxsize=256)
def plan(rank: int, size: int, levels: tuple[Groups, ...]) -> Plan:
    """Whom a rank works with.

    Args:
        rank, size: its position, and how many there are.
        levels: the groups of each level, from the innermost on; every rank is in one of each.
    """
    taking = tuple(range(size))
    stages = []
    for groups in levels:
        there = set(taking)
        parts = [tuple(each for each in group if each in there) for group in groups]
        parts = [part for part in parts if part]
        own = next(part for part in parts if rank in part)
        owners, place = min(map(len, parts)), own.index(rank)
        stages.append((own, owners))
        if place >= owners:
            return Plan(tuple(stages), ())
        taking = tuple(part[place] for part in parts)
    return Plan(tuple(stages), taking)


@dataclass(frozen=True)
class Stage:
    """One of a plan's, with the group that carries it.

    Attributes:
        group: its ranks, in order.
        owners: how many of them, from the first on, own a shard.
        level: its name, for counting.
    """

    group: dist.ProcessGroup
    owners: int
    level: str = "inside"


def all_reduce(
    tensor: torch.Tensor,
    stages: Sequence[Stage],
    across: Across,
    count: Callable[[str, int], None] = lambda level, sent: None,
    low: int = 0,
) -> None:
    """Sums a tensor over all ranks, in place.

    Args:
        tensor: (n,), contiguous, on the groups' device.
        stages: of this rank; those of one rank may be left out.
        across: called where this rank owns a shard of the last stage's.
        count: told the level and the bytes that this rank sends inside, as a ring has them.
        low: where the tensor begins in the whole.
    """
    if not stages:
        across(tensor, low)
        return
    stage, rest = stages[0], stages[1:]
    group, rank, elements = stage.group, stage.group.rank(), tensor.numel()
    length = -(-elements // stage.owners)
    padded = tensor
    if length * stage.owners != elements:
        padded = tensor.new_zeros(length * stage.owners)
        padded[:elements] = tensor
    shard_bytes = length * tensor.element_size()
    if stage.owners == group.size():
        shard = tensor.new_empty(length)
        group._reduce_scatter_base(shard, padded, dist.ReduceScatterOptions()).wait()
        all_reduce(shard, rest, across, count, low + rank * length)
        group._allgather_base(padded, shard).wait()
        count(stage.level, 2 * (group.size() - 1) * shard_bytes)
    else:
        shards = padded.split(length)
        for owner, shard in enumerate(shards):
            _reduce(group, shard, owner)
        if rank < stage.owners:
            all_reduce(shards[rank], rest, across, count, low + rank * length)
        for owner, shard in enumerate(shards):
            _broadcast(group, shard, owner)
        count(stage.level, 2 * stage.owners * shard_bytes)
    if padded is not tensor:
        tensor.copy_(padded[:elements])


def _reduce(group: dist.ProcessGroup, shard: torch.Tensor, owner: int) -> None:
    options = dist.ReduceOptions()
    options.rootRank = owner
    group.reduce([shard], options).wait()


def _broadcast(group: dist.ProcessGroup, shard: torch.Tensor, owner: int) -> None:
    options = dist.BroadcastOptions()
    options.rootRank = owner
    group.broadcast([shard], options).wait()
