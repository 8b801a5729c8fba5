"""Ranks of one machine read each other's memory; what goes elsewhere goes through the group.

`over` joins a group's ranks of this machine when the group is first used, and every rank of the
machine has to take part then. Where one of them cannot (other users, other containers, a kernel or
a policy that forbids it) none does, and all that is sent takes the group's way, as it would have.
torch_ext/cma is the part that moves bytes.
"""

import contextlib
import datetime
import logging
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from taco import _loader
from taco.lightcc.patterns.gather import exchange_counts
from taco.lightcc.patterns.transport import GroupTransport, Subgroup, Transport, Work

_log = logging.getLogger("taco.lightcc")

_CARD_WORDS = 10
_DEFAULT_TIMEOUT = datetime.timedelta(minutes=30)


class _Message:
    """A send or receive under way."""

    def __init__(self, joined: "Joined", ticket: int) -> None:
        self._joined = joined
        self._ticket = ticket

    def wait(self) -> object:
        """See `Work.wait`."""
        return self._joined.endpoint.wait(self._ticket, self._joined.milliseconds)


class Joined:
    """The ranks of this machine that read each other's memory.

    Attributes:
        members: their ranks in the group; empty if they do not.
        endpoint: a `torch.classes.taco.CmaEndpoint` that joins them.
        milliseconds: how long a wait may last.
    """

    def __init__(self, members: Sequence[int], endpoint: Any, timeout: datetime.timedelta) -> None:
        self.members = tuple(members)
        self.endpoint = endpoint
        self.milliseconds = max(1, int(timeout.total_seconds() * 1000))

    def close(self) -> None:
        """Whoever waits for this rank, here or elsewhere, gets an error."""
        if self.endpoint is not None:
            self.endpoint.close()


class MachineTransport:
    """A transport whose messages between some of its ranks are read from memory.

    Args:
        transport: for all others.
        joined: those ranks.
        tag: added to every tag, as in `GroupTransport`.
    """

    def __init__(self, transport: Transport, joined: Joined, tag: int = 0) -> None:
        self._transport = transport
        self._joined = joined
        self._tag = tag
        self._place = {rank: place for place, rank in enumerate(joined.members)}
        self.rank: int = transport.rank
        self.size: int = transport.size

    def send(self, tensor: torch.Tensor, dst: int, tag: int = 0) -> Work:
        """See `Transport.send`."""
        place = self._place.get(dst)
        if place is None:
            return self._transport.send(tensor, dst, tag)
        ticket = self._joined.endpoint.send(tensor, place, self._tag + tag)
        return _Message(self._joined, ticket)

    def recv(self, tensor: torch.Tensor, src: int, tag: int = 0) -> Work:
        """See `Transport.recv`."""
        place = self._place.get(src)
        if place is None:
            return self._transport.recv(tensor, src, tag)
        ticket = self._joined.endpoint.receive(tensor, place, self._tag + tag)
        return _Message(self._joined, ticket)

    def close(self) -> None:
        """Ends all waits between the machine's ranks, here and at the others, with an error."""
        self._joined.close()


def join(
    transport: Transport, members: Sequence[int], timeout: datetime.timedelta, allowed: bool = True
) -> Joined:
    """Joins ranks of one machine. All of them call it, and all get the same answer.

    Args:
        transport: joins these ranks, and perhaps others.
        members: the ranks, this one among them.
        timeout: how long a wait may last afterwards.
        allowed: whether this rank is willing.

    Returns:
        The ranks; without members if one of them cannot be reached.
    """
    if len(members) < 2:
        return Joined((), None, timeout)
    group = Subgroup(transport, members)
    endpoint, why = None, "" if allowed else "TACO_CMA=0"
    card = torch.zeros(_CARD_WORDS, dtype=torch.int64)
    if allowed:
        try:
            _loader.load_torch_ops()
            endpoint = torch.classes.taco.CmaEndpoint(group.rank, group.size)
            card = endpoint.card()
        except (RuntimeError, OSError, ImportError) as error:
            why = str(error)
    cards = exchange_counts(group, card.expand(group.size, -1).contiguous())
    if endpoint is not None:
        why = endpoint.connect(cards)
    well = torch.full((group.size, 1), int(not why), dtype=torch.int64)
    votes = exchange_counts(group, well)
    if endpoint is not None:
        endpoint.open_no_more()
    if bool(votes.all()):
        return Joined(members, endpoint, timeout)
    if why:
        _log.info("ranks of this machine send through its loopback: %s", why)
    return Joined((), None, timeout)


_joined: "weakref.WeakKeyDictionary[dist.ProcessGroup, Joined]" = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def over(
    group: dist.ProcessGroup, tag: int, machines: Sequence[Sequence[int]] | None, allowed: bool
) -> Transport:
    """A group's transport. What it finds out at its first call for a group holds for all others.

    Args:
        group: of CPU tensors (Gloo).
        tag: added to every tag; the one below it is used as well.
        machines: the group's ranks by machine; None: not known, on any rank.
        allowed: whether this rank lets others read its memory.
    """
    transport = GroupTransport(group, tag)
    if machines is None:
        return transport
    with _lock:
        joined = _joined.get(group)
    if joined is None:
        own = next((ranks for ranks in machines if group.rank() in ranks), ())
        joined = join(GroupTransport(group, tag - 1), own, _timeout(group), allowed)
        with _lock:
            _joined[group] = joined
    return MachineTransport(transport, joined, tag) if joined.members else transport


def leave(group: dist.ProcessGroup) -> None:
    """Closes what `over` has joined: whoever waits in it gets an error."""
    with _lock:
        joined = _joined.pop(group, None)
    if joined is not None:
        joined.close()


def _timeout(group: dist.ProcessGroup) -> datetime.timedelta:
    backend = group
    with contextlib.suppress(RuntimeError, AttributeError):  # it is a backend itself
        backend = group._get_backend(torch.device("cpu"))
    options = getattr(backend, "options", None)
    found: datetime.timedelta = getattr(options, "_timeout", _DEFAULT_TIMEOUT)
    return found
