"""Joining and leaving the job, and where this rank stands in it."""

import atexit
import os
from collections.abc import Sequence
from typing import Any

from taco.lightcc import _settings
from taco.lightcc import topology as places
from taco.lightcc.engine.runtime import Options, Runtime
from taco.lightcc.torch import _state
from taco.lightcc.torch.process_sets import ProcessSet, check_ranks, global_process_set

# How long rank 0 serves those that have not left when its own script is over.
_DRAIN_SECONDS = 5.0

_joined = 0  # how many jobs this process has joined: each has its own part of the store
_registered = False


def init(
    comm: Sequence[int] | None = None, process_sets: Sequence[ProcessSet] | str | None = None
) -> None:
    """Joins the job that the launcher describes; a job of one rank without a launcher.

    Args:
        comm: None, or all ranks of the job. (Horovod over MPI also takes communicators.)
        process_sets: sets to register at once, the same on every rank; or "dynamic".

    Raises:
        ValueError: a process set names ranks that do not exist, or appears twice.
        HorovodInternalError: the other ranks cannot be reached.
    """
    global _joined, _registered
    if _state.is_initialized():
        return
    settings = _settings.refresh()
    place = places.detect(os.environ)
    if comm is not None and list(comm) != list(range(place.size)):
        raise NotImplementedError(
            "init(comm=...) takes all ranks of the job or nothing. For some of the ranks use "
            "hvd.add_process_set([...])."
        )
    sets = [] if process_sets is None or isinstance(process_sets, str) else list(process_sets)
    _check_sets(sets, place.size)
    store = places.open_store(place, settings.start_timeout)
    import torch.distributed as dist

    _joined += 1
    job = Runtime(
        place.rank,
        place.size,
        dist.PrefixStore(f"job{_joined}", store),
        place.store.host if place.store else "127.0.0.1",
        Options(
            fusion_threshold=settings.fusion_threshold,
            stall_warning=settings.stall_warning,
            stall_shutdown=settings.stall_shutdown,
            timeout=settings.gloo_timeout,
            interface=settings.gloo_interface,
        ),
    )
    _state.set_job(job, place)
    global_process_set.ranks = list(range(place.size))
    for process_set in sets:
        process_set.process_set_id = job.add_set(tuple(process_set.ranks or ()))
    if settings.timeline and settings.timeline != "DYNAMIC" and place.rank == 0:
        job.timeline.start(settings.timeline, settings.timeline_mark_cycles)
    if not _registered:
        _registered = True
        atexit.register(_leave)


def _check_sets(sets: Sequence[ProcessSet], size: int) -> None:
    seen = [tuple(range(size))]
    for index, process_set in enumerate(sets):
        if not isinstance(process_set, ProcessSet):
            raise ValueError(f"process_sets entry number {index} is no ProcessSet: {process_set!r}")
        ranks = tuple(process_set.ranks or ())
        check_ranks(ranks, size)
        if ranks in seen:
            raise ValueError(f"process_sets entry number {index} is a duplicate: {process_set}")
        seen.append(ranks)


def shutdown() -> None:
    """Leaves the job. Nothing happens if there is none."""
    job = _state.take_job()
    global_process_set.ranks = None
    if job is not None:
        job.shutdown()
        _left.append(job)


_left: list[Runtime] = []


def _leave() -> None:
    """At the end of the script."""
    shutdown()
    for job in _left:
        job.drain(_DRAIN_SECONDS)


def is_initialized() -> bool:
    """Whether `init` was called, and `shutdown` not since."""
    return _state.is_initialized()


def rank() -> int:
    """This process's rank. Raises ValueError before `init`, as all of these do."""
    return _state.topology().rank


def size() -> int:
    """The number of ranks."""
    return _state.topology().size


def local_rank() -> int:
    """This process's rank among those of its host."""
    return _state.topology().local_rank


def local_size() -> int:
    """The number of ranks on this host."""
    return _state.topology().local_size


def cross_rank() -> int:
    """The rank of this host among those that have a rank of the same local rank."""
    return _state.topology().cross_rank


def cross_size() -> int:
    """The number of hosts that have a rank of the same local rank."""
    return _state.topology().cross_size


def is_homogeneous() -> bool:
    """Whether every host has as many ranks."""
    return _state.topology().is_homogeneous


def start_timeline(file_path: str, mark_cycles: bool = False) -> None:
    """Begins to record a Chrome trace; rank 0 writes it.

    Args:
        file_path: where.
        mark_cycles: also mark when the coordinator answers.

    Raises:
        ValueError: before `init`.
        OSError: the file cannot be written.
    """
    job = _state.runtime()
    if job.rank == 0:
        job.timeline.start(file_path, mark_cycles)


def stop_timeline() -> None:
    """Ends the recording; the file is complete then. Raises ValueError before `init`."""
    _state.runtime().timeline.stop()


def mpi_threads_supported() -> bool:
    """Raises ValueError: LightCC does not use MPI."""
    raise ValueError("Horovod MPI is not enabled; Please make sure it's installed and enabled.")


def mpi_enabled() -> bool:
    return False


def mpi_built() -> bool:
    return False


def gloo_enabled() -> bool:
    return True


def gloo_built() -> bool:
    return True


def nccl_built() -> int:
    """NCCL's version as a number such as 22907; 0 without NCCL."""
    import torch

    if not torch.cuda.is_available() or not torch.distributed.is_nccl_available():
        return 0
    version: Any = torch.cuda.nccl.version()
    major, minor, patch = (*version, 0, 0)[:3]
    return int(major) * 10000 + int(minor) * 100 + int(patch)


def ddl_built() -> bool:
    return False


def ccl_built() -> bool:
    return False


def cuda_built() -> bool:
    """Whether PyTorch can use CUDA here."""
    import torch

    return torch.cuda.is_available()


def rocm_built() -> bool:
    return False
