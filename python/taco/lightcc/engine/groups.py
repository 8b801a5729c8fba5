"""The process groups that carry data: ours alone, apart from the script's default group."""

import datetime
import hashlib
import threading

import torch
import torch.distributed as dist

from taco.lightcc.engine.wire import address_towards
from taco.lightcc.patterns import machine


class Groups:
    """Makes a group for a process set and a kind of device when it is first used, and keeps it.

    Every member asks for the same groups in the same order (that of the responses), which is what
    making one needs.

    Args:
        store: shared by all ranks of the job.
        rank: this process's global rank.
        towards: a host whose route names the network to use.
        interface: the network interface to use instead; empty for none.
        timeout: seconds for one operation.
    """

    def __init__(
        self, store: dist.Store, rank: int, towards: str, interface: str, timeout: float
    ) -> None:
        self._store = store
        self._rank = rank
        self._towards = towards
        self._interface = interface
        self._timeout = datetime.timedelta(seconds=timeout)
        self._groups: dict[tuple[int, str, tuple[int, ...]], dist.ProcessGroup] = {}
        self._lock = threading.Lock()

    def get(
        self, set_id: int, ranks: tuple[int, ...], device: str, part: bool = False
    ) -> dist.ProcessGroup:
        """The group of a process set, or of some of its ranks.

        Args:
            set_id: the set's id, never used twice in a job.
            ranks: the members, in order; this rank is among them.
            device: "cpu" (Gloo) or "cuda" (NCCL).
            part: whether they are not the whole set.
        """
        key = (set_id, device, ranks if part else ())
        with self._lock:
            group = self._groups.get(key)
            if group is None:
                name = f"set{set_id}/{device}"
                if part:  # a job may have thousands of ranks: a digest names them
                    name += "/" + hashlib.sha256(repr(ranks).encode()).hexdigest()[:16]
                store = dist.PrefixStore(name, self._store)
                make = self._nccl if device == "cuda" else self._gloo
                group = make(store, ranks.index(self._rank), len(ranks))
                self._groups[key] = group
        return group

    def forget(self, set_id: int) -> None:
        """Closes the groups of a set."""
        with self._lock:
            for key in [key for key in self._groups if key[0] == set_id]:
                machine.leave(self._groups.pop(key))

    def close(self) -> None:
        """Closes all. Whoever waits for this rank in one of them gets an error."""
        with self._lock:
            for group in self._groups.values():
                machine.leave(group)
            self._groups.clear()

    def _gloo(self, store: dist.Store, rank: int, size: int) -> dist.ProcessGroup:
        options = dist.ProcessGroupGloo._Options()
        options._timeout = self._timeout
        if self._interface:
            device = dist.ProcessGroupGloo.create_device(interface=self._interface)
        else:
            # A host's name may resolve to its loopback address, which other hosts cannot reach.
            host = address_towards(self._towards)
            device = dist.ProcessGroupGloo.create_device(hostname=host)
        options._devices = [device]
        return dist.ProcessGroupGloo(store, rank, size, options)

    def _nccl(self, store: dist.Store, rank: int, size: int) -> dist.ProcessGroup:
        return nccl(store, rank, size, self._timeout)


def nccl(store: dist.Store, rank: int, size: int, timeout: datetime.timedelta) -> dist.ProcessGroup:
    """A group of NCCL's, for the current device.

    Raises:
        RuntimeError: this PyTorch has no NCCL.
    """
    if not dist.is_nccl_available():
        raise RuntimeError(
            "a CUDA tensor needs NCCL, and this PyTorch was built without it. Install "
            "PyTorch's CUDA build, or move the tensor to the CPU."
        )
    options = dist.ProcessGroupNCCL.Options()
    options._timeout = timeout
    torch.cuda.current_stream()  # the context of this thread's device
    return dist.ProcessGroupNCCL(store, rank, size, options)
