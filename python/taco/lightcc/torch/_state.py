"""The one job that this process takes part in, and the numbers behind its handles."""

import itertools
import threading
from collections.abc import Callable
from typing import Any

from taco.lightcc.adaptive.hub import Hub
from taco.lightcc.engine.errors import NotInitializedError
from taco.lightcc.engine.handles import Handle
from taco.lightcc.engine.runtime import Runtime
from taco.lightcc.topology import Topology

_lock = threading.Lock()
_runtime: Runtime | None = None
_topology: Topology | None = None
_hub: Hub | None = None
_handles: dict[int, tuple[Handle, Callable[[Any], Any]]] = {}
_numbers = itertools.count()


def runtime() -> Runtime:
    """The running job.

    Raises:
        NotInitializedError: `init()` was not called, or `shutdown()` was.
    """
    if _runtime is None:
        raise NotInitializedError()
    return _runtime


def topology() -> Topology:
    """Where this rank stands. Raises as `runtime`."""
    if _runtime is None or _topology is None:
        raise NotInitializedError()
    return _topology


def last_rank_and_size() -> tuple[int, int]:
    """Of this process, in the job or in the one it has left last; alone if there was none."""
    return (0, 1) if _topology is None else (_topology.rank, _topology.size)


def is_initialized() -> bool:
    return _runtime is not None


def adaptive() -> Hub:
    """How allreduces are carried out. Raises as `runtime`."""
    if _runtime is None or _hub is None:
        raise NotInitializedError()
    return _hub


def set_job(job: Runtime, place: Topology, adaptive: Hub) -> None:
    global _runtime, _topology, _hub
    with _lock:
        _runtime, _topology, _hub = job, place, adaptive


def take_job() -> Runtime | None:
    """Forgets the job and all handles; returns the job for its shutdown."""
    global _runtime
    with _lock:
        job, _runtime = _runtime, None
        _handles.clear()
    return job


def keep(handle: Handle, finish: Callable[[Any], Any]) -> int:
    """Gives a handle its number.

    Args:
        handle: what the engine gave.
        finish: turns the engine's result into what `synchronize` returns.
    """
    number = next(_numbers)
    _handles[number] = (handle, finish)
    return number


def poll(number: int) -> bool:
    """Whether `synchronize` would return at once.

    Raises:
        ValueError: there is no such handle.
    """
    kept = _handles.get(number)
    if kept is None:
        raise ValueError(f"{number!r} is not the handle of an operation in progress.")
    return kept[0].done()


def wait(number: int, deadline: float) -> bool:
    """Waits until a time of time.monotonic(). Returns whether it is done by then."""
    kept = _handles.get(number)
    return kept is None or kept[0].wait_until(deadline)


def synchronize(number: int) -> Any:
    """Waits; None for a handle that was synchronized before."""
    kept = _handles.pop(number, None)
    if kept is None:
        return None
    handle, finish = kept
    return finish(handle.wait())
