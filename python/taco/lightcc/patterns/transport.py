"""What a pattern needs of whatever carries its bytes, and the transports that are made of others.

A transport joins `size` ranks. Messages of one (source, destination, tag) arrive in the order of
their sends; different tags overtake each other. Both sides have agreed on the length beforehand: a
message that is longer than the tensor which waits for it ends the process in Gloo.
"""

import collections
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
import torch.distributed as dist


class Work(Protocol):
    """A send or receive under way."""

    def wait(self) -> object:
        """Returns when the tensor may be used again; raises what went wrong."""
        ...


class Transport(Protocol):
    """Joins ranks 0 to size - 1. All methods may be called from several threads at once."""

    @property
    def rank(self) -> int:
        """This rank."""
        ...

    @property
    def size(self) -> int:
        """Number of ranks."""
        ...

    def send(self, tensor: torch.Tensor, dst: int, tag: int = 0) -> Work:
        """Begins to send a contiguous tensor, which must not change until `wait` has returned."""
        ...

    def recv(self, tensor: torch.Tensor, src: int, tag: int = 0) -> Work:
        """Begins to fill a contiguous tensor of the length and dtype that `src` sends."""
        ...


class GroupTransport:
    """A torch process group (Gloo) as a transport.

    A wait that lasts longer than the group's timeout, and a peer that died, raise RuntimeError.

    Args:
        group: for example `dist.ProcessGroupGloo(store, rank, size, options)`. It may be shared
            with others as long as they use other tags.
        tag: added to every tag, so that several transports can share a group.
    """

    def __init__(self, group: dist.ProcessGroup, tag: int = 0) -> None:
        self._group = group
        self._tag = tag
        self.rank: int = group.rank()
        self.size: int = group.size()

    def send(self, tensor: torch.Tensor, dst: int, tag: int = 0) -> Work:
        """See `Transport.send`."""
        work: Work = self._group.send([tensor], dst, self._tag + tag)
        return work

    def recv(self, tensor: torch.Tensor, src: int, tag: int = 0) -> Work:
        """See `Transport.recv`."""
        work: Work = self._group.recv([tensor], src, self._tag + tag)
        return work


class Subgroup:
    """Some ranks of another transport, numbered anew in the order given.

    Args:
        transport: that of all ranks.
        ranks: the members, each once; the caller's own rank is among them.

    Raises:
        ValueError: a rank stands there twice or is none of the transport's, or the own one is not
            there.
    """

    def __init__(self, transport: Transport, ranks: Sequence[int]) -> None:
        if len(set(ranks)) != len(ranks) or not all(0 <= r < transport.size for r in ranks):
            raise ValueError(f"{list(ranks)} are not distinct ranks below {transport.size}")
        if transport.rank not in ranks:
            raise ValueError(f"rank {transport.rank} is not one of the subgroup {list(ranks)}")
        self._transport = transport
        self._ranks = tuple(ranks)
        self.rank: int = self._ranks.index(transport.rank)
        self.size: int = len(self._ranks)

    def send(self, tensor: torch.Tensor, dst: int, tag: int = 0) -> Work:
        """See `Transport.send`; `dst` is a member's number in the subgroup."""
        return self._transport.send(tensor, self._ranks[dst], tag)

    def recv(self, tensor: torch.Tensor, src: int, tag: int = 0) -> Work:
        """See `Transport.recv`; `src` is a member's number in the subgroup."""
        return self._transport.recv(tensor, self._ranks[src], tag)


class CountingTransport:
    """Counts the bytes that another transport carries from and to this rank.

    Args:
        transport: the one that carries them.
        level_of: the name of the level between this rank and a peer, such as "inside" or "across".

    Attributes:
        sent: bytes sent to each peer.
        received: bytes received from each peer.
    """

    def __init__(
        self, transport: Transport, level_of: Callable[[int], str] = lambda peer: "all"
    ) -> None:
        self._transport = transport
        self._level_of = level_of
        self._lock = threading.Lock()
        self.rank: int = transport.rank
        self.size: int = transport.size
        self.sent: collections.Counter[int] = collections.Counter()
        self.received: collections.Counter[int] = collections.Counter()

    def send(self, tensor: torch.Tensor, dst: int, tag: int = 0) -> Work:
        """See `Transport.send`."""
        with self._lock:
            self.sent[dst] += tensor.numel() * tensor.element_size()
        return self._transport.send(tensor, dst, tag)

    def recv(self, tensor: torch.Tensor, src: int, tag: int = 0) -> Work:
        """See `Transport.recv`."""
        with self._lock:
            self.received[src] += tensor.numel() * tensor.element_size()
        return self._transport.recv(tensor, src, tag)

    def sent_by_level(self) -> dict[str, int]:
        """Bytes sent at each level."""
        totals: collections.Counter[str] = collections.Counter()
        with self._lock:
            for peer, count in self.sent.items():
                totals[self._level_of(peer)] += count
        return dict(totals)
