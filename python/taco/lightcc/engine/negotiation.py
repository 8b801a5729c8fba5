"""Who has submitted what, and what may run: the coordinator's mind, without sockets or clocks.

A name becomes a response when every member of its process set has submitted it (allreduce: every
member that has not joined). The requests are compared; a difference becomes an error that names
the ranks and both values. Responses are handed out in one order, which all ranks follow.

Not thread-safe: the coordinator's thread alone calls it.
"""

import dataclasses
from collections.abc import Callable, Iterable

from taco.lightcc.engine import deadlock
from taco.lightcc.engine import requests as rq
from taco.lightcc.engine.agreement import disagreement
from taco.lightcc.engine.deadlock import Key
from taco.lightcc.engine.fusion import fuse
from taco.lightcc.engine.requests import Pending, Request, Response


class Negotiation:
    """The state of a job's agreements.

    Args:
        size: how many ranks there are.
        fusion_threshold: bytes up to which allreduces that are ready together run as one; 0: never.
        assign: names the mode of an allreduce, given the response with the mode that was asked for;
            None leaves that.
    """

    def __init__(
        self,
        size: int,
        fusion_threshold: int,
        assign: Callable[[Response], str] | None = None,
    ) -> None:
        self.size = size
        self.fusion_threshold = fusion_threshold
        self._assign = assign
        self.sets: dict[int, tuple[int, ...]] = {0: tuple(range(size))}
        self._pending: dict[Key, Pending] = {}
        self._ready: list[Response] = []
        self._joined: list[int] = []  # in order of joining
        self._left: dict[int, str] = {}  # rank -> why it takes part no more
        self._next_set = 1

    def submit(self, rank: int, request: Request, now: float) -> None:
        """Takes a rank's request.

        Args:
            rank: global rank of who asks.
            request: what it wants.
            now: seconds, in the caller's clock; only differences matter.
        """
        if request.kind == rq.JOIN:
            self._join(rank)
            return
        members = self.sets.get(request.set_id)
        if members is None or rank not in members:
            text = f"process set {request.set_id} does not exist, or rank {rank} is not in it"
            self._ready.append(_error(request, (rank,), text))
            return
        key = (request.set_id, request.name)
        pending = self._pending.setdefault(key, Pending(now))
        pending.requests[rank] = request
        self._check(key)

    def wait(self, rank: int, set_id: int, name: str) -> None:
        """A rank waits for a name that it has submitted, and submits nothing until it is done."""
        pending = self._pending.get((set_id, name))
        if pending is None or rank not in pending.requests:
            return  # done meanwhile
        pending.waiting.add(rank)
        mismatches = deadlock.mismatched_kinds(self._pending, self._stuck(), self.sets)
        for group, text in list(mismatches):
            self._fail(group, text)

    def end_deadlock(self, since: float) -> None:
        """What ranks wait for in vain becomes an error, if all of it began before a time."""
        keys = self._stuck()
        if keys and all(self._pending[key].since <= since for key in keys):
            self._fail(keys, deadlock.sentence(keys))

    def leave(self, rank: int, why: str) -> None:
        """A rank takes part no more: what needs it becomes an error for the others."""
        self._left[rank] = why
        for key in list(self._pending):
            self._check(key)
        if self._joined:
            self._finish_join()

    def take(self) -> list[Response]:
        """What became ready since the last call, in order, small allreduces fused."""
        ready, self._ready = self._ready, []
        return [self._with_mode(each) for each in fuse(ready, self.fusion_threshold)]

    @property
    def ready_bytes(self) -> int:
        """Bytes of the tensors in what `take` would give."""
        return sum(response.nbytes for response in self._ready)

    @property
    def has_ready(self) -> bool:
        return bool(self._ready)

    def waiting(self) -> Iterable[tuple[str, Pending, list[int]]]:
        """(name, state, missing ranks) of everything that waits for ranks."""
        for (set_id, name), pending in self._pending.items():
            yield name, pending, self._missing(set_id, pending)

    def _with_mode(self, response: Response) -> Response:
        chosen = response.kind == rq.ALLREDUCE and response.op != "adasum" and not response.error
        if self._assign is None or not chosen:
            return response
        return dataclasses.replace(response, mode=self._assign(response))

    def _missing(self, set_id: int, pending: Pending) -> list[int]:
        joined = set(self._joined)
        return [r for r in self.sets[set_id] if r not in pending.requests and r not in joined]

    def _check(self, key: Key) -> None:
        """Answers a pending name if nobody is missing, or if who is missing never comes."""
        set_id, _ = key
        pending = self._pending.get(key)
        if pending is None:
            return
        missing = self._missing(set_id, pending)
        gone = [rank for rank in missing if rank in self._left]
        if missing and not gone:
            return
        del self._pending[key]
        members = self.sets[set_id]
        first = next(iter(pending.requests.values()))
        if gone:
            text = f"{first.name}: rank {gone[0]} {self._left[gone[0]]}"
            self._ready.append(_error(first, tuple(pending.requests), text))
            return
        joined = tuple(rank for rank in members if rank not in pending.requests)
        text = disagreement(pending.requests, members, joined)
        if text:
            self._ready.append(_error(first, tuple(pending.requests), text))
            return
        self._ready.append(self._agreed(first, pending.requests, members, joined))

    def _stuck(self) -> dict[Key, list[int]]:
        return deadlock.stuck(self._pending, lambda key: self._missing(key[0], self._pending[key]))

    def _fail(self, keys: Iterable[Key], text: str) -> None:
        for key in keys:
            requests = self._pending.pop(key).requests
            self._ready.append(_error(next(iter(requests.values())), tuple(requests), text))

    def _agreed(
        self,
        first: Request,
        by_rank: dict[int, Request],
        members: tuple[int, ...],
        joined: tuple[int, ...],
    ) -> Response:
        lengths: tuple[tuple[int, ...], ...] = ()
        splits: tuple[tuple[int, ...], ...] = ()
        new_set = -1
        ranks = members
        if first.kind == rq.ALLGATHER:
            lengths = tuple(
                tuple(by_rank[rank].tensors[i].shape[0] for rank in members)
                for i in range(len(first.tensors))
            )
        elif first.kind == rq.ALLTOALL:
            splits = tuple(_splits(by_rank[rank], len(members)) for rank in members)
        elif first.kind == rq.ADD_SET:
            new_set, ranks = self._add_set(first.ranks), first.ranks
        elif first.kind == rq.REMOVE_SET:
            new_set = first.ranks[0]
            removed = [key for key in self._pending if key[0] == new_set]
            self._fail(removed, f"process set {new_set} was removed")
            self.sets.pop(new_set, None)
        return Response(
            kind=first.kind,
            names=(first.name,),
            set_id=first.set_id,
            tensors=first.tensors,
            counts=(len(first.tensors),),
            op=first.op,
            prescale=first.prescale,
            postscale=first.postscale,
            root=first.root,
            mode=first.mode,
            lengths=lengths,
            splits=splits,
            ranks=ranks,
            new_set=new_set,
            joined=joined,
        )

    def _add_set(self, ranks: tuple[int, ...]) -> int:
        """The id of a new set; that of an existing one with the same ranks, if there is one."""
        for set_id, existing in self.sets.items():
            if existing == ranks:
                return set_id
        set_id = self._next_set
        self._next_set += 1
        self.sets[set_id] = ranks
        return set_id

    def _join(self, rank: int) -> None:
        self._joined.append(rank)
        for key in list(self._pending):
            self._check(key)
        self._finish_join()

    def _finish_join(self) -> None:
        if any(r not in self._joined and r not in self._left for r in range(self.size)):
            return
        error = next((f"rank {rank} {why}" for rank, why in self._left.items()), "")
        ranks = tuple(sorted(self._joined))
        self._ready.append(
            Response(rq.JOIN, ("join",), ranks=ranks, last_joined=self._joined[-1], error=error)
        )
        self._joined = []


def _splits(request: Request, members: int) -> tuple[int, ...]:
    if request.splits:
        return request.splits
    return (request.tensors[0].shape[0] // members,) * members


def _error(request: Request, ranks: tuple[int, ...], text: str) -> Response:
    return Response(
        request.kind, (request.name,), request.set_id, ranks=tuple(sorted(ranks)), error=text
    )
