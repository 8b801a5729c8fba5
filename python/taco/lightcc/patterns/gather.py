"""Gathers of what differs in length: the lengths first, then the bytes on a ring."""

import torch

from taco.lightcc.patterns import ring
from taco.lightcc.patterns.transport import Transport


def exchange_counts(transport: Transport, own: torch.Tensor, tag: int = 0) -> torch.Tensor:
    """A few numbers from every rank to every rank, in one step.

    Args:
        transport: joins the ranks.
        own: (size, m), contiguous: row i is for rank i.
        tag: of all messages.

    Returns:
        (size, m): row i is from rank i.
    """
    arrived = own.clone()
    others = [rank for rank in range(transport.size) if rank != transport.rank]
    works = [transport.recv(arrived[rank], rank, tag) for rank in others]
    works += [transport.send(own[rank], rank, tag) for rank in others]
    for work in works:
        work.wait()
    return arrived


def gather_lengths(transport: Transport, length: int, tag: int = 0) -> list[int]:
    """Every rank's length, in order of the ranks."""
    own = torch.full((transport.size, 1), length, dtype=torch.int64)
    lengths: list[int] = exchange_counts(transport, own, tag).squeeze(1).tolist()
    return lengths


def all_gather_bytes(
    transport: Transport, message: torch.Tensor, lengths: list[int], tag: int = 0
) -> list[torch.Tensor]:
    """Every rank's message.

    Args:
        transport: joins the ranks.
        message: (lengths[rank],) uint8.
        lengths: of all ranks' messages, from `gather_lengths`.
        tag: of all messages.

    Returns:
        The messages in order of the ranks, views of one buffer.
    """
    bounds = [0]
    for length in lengths:
        bounds.append(bounds[-1] + length)
    buffer = torch.empty(bounds[-1], dtype=torch.uint8)
    parts = [buffer[low:high] for low, high in zip(bounds, bounds[1:], strict=False)]
    parts[transport.rank].copy_(message)
    ring.all_gather(transport, buffer, bounds, tag)
    return parts
