"""Sum of sparse lists with O(k) bytes a rank, whatever the number of ranks.

    1. regions    The index space is cut into one region a rank, so that all regions hold equally
                  many of all ranks' indices.
    2. reduce     Every rank sends each region's elements to its owner, which adds them in order of
                  the ranks.
    3. select     The k largest sums over all regions are kept.
    4. gather     All ranks get all that is left, on a ring.

Words sent by a rank, an index and a value being one word each: at most 2 k in step 2 (each list
has at most k elements) and 2 k in step 4 (there are k in all); received: 2 k (1 + 1/8) + 2 size in
step 2, 2 k in step 4. Counting costs at most some k / 8 + 150 size words more. Ok-Topk (Li and
Hoefler, "Near-optimal sparse allreduce for distributed deep learning", PPoPP 2022) has 6 k, of
which 2 k balance what is left before a recursive doubling; a ring needs no balance.

What is cut in step 3 is lost for the sum. It is returned to whoever sent it, for its residual.
"""

import torch

from taco.lightcc.patterns.gather import all_gather_bytes, exchange_counts, gather_lengths
from taco.lightcc.patterns.selection import balanced_limits, kth_largest
from taco.lightcc.patterns.sparse_list import Accumulate, SparseList, accumulate
from taco.lightcc.patterns.sparse_wire import WireFormat, decode, encode
from taco.lightcc.patterns.transport import Transport


def all_reduce(
    transport: Transport,
    part: SparseList,
    k: int,
    out: torch.Tensor,
    wire: WireFormat | None = None,
    tag: int = 0,
    add: Accumulate = accumulate,
) -> list[SparseList]:
    """Fills `out` with the k largest elements (by magnitude) of the sum of all ranks' lists.

    Of elements of one magnitude the lower index is taken; magnitudes are compared in fp32, NaN
    being the largest. All ranks hold the same bits, in every run.

    Args:
        transport: joins the ranks.
        part: this rank's list; the bounds above hold if it has at most k elements.
        k: elements to keep of the sum, at least 1; the same on every rank.
        out: (part.length,), overwritten.
        wire: how lists are sent; the same on every rank.
        tag: of all messages.
        add: adds a list into a piece of `out`.

    Returns:
        Lists of what did not arrive and belongs into this rank's residual: own elements that were
        cut, and what rounding to the wire's dtype took, of own elements and of own region's sums.
        The result and all ranks' lists together are the sum of what all ranks gave.

    Raises:
        ValueError: `part`, `k` or `out` is not as it has to be.
        WireError: another rank's list is not as it has to be.
    """
    wire = wire or WireFormat()
    if out.shape != (part.length,) or k < 1:
        raise ValueError(
            f"k = {k} of a list of length {part.length}, into a tensor {tuple(out.shape)}"
        )
    tolerance = max(k // 16, 1)
    limits = balanced_limits(transport, part.indices, part.length, tolerance, tag)
    out.zero_()
    low, high = limits[transport.rank : transport.rank + 2]
    region = out[low:high]
    indices, sent_rounded = _reduce(transport, part, limits, region, wire, tag, add)

    sums = region[indices.long()]
    region[indices.long()] = 0
    keys = sums.abs().float().view(torch.int32)
    threshold, ties, _ = kth_largest(transport, keys, k, tag)
    chosen = keys > threshold
    chosen[(keys == threshold).nonzero().squeeze(1)[:ties]] = True
    kept = SparseList(indices[chosen], sums[chosen], high - low)

    message = encode(kept, wire)
    messages = all_gather_bytes(
        transport, message, gather_lengths(transport, len(message), tag), tag
    )
    final = []
    for rank, each in enumerate(messages):
        first, last = limits[rank : rank + 2]
        arrived = decode(each, last - first, wire.value_dtype or out.dtype)
        add(out[first:last], arrived)
        final.append(arrived.indices + first)
    return _dropped(part, torch.cat(final), sent_rounded) + _rounding(kept, part.length, low, wire)


def _reduce(
    transport: Transport,
    part: SparseList,
    limits: list[int],
    region: torch.Tensor,
    wire: WireFormat,
    tag: int,
    add: Accumulate,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Step 2. Returns the indices that occur in the own region, and `part`'s values as others got
    them."""
    size, rank = transport.size, transport.rank
    own = [part.slice(limits[each], limits[each + 1]) for each in range(size)]
    outgoing = [
        torch.empty(0, dtype=torch.uint8)
        if each == rank or not len(own[each].indices)
        else encode(own[each], wire)
        for each in range(size)
    ]
    lengths = torch.tensor([[len(message)] for message in outgoing], dtype=torch.int32)
    arriving = exchange_counts(transport, lengths, tag).squeeze(1).tolist()
    incoming = [torch.empty(length, dtype=torch.uint8) for length in arriving]
    works = [transport.recv(incoming[each], each, tag) for each in range(size) if arriving[each]]
    works += [
        transport.send(message, each, tag) for each, message in enumerate(outgoing) if len(message)
    ]
    for work in works:
        work.wait()
    seen = []
    for each in range(size):
        if each == rank:
            piece = own[rank]
        elif arriving[each]:
            piece = decode(incoming[each], len(region), wire.value_dtype or part.values.dtype)
        else:
            continue
        add(region, piece)
        seen.append(piece.indices)
    rounded = part.values
    if wire.value_dtype is not None:
        rounded = part.values.to(wire.value_dtype).to(part.values.dtype)
        inside = (part.indices >= limits[rank]) & (part.indices < limits[rank + 1])
        rounded = torch.where(inside, part.values, rounded)
    return torch.unique(torch.cat(seen)), rounded


def _dropped(part: SparseList, final: torch.Tensor, rounded: torch.Tensor) -> list[SparseList]:
    """What of `part` is not in the sum: all of an element that was cut, else what rounding took."""
    if len(final):
        places = torch.searchsorted(final, part.indices).clamp(max=len(final) - 1)
        arrived = torch.where(final[places] == part.indices, rounded, 0)
    else:
        arrived = torch.zeros_like(rounded)
    lost = part.values - arrived
    gone = (lost != 0).nonzero().squeeze(1)
    return [SparseList(part.indices[gone], lost[gone], part.length)] if len(gone) else []


def _rounding(kept: SparseList, length: int, low: int, wire: WireFormat) -> list[SparseList]:
    """What the wire's dtype could not hold of the sums of the own region."""
    if wire.value_dtype in (None, kept.values.dtype) or not len(kept.indices):
        return []
    lost = kept.values - kept.values.to(wire.value_dtype).to(kept.values.dtype)
    return [SparseList(kept.indices + low, lost, length)]
