"""Where this process stands among the ranks of its job, and where they meet.

`detect(os.environ)` reads what the launcher said; `open_store(topology, timeout)` gives the
key-value store that all ranks of the job share. Launchers, in the order in which they are looked
for: `taco run` and Horovod's own, torchrun, Open MPI, SLURM, MPICH and Intel MPI, none.

torch is imported by `open_store`, and not before.
"""

from __future__ import annotations

import os
import socket
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from taco.lightcc._slurm import first_host, tasks_per_node

if TYPE_CHECKING:
    import torch.distributed as dist

# Ports for jobs whose launcher names none: below those that Linux hands out by itself.
_FIRST_PORT, _PORTS = 20_000, 12_000

_PREFIXES = {
    "taco": "HOROVOD_",
    "horovod": "HOROVOD_",
    "torchrun": "",
    "slurm": "SLURM_",
    "openmpi": "OMPI_COMM_WORLD_",
    "mpich": "PMI_",
}


class TopologyError(ValueError):
    """The launcher's variables contradict each other, or some are missing."""


@dataclass(frozen=True)
class StoreAddress:
    """The store of a job.

    Attributes:
        host: where it listens, as every rank can reach it.
        port: its TCP port.
        served: whether the launcher serves it; otherwise rank 0 does.
        prefix: what stands before all keys of the job, or of a round of an elastic one.
    """

    host: str
    port: int
    served: bool
    prefix: str


@dataclass(frozen=True)
class Topology:
    """One rank's place.

    Attributes:
        rank: 0 <= rank < size.
        size: ranks in the job.
        local_rank: position among the ranks of this host.
        local_size: ranks on this host.
        cross_rank: position of this host among those that have a rank of this local_rank.
        cross_size: how many hosts have one.
        hostname: the host, as the launcher names it; the same for all ranks of one host.
        launcher: "taco", "horovod", "torchrun", "openmpi", "slurm", "mpich" or "none".
        store: where the ranks meet; None for a job of one rank that nobody launched.
        rack: the rack or zone of the host, where the launcher knows it.
        is_homogeneous: whether all hosts have equally many ranks. `taco run` and SLURM say so
            exactly; of others it is what the numbers of this rank allow.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    cross_rank: int
    cross_size: int
    hostname: str
    launcher: str
    store: StoreAddress | None
    rack: str | None
    is_homogeneous: bool


def detect(environ: Mapping[str, str]) -> Topology:
    """Reads this process's place from the launcher's variables.

    Args:
        environ: the environment; an empty variable counts as unset.

    Raises:
        TopologyError: variables are missing or contradict each other; says which, and what to do.
    """
    env = _Environment({name: text for name, text in environ.items() if text})
    if env.has("HOROVOD_RANK", "HOROVOD_SIZE"):
        return _horovod(env)
    if env.has("RANK", "WORLD_SIZE"):
        return _torchrun(env)
    if env.has("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"):
        return _open_mpi(env)
    if env.has("SLURM_PROCID"):
        return _slurm(env)
    if env.has("PMI_RANK", "PMI_SIZE"):
        return _mpich(env)
    return Topology(0, 1, 0, 1, 0, 1, env.hostname(), "none", None, env.get("TACO_RACK"), True)


def open_store(topology: Topology, timeout: float) -> dist.Store:
    """Opens the store of the job. All its keys have the job's prefix.

    The caller keeps it as long as the job lives: on rank 0 it may be the server itself. A store at
    MASTER_ADDR:MASTER_PORT can be opened by the script's own `init_process_group` as well.

    Args:
        topology: of this rank.
        timeout: seconds to wait for the store, and for a key of it.

    Raises:
        TopologyError: there are several ranks, and nothing says where they meet.
        torch.distributed.DistNetworkError: nobody answers at the address.
    """
    import torch.distributed as dist

    address = topology.store
    if topology.size == 1:
        return dist.PrefixStore(address.prefix if address else "taco/alone", dist.HashStore())
    if address is None:
        raise TopologyError(
            f"{topology.launcher} started {topology.size} ranks, and nothing says where they meet: "
            "set MASTER_ADDR to the host of rank 0 and MASTER_PORT to a free port there, on every "
            "rank, or start the job with `taco run`."
        )
    serves = not address.served and topology.rank == 0
    store = dist.TCPStore(
        address.host,
        address.port,
        None,
        serves,
        timedelta(seconds=timeout),
        wait_for_workers=False,
        # Within a process a second server of the same port is this one.
        multi_tenant=not address.served,
    )
    return dist.PrefixStore(address.prefix, store)


class _Environment:
    """The variables, and complaints that name them."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def get(self, *names: str) -> str | None:
        return next((self._variables[name] for name in names if name in self._variables), None)

    def has(self, *names: str) -> bool:
        """Whether any is set."""
        return self.get(*names) is not None

    def number(self, *names: str, remedy: str) -> int:
        """The first of the variables that is set, as a number from 0.

        Raises:
            TopologyError: none is set, or it is no such number.
        """
        name = next((name for name in names if name in self._variables), None)
        if name is None:
            there = ", ".join(sorted(each for each in self._variables if _is_launchers(each)))
            raise TopologyError(f"{names[0]} is not set, though {there} are. {remedy}")
        text = self._variables[name]
        if not text.isascii() or not text.isdigit():
            raise TopologyError(f"{name}={text!r} must be a whole number from 0. {remedy}")
        return int(text)

    def hostname(self) -> str:
        return self.get("HOROVOD_HOSTNAME", "SLURMD_NODENAME") or socket.gethostname()

    def master(self, job: str) -> StoreAddress | None:
        """MASTER_ADDR:MASTER_PORT, if set."""
        if not self.has("MASTER_ADDR"):
            return None
        remedy = "MASTER_ADDR and MASTER_PORT are host and free port for rank 0: set both."
        host, port = self._variables["MASTER_ADDR"], self.number("MASTER_PORT", remedy=remedy)
        served = self.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        return StoreAddress(host, _port(port, "MASTER_PORT"), served, f"taco/{job}")

    def on_this_host(self, job: str, size: int, local_size: int) -> StoreAddress | None:
        """A place to meet that needs no agreement, if all ranks are on one host."""
        if size != local_size:
            return None
        return StoreAddress("127.0.0.1", _derived_port(job), False, f"taco/{job}")


def _is_launchers(name: str) -> bool:
    exact = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    places = ("RANK", "SIZE", "PROCID", "NTASKS", "LOCALID", "NODEID", "RANKID", "NRANKS")
    starts = ("HOROVOD_", "OMPI_COMM_", "PMI_", "MPI_LOCAL", "SLURM_")
    return name in exact or (name.startswith(starts) and name.endswith(places))


def _port(number: int, name: str) -> int:
    if not 0 < number < 65536:
        raise TopologyError(f"{name}={number} must be a TCP port: from 1 to 65535.")
    return number


def _derived_port(job: str) -> int:
    return _FIRST_PORT + zlib.crc32(job.encode()) % _PORTS


def _horovod(env: _Environment) -> Topology:
    remedy = "`taco run` and horovodrun set all of HOROVOD_{,LOCAL_,CROSS_}{RANK,SIZE}: unset them "
    remedy += "to run without a launcher."
    rank, size, local_rank, local_size, cross_rank, cross_size = (
        env.number(f"HOROVOD_{level}{what}", remedy=remedy)
        for level in ("", "LOCAL_", "CROSS_")
        for what in ("RANK", "SIZE")
    )
    if env.has("TACO_STORE_ADDR", "TACO_STORE_PORT"):
        host = env.get("TACO_STORE_ADDR")
        if host is None:
            raise TopologyError(f"TACO_STORE_PORT is set, and TACO_STORE_ADDR is not. {remedy}")
        port = _port(env.number("TACO_STORE_PORT", remedy=remedy), "TACO_STORE_PORT")
        job = env.get("TACO_ELASTIC_GENERATION") or env.get("TACO_JOB_ID") or "job"
        store: StoreAddress | None = StoreAddress(host, port, True, f"taco/{job}")
        launcher = "taco"
    else:
        job = env.get("HOROVOD_GLOO_RENDEZVOUS_PORT", "HOROVOD_JOB_ID") or str(os.getppid())
        store = env.master(job) or env.on_this_host(job, size, local_size)
        launcher = "horovod"
    numbers = (rank, size, local_rank, local_size, cross_rank, cross_size)
    found = _placed(env, launcher, numbers, store)
    sizes = env.get("TACO_LOCAL_SIZES")
    return replace(found, is_homogeneous=len(set(sizes.split(","))) == 1) if sizes else found


def _torchrun(env: _Environment) -> Topology:
    remedy = "torchrun sets RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and "
    remedy += "MASTER_PORT: start with it, or set all six."
    rank, size, local_rank, local_size = (
        env.number(name, remedy=remedy)
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    )
    cross_rank, cross_size = _hosts(rank, size, local_rank, local_size)
    if env.has("GROUP_RANK", "GROUP_WORLD_SIZE"):
        cross_rank = env.number("GROUP_RANK", remedy=remedy)
        if env.has("GROUP_WORLD_SIZE"):
            cross_size = env.number("GROUP_WORLD_SIZE", remedy=remedy)
    job = f"{env.get('TORCHELASTIC_RUN_ID') or 'torchrun'}/"
    job += env.get("TORCHELASTIC_RESTART_COUNT") or "0"
    numbers = (rank, size, local_rank, local_size, cross_rank, cross_size)
    return _placed(env, "torchrun", numbers, env.master(job))


def _open_mpi(env: _Environment) -> Topology:
    remedy = "mpirun sets all of OMPI_COMM_WORLD_{,LOCAL_}{RANK,SIZE}: start the program with it."
    rank, size, local_rank, local_size = (
        env.number(f"OMPI_COMM_WORLD_{name}", remedy=remedy)
        for name in ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")
    )
    cross = _hosts(rank, size, local_rank, local_size)
    job = env.get("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid") or str(os.getppid())
    store = env.master(job) or env.on_this_host(job, size, local_size)
    return _placed(env, "openmpi", (rank, size, local_rank, local_size, *cross), store)


def _mpich(env: _Environment) -> Topology:
    remedy = "mpiexec of MPICH and Intel MPI sets PMI_RANK, PMI_SIZE, MPI_LOCALRANKID and "
    remedy += "MPI_LOCALNRANKS: start the program with it."
    rank, size = env.number("PMI_RANK", remedy=remedy), env.number("PMI_SIZE", remedy=remedy)
    local_rank = env.number("MPI_LOCALRANKID", "PMI_LOCAL_RANK", remedy=remedy)
    local_size = env.number("MPI_LOCALNRANKS", "PMI_LOCAL_SIZE", remedy=remedy)
    cross = _hosts(rank, size, local_rank, local_size)
    job = str(os.getppid())  # mpiexec's proxy, the same for all ranks of a host
    store = env.master(job) or env.on_this_host(job, size, local_size)
    return _placed(env, "mpich", (rank, size, local_rank, local_size, *cross), store)


def _slurm(env: _Environment) -> Topology:
    remedy = "srun sets SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID, SLURM_NODEID and "
    remedy += "SLURM_TASKS_PER_NODE: start the program with it."
    rank, local_rank, node = (
        env.number(f"SLURM_{name}", remedy=remedy) for name in ("PROCID", "LOCALID", "NODEID")
    )
    size = env.number("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", remedy=remedy)
    text = env.get("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE")
    try:
        tasks = tasks_per_node(text or "")
        nodes = env.get("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
        head = first_host(nodes) if nodes else None
    except ValueError as error:
        raise TopologyError(f"{error} {remedy}") from error
    if node >= len(tasks) or sum(tasks) != size:
        raise TopologyError(
            f"SLURM_TASKS_PER_NODE={text!r} does not fit SLURM_NODEID={node} and {size} tasks. "
            f"{remedy}"
        )
    cross_rank = sum(count > local_rank for count in tasks[:node])
    cross_size = sum(count > local_rank for count in tasks)
    step = env.get("SLURM_STEP_ID", "SLURM_STEPID") or "0"
    job = f"{env.get('SLURM_JOB_ID', 'SLURM_JOBID') or 'job'}.{step}"
    store = env.master(job) or env.on_this_host(job, size, tasks[node])
    if store is None and head is not None:
        store = StoreAddress(head, _derived_port(job), False, f"taco/{job}")
    numbers = (rank, size, local_rank, tasks[node], cross_rank, cross_size)
    return replace(_placed(env, "slurm", numbers, store), is_homogeneous=len(set(tasks)) == 1)


def _hosts(rank: int, size: int, local_rank: int, local_size: int) -> tuple[int, int]:
    """cross_rank and cross_size where the launcher does not say: hosts that are equally full."""
    if local_size == 0:
        return 0, 0
    hosts = -(-size // local_size)
    by_host = rank // hosts == local_rank and rank % local_size != local_rank  # dealt in turn
    return (rank % hosts if by_host else rank // local_size), hosts


def _placed(
    env: _Environment, launcher: str, numbers: tuple[int, ...], store: StoreAddress | None
) -> Topology:
    rank, size, local_rank, local_size, cross_rank, cross_size = numbers
    found = Topology(
        *(rank, size, local_rank, local_size, cross_rank, cross_size),
        hostname=env.hostname(),
        launcher=launcher,
        store=store,
        rack=env.get("TACO_RACK"),
        is_homogeneous=size == local_size * cross_size,
    )
    return _checked(found, _PREFIXES[launcher])


def _checked(found: Topology, names: str) -> Topology:
    """Refuses numbers that cannot be: a rank beyond its size, more local ranks than ranks."""
    for level in ("", "local_", "cross_"):
        rank, size = getattr(found, f"{level}rank"), getattr(found, f"{level}size")
        if rank >= size:
            raise TopologyError(
                f"The {level}rank {rank} must be below the {level}size {size}. Look at the "
                f"variables {names}* that {found.launcher} sets; a shell may have kept old ones."
            )
        if size > found.size:
            raise TopologyError(
                f"The {level}rank {rank} of {size} does not fit rank {found.rank} of {found.size}. "
                f"Look at the variables {names}* that {found.launcher} sets."
            )
    return found
