"""Joining and leaving the job, and where this rank stands in it."""

import atexit
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from taco.lightcc import _settings
from taco.lightcc import topology as places
from taco.lightcc.adaptive import hub
from taco.lightcc.adaptive.places import Place
from taco.lightcc.engine.errors import HorovodInternalError
from taco.lightcc.engine.runtime import Options, Runtime
from taco.lightcc.run.rejoin import Rejoin
from taco.lightcc.torch import _state, rounds
from taco.lightcc.torch import process_sets as sets_of_job
from taco.lightcc.torch.insight import write_report
from taco.lightcc.torch.process_sets import ProcessSet, check_ranks, global_process_set

_log = logging.getLogger("taco.lightcc")

# How long rank 0 serves those that have not left when its own script is over.
_DRAIN_SECONDS = 5.0

# How many jobs this process has joined, by store: each has a part of it. A round of an elastic job
# has a store of its own, so that newcomers and the others count alike.
_joined: Counter[places.StoreAddress | None] = Counter()
_static_sets: list[ProcessSet] = []  # those that `init` got
_registered = False


def init(
    comm: Sequence[int] | None = None, process_sets: Sequence[ProcessSet] | str | None = None
) -> None:
    """Joins the job that the launcher describes; a job of one rank without a launcher.

    In an elastic job it waits for all ranks of the round. If one of them fails before that, it
    takes part in the next round; where there is no place in it, it exits with status 0.

    Args:
        comm: None, or all ranks of the job. (Horovod over MPI also takes communicators.)
        process_sets: sets to register at once, the same on every rank; or "dynamic". In later
            rounds of an elastic job they are registered again, but for those that name ranks that
            the round has not.

    Raises:
        ValueError: a process set names ranks that do not exist, appears twice, or is another one on
            another rank; or a variable holds what it does not take, or names a file that rank 0
            cannot write.
        HorovodInternalError: the other ranks cannot be reached.
    """
    global _static_sets
    if _state.is_initialized():
        return
    settings = _settings.refresh()
    place = places.detect(os.environ)
    if place.rank == 0:
        settings.check_files()
    if comm is not None and list(comm) != list(range(place.size)):
        raise NotImplementedError(
            "init(comm=...) takes all ranks of the job or nothing. For some of the ranks use "
            "hvd.add_process_set([...])."
        )
    sets = [] if process_sets is None or isinstance(process_sets, str) else list(process_sets)
    client = rounds.of_this_process(settings)
    if client is None or client.generation == 1:
        _check_sets(sets, place.size)
    _static_sets = sets
    if client is None:
        _join(settings)
        return
    try:
        _join(settings, rounds.watch(client, settings.start_timeout))
    except HorovodInternalError as error:
        if not _state.is_initialized() and not rounds.is_lost(client):
            raise  # the trouble is this rank's alone
        _abandon(error)
        next_round(client)


def next_round(client: Rejoin) -> None:
    """Leaves the job, and joins the next round of an elastic job that comes about.

    Args:
        client: the connection to the launcher.

    Raises:
        SystemExit: with status 0: the job does not need this process any more.
    """
    shutdown()
    while True:
        rounds.advance(client)
        settings = _settings.refresh()
        try:
            _join(settings, rounds.watch(client, settings.start_timeout))
        except HorovodInternalError as error:
            _abandon(error)
        else:
            return


def _join(settings: _settings.Settings, look: Callable[[], None] | None = None) -> None:
    """Joins the job that the environment describes.

    Args:
        settings: as the environment is now.
        look: in an elastic job: raises if the ranks of this round cannot all come.

    Raises:
        HorovodInternalError: the other ranks cannot be reached, or what `look` raises. The job has
            to be left then, if it is there.
    """
    global _registered
    import torch.distributed as dist

    place = places.detect(os.environ)
    store = places.open_store(place, settings.start_timeout)
    _joined[place.store] += 1
    own_store = dist.PrefixStore(f"job{_joined[place.store]}", store)
    found = hub.setup(settings, hub.chosen(os.environ, _settings.VARIABLES))
    adaptive = hub.Hub(found, place.rank, Place(place.hostname, place.rack or ""))
    adaptive.meet(own_store, place.size)
    job = Runtime(
        place.rank,
        place.size,
        own_store,
        place.store.host if place.store else "127.0.0.1",
        Options(
            fusion_threshold=settings.fusion_threshold,
            stall_warning=settings.stall_warning,
            stall_shutdown=settings.stall_shutdown,
            timeout=settings.gloo_timeout,
            interface=settings.gloo_interface,
        ),
        adaptive.reducer,
        adaptive.assign if place.rank == 0 else None,
        look,
    )
    adaptive.mark = job.timeline.mark
    adaptive.reducer.part = job.part
    _state.set_job(job, place, adaptive)
    global_process_set.ranks = list(range(place.size))
    if look is not None:
        job.meet(look)
    _register_sets(job)
    if settings.timeline and settings.timeline != "DYNAMIC" and place.rank == 0:
        job.timeline.start(settings.timeline, settings.timeline_mark_cycles)
    if not _registered:
        _registered = True
        atexit.register(_leave)


def _register_sets(job: Runtime) -> None:
    for process_set in _static_sets:
        if not sets_of_job.fits(process_set, job.size):
            continue
        try:
            sets_of_job.register(process_set)
        except HorovodInternalError as error:
            if job.failure is not None:
                raise
            raise ValueError(f"init got other process sets on other ranks: {error}") from error


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
    _report()
    job = _forget_job()
    if job is not None:
        job.shutdown()
        _left.append(job)


def _abandon(error: HorovodInternalError) -> None:
    """Leaves a round that did not come about."""
    _log.warning("this round did not come about: %s", error)
    job = _forget_job()
    if job is not None:
        job.abandon(str(error))


def _forget_job() -> Runtime | None:
    global_process_set.ranks = None
    sets_of_job.forget_all()
    return _state.take_job()


def _report() -> None:
    """Rank 0 says what ran how, where somebody wants to know."""
    path = _settings.settings().report
    if not path or not _state.is_initialized() or _state.runtime().rank != 0:
        return
    try:
        write_report(path)
    except OSError as error:
        _log.warning("TACO_REPORT=%s cannot be written: %s", path, error.strerror or error)


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


_get_process_set_ids_and_ranks = sets_of_job.process_set_ids  # Horovod's tests ask for it
