"""TopK in two levels: dense where links are fast, sparse where they are slow.

    inside   dense reduce-scatter: each rank of a machine gets the machine's sum of a shard
             compress: the caller takes the largest elements of the shard
    across   the lists go to the owners of the same shard on all machines
    inside   allgather: of the lists, or of the dense shard if that is shorter

The tensor goes through in chunks, and all steps work at the same time, on different chunks. Groups
of one rank each make it the flat exchange of `sparse`, in chunks. (HiTopKComm, arXiv 2010.10458,
whose last step is always dense.)
"""

import dataclasses
from collections.abc import Callable, Sequence

import torch

from taco.lightcc.patterns import ring
from taco.lightcc.patterns.gather import all_gather_bytes, gather_lengths
from taco.lightcc.patterns.pipeline import run_pipeline
from taco.lightcc.patterns.plan import Segment, checked_levels, plan
from taco.lightcc.patterns.reduction import check_flat
from taco.lightcc.patterns.sparse import rounded_off
from taco.lightcc.patterns.sparse_list import Accumulate, SparseList, accumulate
from taco.lightcc.patterns.sparse_wire import WireError, WireFormat, decode, encode
from taco.lightcc.patterns.transport import Subgroup, Transport

Compress = Callable[[torch.Tensor, int], SparseList]
"""Takes a shard of a chunk and its place in the tensor; gives a list of the shard's length."""

TAGS = 3
"""How many tags, from the one given, are used."""


@dataclasses.dataclass(frozen=True)
class SparseOptions:
    """How lists are sent and the work is cut; the same on every rank.

    Attributes:
        wire: how lists are sent.
        chunk_bytes: bytes of the tensor that go through the steps together.
        inner: the dense rings inside a group.
    """

    wire: WireFormat = WireFormat()
    chunk_bytes: int = 16 << 20
    inner: ring.RingOptions = ring.RingOptions()

    def __post_init__(self) -> None:
        if self.chunk_bytes < 1:
            raise ValueError(f"chunk_bytes has to be at least 1: {self}")


def all_reduce(
    transport: Transport,
    tensor: torch.Tensor,
    groups: Sequence[Sequence[int]],
    compress: Compress,
    options: SparseOptions | None = None,
    tag: int = 0,
    add: Accumulate = accumulate,
) -> list[tuple[int, SparseList]]:
    """Replaces a tensor by the sum over groups of the compressed sums over their ranks.

    Lists are added in order of the groups, so all ranks hold the same bits, in every run.

    Args:
        transport: joins the ranks.
        tensor: (n,), contiguous, the same n on every rank.
        groups: the ranks of each machine. They may differ in number.
        compress: chooses what is sent of a shard, and keeps what is not (the residual). It is
            called from another thread, chunk after chunk.
        options: how the work is cut.
        tag: the first of the `TAGS` tags used.
        add: adds a list into a piece of the tensor.

    Returns:
        What of this rank's lists did not arrive, for its residual: places in the tensor, and the
        lists that begin there. Nothing unless the wire has another dtype (see `sparse`).

    Raises:
        ValueError: the tensor, the groups or a list are not as they have to be.
        WireError: another rank's list is not as it has to be.
    """
    check_flat(tensor)
    options = options or SparseOptions()
    checked_levels(transport.size, [groups])
    if tensor.numel() == 0:
        return []
    chunks = tensor.split(max(1, options.chunk_bytes // tensor.element_size()))
    passes, low = [], 0
    for chunk in chunks:
        passes.append(_Pass(transport, chunk, low, groups, compress, options, tag, add))
        low += chunk.numel()
    steps = (_Pass.reduce_scatter, _Pass.compress, _Pass.across, _Pass.inside)
    stages = [lambda number, step=step: step(passes[number]) for step in steps]
    run_pipeline(stages, range(len(passes)))
    return [(each.low + each.shard_low, lost) for each in passes for lost in each.lost]


class _Pass:
    """A chunk on its way; the methods are its steps, in order."""

    def __init__(
        self,
        transport: Transport,
        chunk: torch.Tensor,
        low: int,
        groups: Sequence[Sequence[int]],
        compress: Compress,
        options: SparseOptions,
        tag: int,
        add: Accumulate,
    ) -> None:
        self._transport = transport
        self._chunk = chunk
        self.low = low
        self._levels = checked_levels(transport.size, [groups])
        self._compress = compress
        self._options = options
        self._tag = tag
        self._add = add
        self._members = next(group for group in self._levels[0] if transport.rank in group)
        self._group = Subgroup(transport, self._members)
        self._bounds = Segment(0, chunk.numel(), self._members).bounds
        self.shard_low = self._bounds[self._group.rank]
        self._shard = chunk[self.shard_low : self._bounds[self._group.rank + 1]]
        self._dtype = chunk.dtype
        self._own: list[tuple[Segment, torch.Tensor]] = []
        self._received: list[tuple[Segment, list[torch.Tensor]]] = []
        self.lost: list[SparseList] = []

    def reduce_scatter(self) -> None:
        """The shard becomes the group's sum."""
        options = self._options.inner
        ring.reduce_scatter(self._group, self._chunk, self._bounds, tag=self._tag, options=options)

    def compress(self) -> None:
        """Takes the largest elements of the shard, and makes a message of each segment of it."""
        wire = self._options.wire
        part = self._compress(self._shard, self.low + self.shard_low)
        if part.length != self._shard.numel():
            raise ValueError(
                f"compress gave a list of length {part.length} for {self._shard.numel()} elements"
            )
        self._dtype = wire.value_dtype or part.values.dtype
        self.lost = rounded_off(part, wire)
        for segment in self._segments(self._group.rank):
            low, high = segment.low - self.shard_low, segment.high - self.shard_low
            self._own.append((segment, encode(part.slice(low, high), wire)))

    def across(self) -> None:
        """Fetches the other groups' messages of the same segments."""
        for segment, message in self._own:
            owners = Subgroup(self._transport, segment.owners)
            lengths = gather_lengths(owners, len(message), self._tag + 1)
            messages = all_gather_bytes(owners, message, lengths, self._tag + 1)
            self._received.append((segment, messages))

    def inside(self) -> None:
        """Gives the members of the group all messages, or the sums of them if these are shorter."""
        table = [len(message) for _, messages in self._received for message in messages]
        if len(self._members) == 1:
            self._chunk.zero_()
            self._add_all(self._received)
            return
        lengths = gather_lengths(self._group, 8 * len(table) + sum(table), self._tag + 2)
        if sum(lengths) >= self._chunk.numel() * self._chunk.element_size():
            self._shard.zero_()
            self._add_all(self._received)
            options = self._options.inner
            ring.all_gather(self._group, self._chunk, self._bounds, self._tag + 2, options)
            return
        header = torch.tensor(table, dtype=torch.int64).view(torch.uint8)
        messages = [message for _, messages in self._received for message in messages]
        blob = torch.cat([header, *messages])
        blobs = all_gather_bytes(self._group, blob, lengths, self._tag + 2)
        self._chunk.zero_()
        for member, each in enumerate(blobs):
            self._add_all(_parsed(each, self._segments(member)))

    def _segments(self, member: int) -> Sequence[Segment]:
        """What a member shares with other groups; its whole shard if there is no other group."""
        if len(self._levels[0]) > 1:
            return plan(self._chunk.numel(), self._levels, self._members[member])[-1]
        low, high = self._bounds[member : member + 2]
        return [Segment(low, high, (self._members[member],))] if low < high else []

    def _add_all(self, received: Sequence[tuple[Segment, Sequence[torch.Tensor]]]) -> None:
        for segment, messages in received:
            target = self._chunk[segment.low : segment.high]
            for message in messages:
                self._add(target, decode(message, segment.high - segment.low, self._dtype))


def _parsed(
    blob: torch.Tensor, segments: Sequence[Segment]
) -> list[tuple[Segment, list[torch.Tensor]]]:
    """The messages of a member, as it put them together."""
    number = sum(len(segment.owners) for segment in segments)
    table = blob[: 8 * number].view(torch.int64).tolist() if len(blob) >= 8 * number else []
    if len(table) != number or min(table, default=0) < 0 or 8 * number + sum(table) != len(blob):
        raise WireError(f"{len(blob)} bytes do not hold {number} lists of lengths {table}")
    pieces = list(blob[8 * number :].split(table)) if table else []
    result = []
    for segment in segments:
        result.append((segment, pieces[: len(segment.owners)]))
        del pieces[: len(segment.owners)]
    return result
