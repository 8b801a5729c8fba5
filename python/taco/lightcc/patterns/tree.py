"""Trees: as few messages one after another as can be, for what is too small for a ring.

`all_reduce` takes recursive doubling (log2 size messages of the whole) for small tensors, and
recursive halving and doubling (twice as many messages, the bytes of a ring) above. A world that is
no power of two folds its first ranks in pairs. (Thakur, Rabenseifner and Gropp, "Optimization of
collective communication operations in MPICH", IJHPCA 2005.) Each pair joins its partial results in
the order of the ranks, so all ranks hold the same bits, in every run.
"""

import torch

from taco.lightcc.patterns.reduction import Reduction, check_flat
from taco.lightcc.patterns.transport import Subgroup, Transport

SMALL_BYTES = 1 << 16
"""Up to here a message's own cost, some 0.3 ms on Gloo, outweighs that of its bytes."""


def all_reduce(
    transport: Transport,
    tensor: torch.Tensor,
    op: Reduction = Reduction.SUM,
    tag: int = 0,
    small_bytes: int = SMALL_BYTES,
) -> None:
    """Reduces a tensor over all ranks, in place.

    Args:
        transport: joins the ranks.
        tensor: (n,), contiguous, any dtype that torch can add, the same n on every rank.
        op: the operator.
        tag: of all messages.
        small_bytes: recursive doubling up to so many bytes; the same on every rank.

    Raises:
        ValueError: the tensor is not flat and contiguous.
    """
    check_flat(tensor)
    if transport.size == 1 or tensor.numel() == 0:
        return
    power = 1 << (transport.size.bit_length() - 1)
    folded = transport.size - power
    partner = transport.rank ^ 1
    if transport.rank < 2 * folded:
        if transport.rank % 2 == 0:
            transport.send(tensor, partner, tag).wait()
            transport.recv(tensor, partner, tag).wait()
            return
        arrived = torch.empty_like(tensor)
        transport.recv(arrived, partner, tag).wait()
        _join(op, tensor, arrived, other_first=True)
    others = Subgroup(transport, [*range(1, 2 * folded, 2), *range(2 * folded, transport.size)])
    if tensor.numel() * tensor.element_size() <= small_bytes or tensor.numel() < power:
        _doubling(others, tensor, op, tag)
    else:
        _halving_doubling(others, tensor, op, tag)
    if transport.rank < 2 * folded:
        transport.send(tensor, partner, tag).wait()


def broadcast(
    transport: Transport, tensor: torch.Tensor, root: int, tag: int = 0, piece_bytes: int = 1 << 20
) -> None:
    """Fills a tensor with the root's, along a binomial tree, in pieces.

    Args:
        transport: joins the ranks.
        tensor: (n,), contiguous, the same n on every rank.
        root: the rank that has it.
        tag: of all messages.
        piece_bytes: bytes of one message: a piece travels on while the next arrives.

    Raises:
        ValueError: the tensor is not flat and contiguous, or there is no such root.
    """
    check_flat(tensor)
    size = transport.size
    if not 0 <= root < size:
        raise ValueError(f"root {root} is no rank below {size}")
    place = (transport.rank - root) % size
    # The lowest set bit of a place names its parent; the bits below it its children.
    lowest = place & -place if place else 1 << size.bit_length()
    below = [1 << bit for bit in reversed(range(lowest.bit_length() - 1))]
    children = [place + bit for bit in below if place + bit < size]
    sends = []
    pieces = tensor.split(max(1, piece_bytes // tensor.element_size())) if tensor.numel() else ()
    parent = (place - lowest + root) % size
    arrivals = [transport.recv(piece, parent, tag) for piece in pieces] if place else []
    for number, piece in enumerate(pieces):
        if place:
            arrivals[number].wait()
        sends += [transport.send(piece, (child + root) % size, tag) for child in children]
    for work in sends:
        work.wait()


def barrier(transport: Transport, tag: int = 0) -> None:
    """Returns when all ranks have called it: log2 size rounds of one byte (dissemination)."""
    distance = 1
    while distance < transport.size:
        token, arrived = torch.zeros(1, dtype=torch.uint8), torch.empty(1, dtype=torch.uint8)
        work = transport.recv(arrived, (transport.rank - distance) % transport.size, tag)
        transport.send(token, (transport.rank + distance) % transport.size, tag).wait()
        work.wait()
        distance *= 2


def _join(op: Reduction, mine: torch.Tensor, other: torch.Tensor, other_first: bool) -> None:
    """`mine = mine (op) other`, the lower rank's operand first."""
    if other_first:
        op.into(other, mine)
        mine.copy_(other)
    else:
        op.into(mine, other)


def _doubling(transport: Transport, tensor: torch.Tensor, op: Reduction, tag: int) -> None:
    arrived = torch.empty_like(tensor)
    distance = 1
    while distance < transport.size:
        partner = transport.rank ^ distance
        receive = transport.recv(arrived, partner, tag)
        transport.send(tensor, partner, tag).wait()
        receive.wait()
        _join(op, tensor, arrived, partner < transport.rank)
        distance *= 2


def _halving_doubling(transport: Transport, tensor: torch.Tensor, op: Reduction, tag: int) -> None:
    low, high = 0, tensor.numel()
    arrived = tensor.new_empty((high + 1) // 2)
    halves = []
    distance = transport.size // 2
    while distance:
        partner = transport.rank ^ distance
        middle = (low + high) // 2
        first, second = (low, middle), (middle, high)
        mine, theirs = (first, second) if transport.rank < partner else (second, first)
        halves.append((partner, mine, theirs))
        part = arrived[: mine[1] - mine[0]]
        receive = transport.recv(part, partner, tag)
        send = transport.send(tensor[slice(*theirs)], partner, tag)
        receive.wait()
        _join(op, tensor[slice(*mine)], part, partner < transport.rank)
        send.wait()
        low, high = mine
        distance //= 2
    for partner, mine, theirs in reversed(halves):
        receive = transport.recv(tensor[slice(*theirs)], partner, tag)
        transport.send(tensor[slice(*mine)], partner, tag).wait()
        receive.wait()
