"""One job, seen from one rank: start here.

`Runtime(...)` joins the job; `submit` hands in a collective and gives a Handle; `shutdown` leaves.
Three threads belong to it: the link (reads responses), the executor (moves data) and, on rank 0,
the coordinator. All end with it.
"""

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from taco.lightcc.engine import requests as rq
from taco.lightcc.engine.collectives import Collectives, Reducer, plain_reducer
from taco.lightcc.engine.coordinator import Coordinator
from taco.lightcc.engine.errors import DuplicateNameError, HorovodInternalError
from taco.lightcc.engine.executor import Executor
from taco.lightcc.engine.groups import Groups
from taco.lightcc.engine.handles import Entry, Handle
from taco.lightcc.engine.link import Link
from taco.lightcc.engine.negotiation import Negotiation
from taco.lightcc.engine.requests import Request, Response
from taco.lightcc.engine.stall import StallCheck
from taco.lightcc.engine.timeline import Timeline
from taco.lightcc.engine.wire import address_towards

_log = logging.getLogger("taco.lightcc")

_LOOK_SECONDS = 0.2  # between looks whether ranks that are awaited can still come

SHUT_DOWN = (
    "Horovod has been shut down. This was caused by an exception on one of the ranks or an attempt "
    "to allreduce, allgather or broadcast a tensor after one of the ranks finished execution."
)


@dataclass(frozen=True)
class Options:
    """What a job is run with.

    Attributes:
        fusion_threshold: bytes up to which small allreduces are fused; 0: never.
        stall_warning: seconds until a stall is reported; 0: never.
        stall_shutdown: seconds until a stall ends the job; 0: never.
        timeout: seconds for joining the job and for one operation on the data.
        interface: network interface for the data; empty: the one towards the store.
    """

    fusion_threshold: int = 128 << 20
    stall_warning: float = 60.0
    stall_shutdown: float = 0.0
    timeout: float = 1800.0
    interface: str = ""


class Runtime:
    """Takes part in a job.

    Args:
        rank: of this process.
        size: number of processes.
        store: shared by them and by nobody else, empty at the start.
        store_host: where the store is, as this host names it.
        options: as above.
        reducer: how an allreduce is carried out.
        assign: on rank 0, names the mode of each allreduce before all ranks execute it, given the
            response with the mode that was asked for.
        look: called now and then while rank 0 is awaited; what it raises ends the wait.

    Raises:
        HorovodInternalError: the others did not come in time.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        store: dist.Store,
        store_host: str,
        options: Options,
        reducer: Reducer = plain_reducer,
        assign: Callable[[Response], str] | None = None,
        look: Callable[[], None] | None = None,
    ) -> None:
        self.rank = rank
        self.size = size
        self.store = store
        self.options = options
        self.timeline = Timeline()
        self.sets: dict[int, tuple[int, ...]] = {0: tuple(range(size))}
        self._lock = threading.Lock()
        self._pending: dict[tuple[int, str], Entry] = {}
        self._counters: dict[tuple[str, int], int] = {}
        self._over: Exception | None = None
        self._verdict = threading.Event()  # set once the job is known to be over
        self._backlog = 0
        self._groups = Groups(store, rank, store_host, options.interface, options.timeout)
        self._collectives = Collectives(rank, reducer)
        self._assign = assign
        self._executor = Executor(self._execute, self._claim, self._failed, self._finished)
        self._coordinator = self._coordinate(store_host) if rank == 0 else None
        try:
            address, key = self._find(look)
            self._link = Link(address, rank, key, self._on_response, self._on_abort, 60.0)
        except HorovodInternalError:  # what `look` saw
            self._executor.stop(0)
            raise
        except (OSError, RuntimeError, ValueError) as error:
            self._executor.stop(0)
            raise HorovodInternalError(
                f"rank {rank} could not reach rank 0, which coordinates: {error}. Check that all "
                f"{size} ranks were started and can reach {store_host}."
            ) from error

    # Joining.

    def _coordinate(self, store_host: str) -> Coordinator:
        host = address_towards(store_host)
        key = secrets.token_hex(16)
        coordinator = Coordinator(
            self.size,
            key,
            Negotiation(self.size, self.options.fusion_threshold, self._assign),
            StallCheck(self.options.stall_warning, self.options.stall_shutdown),
            lambda: self._backlog,
            self.timeline.observe,
            host,
        )
        self.store.set("coordinator", json.dumps([host, coordinator.port, key]))
        return coordinator

    def _find(self, look: Callable[[], None] | None) -> tuple[tuple[str, int], str]:
        while look is not None and not self.store.check(["coordinator"]):
            look()
            time.sleep(_LOOK_SECONDS)
        host, port, key = json.loads(self.store.get("coordinator"))
        return (host, port), key

    def meet(self, look: Callable[[], None]) -> None:
        """Waits until all ranks have joined.

        Args:
            look: called now and then meanwhile; what it raises ends the wait.

        Raises:
            HorovodInternalError: a rank is gone.
        """
        handle = self.submit(Request(rq.BARRIER, "taco.meet"))
        while not handle.wait_until(time.monotonic() + _LOOK_SECONDS):
            look()
        handle.wait()

    # Submitting.

    def auto_name(self, kind: str, set_id: int) -> str:
        """A name that is the same on all members that make the same calls in the same order."""
        with self._lock:
            count = self._counters.get((kind, set_id), 0)
            self._counters[kind, set_id] = count + 1
        return f"{kind}.noname.{count}"

    def submit(
        self,
        request: Request,
        inputs: list[torch.Tensor] | None = None,
        outputs: list[torch.Tensor] | None = None,
        state: Any = None,
    ) -> Handle:
        """Hands in a collective.

        Args:
            request: what it is.
            inputs: contiguous tensors, as the request describes them.
            outputs: where reductions and broadcasts put their results.
            state: handed to the reducer.

        Raises:
            DuplicateNameError: the name is still in progress here.
            HorovodInternalError: the job is over.
        """
        entry = Entry(request, inputs or [], outputs or [], ready=_event_of(inputs), state=state)
        entry.handle.on_long_wait = lambda: self._link.tell_waiting(request)
        key = (request.set_id, request.name)
        with self._lock:
            if self._over is not None:
                raise type(self._over)(*self._over.args)
            if key in self._pending:
                raise DuplicateNameError(
                    f"Requested to {request.kind} a tensor with the same name as another tensor "
                    f"that is currently being processed: {request.name}. If you want to request "
                    f"another tensor, use a different tensor name."
                )
            self._pending[key] = entry
        self._link.submit(request)
        return entry.handle

    def add_set(self, ranks: tuple[int, ...]) -> int:
        """Makes a process set, on all ranks together. Returns its id."""
        name = self.auto_name(rq.ADD_SET, 0)
        set_id = self.submit(Request(rq.ADD_SET, name, ranks=ranks)).wait()
        return int(set_id)

    def remove_set(self, set_id: int) -> None:
        """Removes a process set, on all ranks together."""
        name = self.auto_name(rq.REMOVE_SET, 0)
        self.submit(Request(rq.REMOVE_SET, name, ranks=(set_id,))).wait()

    # Leaving.

    @property
    def failure(self) -> Exception | None:
        """Why the job is over, if it is."""
        return self._over

    def shutdown(self) -> None:
        """Leaves the job. What is in progress fails; others' work that needs this rank, too."""
        self._end(HorovodInternalError(SHUT_DOWN))
        self._link.close()
        self._groups.close()
        self._executor.stop(5.0)
        self.timeline.stop()

    def abandon(self, why: str) -> None:
        """Leaves a job that not all ranks came to: rank 0 tells the others why, and ends it."""
        if self._coordinator is not None:
            self._coordinator.stop(why)
        self.shutdown()

    def drain(self, timeout: float) -> None:
        """On rank 0, lets the coordinator serve those that have not left yet."""
        if self._coordinator is not None:
            self._coordinator.join(timeout)

    def _end(self, error: Exception) -> None:
        with self._lock:
            if self._over is None:
                self._over = error
            pending, self._pending = list(self._pending.values()), {}
        self._verdict.set()
        for entry in pending:
            entry.handle.set_error(error)
        self._executor.fail_current(error)

    # Called by the link and the executor.

    def _on_response(self, response: Response) -> None:
        with self._lock:
            self._backlog += 1
        self._executor.put(response)

    def _on_abort(self, why: str) -> None:
        _log.debug("rank %d: the job is over: %s", self.rank, why)
        self._end(HorovodInternalError(why))
        self._groups.close()

    def _claim(self, response: Response) -> list[Entry | None]:
        with self._lock:
            return [self._pending.pop((response.set_id, name), None) for name in response.names]

    def _execute(self, response: Response, entries: list[Entry | None]) -> list[Any]:
        activity = response.kind.upper()
        self.timeline.span(response, activity, True, bytes=response.nbytes, mode=response.mode)
        try:
            for entry in entries:
                if entry is not None and entry.ready is not None:
                    entry.ready.synchronize()
            if response.kind == rq.ADD_SET:
                self.sets[response.new_set] = response.ranks
            elif response.kind == rq.REMOVE_SET:
                self.sets.pop(response.new_set, None)
                self._groups.forget(response.new_set)
            results = self._collectives.execute(response, entries, self._group(response))
            if any(spec.device == "cuda" for spec in response.tensors):
                torch.cuda.current_stream().synchronize()
            return results
        finally:
            self.timeline.span(response, activity, False)

    def _group(self, response: Response) -> dist.ProcessGroup | None:
        if response.kind in (rq.JOIN, rq.ADD_SET, rq.REMOVE_SET):
            return None
        device = response.tensors[0].device if response.tensors else "cpu"
        return self._groups.get(response.set_id, response.ranks, device)

    def part(self, response: Response, members: tuple[int, ...]) -> dist.ProcessGroup:
        """A group of some of a response's ranks, by position; all of them ask, in one order."""
        ranks = tuple(response.ranks[member] for member in members)
        device = response.tensors[0].device if response.tensors else "cpu"
        return self._groups.get(response.set_id, ranks, device, part=True)

    def _failed(self, text: str) -> Exception:
        """An operation on the data failed: asks the coordinator, which knows who is gone."""
        self._link.report_failure(text)
        self._verdict.wait(5.0)
        self._end(HorovodInternalError(text))
        assert self._over is not None
        return self._over

    def _finished(self, response: Response) -> None:
        with self._lock:
            self._backlog -= 1
        if self._coordinator is not None:
            self._coordinator.poke()


def _event_of(inputs: list[torch.Tensor] | None) -> Any:
    if not inputs or inputs[0].device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(inputs[0].device))
    return event
