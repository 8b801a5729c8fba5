"""Collectives that move rows and add nothing: every pair of ranks talks directly.

Each sends as many bytes as any algorithm must, and the order of arrival does not matter. Tensors
go as bytes, so every dtype serves.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist

_MAX_BYTES = 1 << 30  # of one message: Gloo counts in 32 bits in places


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The memory of a contiguous tensor as a flat uint8 tensor; no copy."""
    return tensor.reshape(-1).view(torch.uint8)


def exchange(
    group: dist.ProcessGroup, outgoing: Sequence[torch.Tensor], incoming: Sequence[torch.Tensor]
) -> None:
    """Sends `outgoing[i]` to member i and fills `incoming[i]` from it.

    Args:
        group: the members.
        outgoing: for each member a contiguous tensor, which may be empty.
        incoming: for each member a contiguous tensor of the agreed size; this rank's own part is
            copied.
    """
    me, size = group.rank(), group.size()
    incoming[me].copy_(outgoing[me])
    works = []
    # Everybody begins with another partner, so that nobody is everybody's first.
    for step in range(1, size):
        source, target = (me - step) % size, (me + step) % size
        for part in as_bytes(incoming[source]).split(_MAX_BYTES):
            if part.numel():
                works.append(group.recv([part], source, 0))
        for part in as_bytes(outgoing[target]).split(_MAX_BYTES):
            if part.numel():
                works.append(group.send([part], target, 0))
    for work in works:
        work.wait()


def all_gather(
    group: dist.ProcessGroup, tensor: torch.Tensor, lengths: Sequence[int]
) -> torch.Tensor:
    """All members' rows, in their order.

    Args:
        group: the members.
        tensor: (lengths[rank], ...), contiguous.
        lengths: rows of each member.
    """
    output = tensor.new_empty((sum(lengths), *tensor.shape[1:]))
    exchange(group, [tensor] * group.size(), output.split(list(lengths)))
    return output


def all_to_all(
    group: dist.ProcessGroup, tensor: torch.Tensor, splits: Sequence[Sequence[int]]
) -> tuple[torch.Tensor, list[int]]:
    """Member i's part j goes to member j.

    Args:
        group: the members.
        tensor: (rows, ...), contiguous.
        splits: `splits[i][j]`: rows from member i to member j.

    Returns:
        The rows received, in order of the members, and how many came from each.
    """
    me = group.rank()
    received = [row[me] for row in splits]
    output = tensor.new_empty((sum(received), *tensor.shape[1:]))
    sent = sum(splits[me])
    exchange(group, tensor[:sent].split(list(splits[me])), output.split(received))
    return output, received


def broadcast(group: dist.ProcessGroup, tensor: torch.Tensor, root: int) -> None:
    """Fills `tensor` (contiguous) with that of the member `root` (index in the group)."""
    options = dist.BroadcastOptions()
    options.rootRank = root
    options.rootTensor = 0
    for part in as_bytes(tensor).split(_MAX_BYTES):
        if part.numel():
            group.broadcast([part], options).wait()
