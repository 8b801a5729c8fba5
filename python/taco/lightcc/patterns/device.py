"""Two levels by the process groups' own collectives: for devices, whose sends have no tags.

    inside   reduce-scatter, among the ranks of a machine
    across   allreduce of the shard, or allgather of its TopK, among the owners of it
    inside   allgather

NCCL runs each step on the device, in order, and the host waits for none: shapes depend on no
data, and TopK's lists travel padded. All machines must have as many ranks (`patterns.hierarchical`
and `sparse_hierarchical` serve uneven ones, and hide the levels behind each other, on the CPU).
"""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist

Compress = Callable[[torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]
"""Takes a shard and its place in the tensor; gives indices and values, padded to one length."""

Accumulate = Callable[[torch.Tensor, Sequence[torch.Tensor], Sequence[torch.Tensor]], None]
"""Adds lists of indices and values to a tensor, in order."""


def all_reduce(
    tensor: torch.Tensor,
    inside: dist.ProcessGroup | None,
    across: dist.ProcessGroup,
    compress: Compress | None = None,
    add: Accumulate | None = None,
) -> None:
    """Sums a tensor over all ranks, in place.

    Args:
        tensor: (n,), contiguous, on the groups' device.
        inside: the ranks of this machine, as many on every machine; None: this one alone.
        across: the ranks of this position on all machines.
        compress: takes what is sent of a shard, and keeps the rest; None sends all of it.
        add: with `compress`.
    """
    if inside is None or inside.size() == 1:
        _across(tensor, 0, across, compress, add)
        return
    local, elements = inside.size(), tensor.numel()
    length = -(-elements // local)
    padded = tensor
    if length * local != elements:
        padded = tensor.new_zeros(length * local)
        padded[:elements] = tensor
    shard = tensor.new_empty(length)
    inside._reduce_scatter_base(shard, padded, dist.ReduceScatterOptions()).wait()
    _across(shard, inside.rank() * length, across, compress, add)
    inside._allgather_base(padded, shard).wait()
    if padded is not tensor:
        tensor.copy_(padded[:elements])


def _across(
    shard: torch.Tensor,
    low: int,
    across: dist.ProcessGroup,
    compress: Compress | None,
    add: Accumulate | None,
) -> None:
    if compress is None:
        if across.size() > 1:
            across.allreduce([shard], dist.AllreduceOptions()).wait()
        return
    assert add is not None
    indices, values = compress(shard, low)
    machines = across.size()
    all_indices = indices.new_empty((machines, indices.numel()))
    all_values = values.new_empty((machines, values.numel()))
    if machines > 1:
        across._allgather_base(all_indices.view(-1), indices).wait()
        across._allgather_base(all_values.view(-1), values).wait()
    else:
        all_indices[0], all_values[0] = indices, values
    shard.zero_()
    add(shard, list(all_indices.unbind(0)), list(all_values.unbind(0)))
