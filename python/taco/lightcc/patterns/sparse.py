"""Sum of sparse lists over all ranks, the plain way: everybody gets everybody's list.

A rank sends and receives the lists of all others, k (size - 1) elements. For a few ranks nothing is
shorter; `sparse_balanced` is for many, `sparse_hierarchical` for machines with several ranks.
"""

import torch

from taco.lightcc.patterns.gather import all_gather_bytes, gather_lengths
from taco.lightcc.patterns.sparse_list import Accumulate, SparseList, accumulate
from taco.lightcc.patterns.sparse_wire import WireFormat, decode, encode
from taco.lightcc.patterns.transport import Transport


def all_reduce(
    transport: Transport,
    part: SparseList,
    out: torch.Tensor,
    wire: WireFormat | None = None,
    tag: int = 0,
    add: Accumulate = accumulate,
) -> list[SparseList]:
    """Fills `out` with the sum of all ranks' lists, which may differ in length.

    The lists are added in order of the ranks, so all ranks hold the same bits, in every run.

    Args:
        transport: joins the ranks.
        part: this rank's list.
        out: (part.length,), overwritten.
        wire: how lists are sent; the same on every rank.
        tag: of all messages.
        add: adds a list into `out`.

    Returns:
        What did not arrive and belongs into this rank's residual: what rounding to the wire's dtype
        took. Nothing if it is the lists' own.

    Raises:
        ValueError: `part` is not as it has to be, or `out` is of another length.
        WireError: another rank's list is not as it has to be.
    """
    wire = wire or WireFormat()
    if out.shape != (part.length,):
        raise ValueError(f"a list of length {part.length} does not fit {tuple(out.shape)}")
    message = encode(part, wire)
    lengths = gather_lengths(transport, len(message), tag)
    messages = all_gather_bytes(transport, message, lengths, tag)
    out.zero_()
    for each in messages:
        add(out, decode(each, part.length, wire.value_dtype or part.values.dtype))
    return rounded_off(part, wire)


def rounded_off(part: SparseList, wire: WireFormat) -> list[SparseList]:
    """What the wire's dtype cannot hold of a list's values; no list where that is nothing."""
    if wire.value_dtype in (None, part.values.dtype):
        return []
    lost = part.values - part.values.to(wire.value_dtype).to(part.values.dtype)
    return [SparseList(part.indices, lost, part.length)]
