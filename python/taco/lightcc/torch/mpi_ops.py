"""Everything that Horovod has in `horovod.torch.mpi_ops`, under the same names."""

from taco.lightcc.engine.errors import HorovodInternalError
from taco.lightcc.engine.requests import BARRIER, JOIN, Request
from taco.lightcc.torch import _state, basics
from taco.lightcc.torch._submit import Adasum, Average, Max, Min, Product, Sum
from taco.lightcc.torch.allreduce import (
    allreduce,
    allreduce_,
    allreduce_async,
    allreduce_async_,
    grouped_allreduce,
    grouped_allreduce_,
    grouped_allreduce_async,
    grouped_allreduce_async_,
    sparse_allreduce_async,
)
from taco.lightcc.torch.basics import (
    ccl_built,
    cross_rank,
    cross_size,
    cuda_built,
    ddl_built,
    gloo_built,
    gloo_enabled,
    init,
    is_homogeneous,
    is_initialized,
    local_rank,
    local_size,
    mpi_built,
    mpi_enabled,
    mpi_threads_supported,
    nccl_built,
    rank,
    rocm_built,
    shutdown,
    size,
    start_timeline,
    stop_timeline,
)
from taco.lightcc.torch.compression import Compression
from taco.lightcc.torch.gathers import (
    allgather,
    allgather_async,
    alltoall,
    alltoall_async,
    broadcast,
    broadcast_,
    broadcast_async,
    broadcast_async_,
    grouped_allgather,
    grouped_allgather_async,
)
from taco.lightcc.torch.process_sets import (
    ProcessSet,
    add_process_set,
    global_process_set,
    remove_process_set,
)
from taco.lightcc.torch.reducescatter import (
    grouped_reducescatter,
    grouped_reducescatter_async,
    reducescatter,
    reducescatter_async,
)

_basics = basics  # programs reach for Horovod's of that name
poll = _state.poll
synchronize = _state.synchronize


def join(device: int = -1) -> int:
    """Says that this rank has no more data, and waits until all ranks say so.

    Meanwhile the other ranks' allreduces of Sum and Average go on; this rank takes part with
    zeros. Every other collective is an error on them.

    Args:
        device: not needed; Horovod's signature has it.

    Returns:
        The rank that joined last.
    """
    job = _state.runtime()
    return int(job.submit(Request(JOIN, "join")).wait())


def barrier(process_set: ProcessSet = global_process_set) -> None:
    """Waits until every rank of the set has come here."""
    job = _state.runtime()
    set_id = process_set.process_set_id
    if set_id is None or not process_set.included():
        raise ValueError(f"Rank {job.rank} is not part of {process_set}.")
    job.submit(Request(BARRIER, job.auto_name(BARRIER, set_id), set_id)).wait()


__all__ = [
    "Adasum",
    "Average",
    "Compression",
    "HorovodInternalError",
    "Max",
    "Min",
    "ProcessSet",
    "Product",
    "Sum",
    "add_process_set",
    "allgather",
    "allgather_async",
    "allreduce",
    "allreduce_",
    "allreduce_async",
    "allreduce_async_",
    "alltoall",
    "alltoall_async",
    "barrier",
    "broadcast",
    "broadcast_",
    "broadcast_async",
    "broadcast_async_",
    "ccl_built",
    "cross_rank",
    "cross_size",
    "cuda_built",
    "ddl_built",
    "global_process_set",
    "gloo_built",
    "gloo_enabled",
    "grouped_allgather",
    "grouped_allgather_async",
    "grouped_allreduce",
    "grouped_allreduce_",
    "grouped_allreduce_async",
    "grouped_allreduce_async_",
    "grouped_reducescatter",
    "grouped_reducescatter_async",
    "init",
    "is_homogeneous",
    "is_initialized",
    "join",
    "local_rank",
    "local_size",
    "mpi_built",
    "mpi_enabled",
    "mpi_threads_supported",
    "nccl_built",
    "poll",
    "rank",
    "reducescatter",
    "reducescatter_async",
    "remove_process_set",
    "rocm_built",
    "shutdown",
    "size",
    "sparse_allreduce_async",
    "start_timeline",
    "stop_timeline",
    "synchronize",
]
