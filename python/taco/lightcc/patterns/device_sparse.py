"""Sums of TopK's lists by collectives alone: for devices. The host waits for nothing.

Lists are as `topk_compress` gives them: ascending, padded to one length with an index that occurs
and the value 0, so that shapes depend on no data.
"""

from typing import Any

import torch
import torch.distributed as dist


def gather(
    group: dist.ProcessGroup,
    indices: torch.Tensor,
    values: torch.Tensor,
    out: torch.Tensor,
    ops: Any,
) -> int:
    """Fills `out` with the sum of all ranks' lists; every rank sends its list to all.

    Args:
        group: the ranks.
        indices: (m,) int32; m is the same on every rank.
        values: (m,).
        out: (n,) float32, overwritten.
        ops: `torch.ops.taco`.

    Returns:
        Bytes that this rank has sent, as a ring has them.
    """
    size = group.size()
    all_indices, all_values = _gathered(group, indices), _gathered(group, values)
    out.zero_()
    ops.topk_accumulate_(out, list(all_indices.unbind(0)), list(all_values.unbind(0)))
    return (size - 1) * (indices.nbytes + values.nbytes)


def balanced(
    group: dist.ProcessGroup,
    indices: torch.Tensor,
    values: torch.Tensor,
    k: int,
    residual: torch.Tensor,
    out: torch.Tensor,
    ops: Any,
) -> int:
    """Fills `out` with the largest elements of the sum of all lists, in O(k) bytes a rank.

    As `sparse_balanced`: the indices are cut into a region a rank, owners add up what is in theirs
    and send the largest to all. Two things differ, so that shapes are known beforehand. A rank has
    room for 2 k / size elements for each owner, and an owner for k / size in the end: with an index
    and a value being a word each, at most 6 k words. What finds no room goes into the residual: of
    a list, its own rank's; of a sum, its owner's. And the limits are the mean of the ranks'
    quantiles, not counted again: where ranks' indices lie apart, more has to wait.

    Args:
        group: the ranks.
        indices: (m,) int32, ascending; m is the same on every rank.
        values: (m,).
        k: the same on every rank, at least 1.
        residual: (n,) float32, in and out: what the sum lacks is added.
        out: (n,) float32, overwritten.
        ops: `torch.ops.taco`.

    Returns:
        Bytes that this rank has sent.
    """
    size = group.size()
    room, kept = max(1, 2 * k // size), max(1, k // size)
    owner = torch.searchsorted(_limits(group, indices, values, out.numel()), indices, right=True)
    place = torch.arange(indices.numel(), device=indices.device)
    place = place - torch.searchsorted(owner, owner)  # in its region: owners ascend
    fits = place < room
    # What has no room goes to a place behind the last, which is not sent. Room that is left is
    # padded as TopK's lists are, for sums in one pass.
    slot = torch.where(fits, owner * room + place, size * room)
    outgoing_indices = indices.new_full((size * room + 1,), out.numel() - 1).scatter_(
        0, slot, indices
    )[:-1]
    outgoing_values = values.new_zeros(size * room + 1).scatter_(0, slot, values)[:-1]
    ops.topk_accumulate_(residual, [indices], [values.masked_fill(fits, 0)])

    arrived = (_exchanged(group, outgoing_indices), _exchanged(group, outgoing_values))
    sums, rest = torch.zeros_like(out), torch.zeros_like(out)
    ops.topk_accumulate_(sums, list(arrived[0].split(room)), list(arrived[1].split(room)))
    state = torch.zeros(8, dtype=torch.float64, device=out.device)
    largest, theirs, _ = ops.topk_compress(
        sums, rest, state, min(kept, out.numel()), exact=True, values_dtype=values.dtype
    )
    residual.add_(rest)
    sent = (size - 1) * room * (indices.element_size() + values.element_size())
    return sent + gather(group, largest, theirs, out, ops)


def _limits(
    group: dist.ProcessGroup, indices: torch.Tensor, values: torch.Tensor, elements: int
) -> torch.Tensor:
    """(size - 1,) first indices of all regions but the first: the mean of the ranks' quantiles."""
    size = group.size()
    parts = torch.arange(1, size, device=indices.device)
    count = (values != 0).sum()  # without the padding
    places = (count * parts // size).clamp(max=indices.numel() - 1)
    even = elements * parts // size
    limits = torch.where(count > 0, indices[places].long(), even)
    if size > 1:
        group.allreduce([limits], dist.AllreduceOptions()).wait()
    return (limits // size).to(indices.dtype)


def _gathered(group: dist.ProcessGroup, tensor: torch.Tensor) -> torch.Tensor:
    """(size, m)"""
    whole = tensor.new_empty((group.size(), tensor.numel()))
    if group.size() > 1:
        group._allgather_base(whole.view(-1), tensor.contiguous()).wait()
    else:
        whole[0] = tensor
    return whole


def _exchanged(group: dist.ProcessGroup, tensor: torch.Tensor) -> torch.Tensor:
    """Equal parts, one for each rank, and from each."""
    arrived = torch.empty_like(tensor)
    group.alltoall_base(arrived, tensor.contiguous(), [], [], dist.AllToAllOptions()).wait()
    return arrived
