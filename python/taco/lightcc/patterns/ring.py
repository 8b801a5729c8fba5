"""Rings: every rank sends to the next and receives from the one before, in pieces.

Part p of the tensor belongs to rank p. At step t rank r receives part (r - 2 - t) mod size, and
passes on at step t + 1 what it has received:

    steps 0 ... size-2          reduce-scatter: add what arrives; the last that arrives is part r
    steps size-1 ... 2 size-3   allgather: keep what arrives

Parts are cut into pieces, and a piece travels on as soon as it is there: the link is busy while
the next piece is being added, and the step from reduce-scatter to allgather costs nothing. Each
element is reduced along one chain of ranks and then spread, so all ranks hold the same bits, in
every run. (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms", JPDC 2009.)
"""

import collections
import dataclasses
from collections.abc import Sequence

import torch

from taco.lightcc.patterns.reduction import Reduction, check_flat, even_bounds
from taco.lightcc.patterns.transport import Transport, Work


@dataclasses.dataclass(frozen=True)
class RingOptions:
    """How a ring is cut; docs/lightcc_patterns.md says what was measured.

    Attributes:
        piece_bytes: bytes of one message. Half a MiB keeps what arrives in the second-level cache
            until it is added, and makes the cost of a message small beside that of its bytes.
        depth: receives that wait at a time; each needs a scratch of `piece_bytes`.
    """

    piece_bytes: int = 1 << 19
    depth: int = 4

    def __post_init__(self) -> None:
        if self.piece_bytes < 1 or self.depth < 1:
            raise ValueError(f"piece_bytes and depth have to be at least 1: {self}")


def all_reduce(
    transport: Transport,
    tensor: torch.Tensor,
    op: Reduction = Reduction.SUM,
    tag: int = 0,
    options: RingOptions | None = None,
) -> None:
    """Reduces a tensor over all ranks, in place.

    Each rank sends 2 (size - 1) / size of the tensor's bytes, which is the least there can be.

    Args:
        transport: joins the ranks.
        tensor: (n,), contiguous, any dtype that torch can add, the same n on every rank.
        op: the operator.
        tag: of all messages.
        options: how the work is cut; the same on every rank.

    Raises:
        ValueError: the tensor is not flat and contiguous.
    """
    bounds = even_bounds(tensor.numel(), transport.size)
    steps = transport.size - 1
    _walk(transport, tensor, bounds, range(2 * steps), op, tag, options or RingOptions())


def reduce_scatter(
    transport: Transport,
    tensor: torch.Tensor,
    bounds: Sequence[int] | None = None,
    op: Reduction = Reduction.SUM,
    tag: int = 0,
    options: RingOptions | None = None,
) -> torch.Tensor:
    """Reduces a tensor over all ranks, each rank a part of it.

    Args:
        transport: joins the ranks.
        tensor: (n,), contiguous; afterwards only this rank's part of it means something.
        bounds: (size + 1,) limits of the parts, ascending from 0 to n; None: equal parts.
        op: the operator.
        tag: of all messages.
        options: how the work is cut; the same on every rank.

    Returns:
        This rank's part, a view of `tensor`.

    Raises:
        ValueError: the tensor is not flat and contiguous, or the bounds do not cover it.
    """
    bounds = _checked(bounds, tensor, transport.size)
    steps = transport.size - 1
    _walk(transport, tensor, bounds, range(steps), op, tag, options or RingOptions())
    return tensor[bounds[transport.rank] : bounds[transport.rank + 1]]


def all_gather(
    transport: Transport,
    tensor: torch.Tensor,
    bounds: Sequence[int] | None = None,
    tag: int = 0,
    options: RingOptions | None = None,
) -> None:
    """Fills a tensor of which each rank holds a part, in place.

    Args:
        transport: joins the ranks.
        tensor: (n,), contiguous; this rank's part of it is sent, the others are overwritten.
        bounds: (size + 1,) limits of the parts, ascending from 0 to n; None: equal parts.
        tag: of all messages.
        options: how the work is cut; the same on every rank.

    Raises:
        ValueError: the tensor is not flat and contiguous, or the bounds do not cover it.
    """
    bounds = _checked(bounds, tensor, transport.size)
    first = transport.size - 1
    steps = range(first, 2 * first)
    _walk(transport, tensor, bounds, steps, Reduction.SUM, tag, options or RingOptions())


def _checked(bounds: Sequence[int] | None, tensor: torch.Tensor, size: int) -> Sequence[int]:
    if bounds is None:
        return even_bounds(tensor.numel(), size)
    if len(bounds) != size + 1 or (bounds[0], bounds[-1]) != (0, tensor.numel()):
        raise ValueError(f"{size + 1} bounds from 0 to {tensor.numel()} are needed, not {bounds}")
    if any(low > high for low, high in zip(bounds, bounds[1:], strict=False)):
        raise ValueError(f"the bounds do not ascend: {bounds}")
    return bounds


def _walk(
    transport: Transport,
    tensor: torch.Tensor,
    bounds: Sequence[int],
    steps: range,
    op: Reduction,
    tag: int,
    options: RingOptions,
) -> None:
    """Takes the steps named above. Piece i + depth is awaited when piece i has been used."""
    check_flat(tensor)
    size, rank = transport.size, transport.rank
    if not steps or tensor.numel() == 0:
        return
    ahead, behind = (rank + 1) % size, (rank - 1) % size
    length = max(1, options.piece_bytes // tensor.element_size())

    def pieces(part: int) -> list[torch.Tensor]:
        low, high = bounds[part], bounds[part + 1]
        return [tensor[at : min(at + length, high)] for at in range(low, high, length)]

    arrivals = [(step, piece) for step in steps for piece in pieces((rank - 2 - step) % size)]
    reducing = sum(step < size - 1 for step, _ in arrivals)
    widest = max((piece.numel() for _, piece in arrivals[:reducing]), default=0)
    scratch = [tensor.new_empty(widest) for _ in range(min(options.depth, reducing))]
    awaited: collections.deque[tuple[Work, torch.Tensor]] = collections.deque()

    def expect(number: int) -> None:
        piece = arrivals[number][1]
        if number < reducing:
            piece = scratch[number % options.depth][: piece.numel()]
        awaited.append((transport.recv(piece, behind, tag), piece))

    for number in range(min(options.depth, len(arrivals))):
        expect(number)
    sends = [transport.send(piece, ahead, tag) for piece in pieces((rank - 1 - steps[0]) % size)]
    for number, (step, piece) in enumerate(arrivals):
        work, arrived = awaited.popleft()
        work.wait()
        if number < reducing:
            op.into(piece, arrived)
        if step != steps[-1]:
            sends.append(transport.send(piece, ahead, tag))
        if number + options.depth < len(arrivals):
            expect(number + options.depth)
    for work in sends:
        work.wait()
