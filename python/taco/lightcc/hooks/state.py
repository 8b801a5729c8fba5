"""The state of the TopK hook: what was chosen, and what is held back."""

import contextlib
import functools
import os
import socket
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist

from taco import _loader
from taco.lightcc import checks, topology, warmup
from taco.lightcc._settings import settings
from taco.lightcc.adaptive.places import Groups, Place, levels_of
from taco.lightcc.hooks import exchange
from taco.lightcc.hooks.device import Exchange
from taco.lightcc.hooks.exchange import Selection
from taco.lightcc.hooks.held_back import Bucket, HeldBack
from taco.lightcc.hooks.worker import Worker, worker_of
from taco.lightcc.patterns import machine

# The first of some tags that programs hardly use.
_FIRST_TAG = 0x7AC0_0000

# Of these can be selected; other gradients travel dense.
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)

_OPTIONS = ("ratio", "fp16", "warmup_steps", "min_bytes", "start_step", "two_level")


class TopKState:
    """What `topk_hook` is registered with: options, and what has not been sent yet.

    It can be pickled, without the process group, and saved by `state_dict`. It may serve several
    models that use the same group.

    Args:
        process_group: that of the DDP model; None: the default one.
        ratio: part of the elements that is sent, above 0 and at most 1.
        fp16: values travel as float16; what rounding takes is not lost.
        warmup_steps: steps in which the ratio comes down from 0.25, by one factor each; 0: none.
        min_bytes: buckets below travel dense.
        start_step: steps, from the first, in which all travels dense.
        two_level: the ranks of each machine first add up their gradients, dense. Machines are told
            apart by the names that `taco run`, SLURM or the system give them.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        process_group: dist.ProcessGroup | None = None,
        ratio: float = 0.01,
        fp16: bool = False,
        warmup_steps: int = warmup.STEPS,
        min_bytes: int = 1 << 20,
        start_step: int = 2,
        two_level: bool = False,
    ) -> None:
        self.process_group = process_group
        self.ratio = checks.ratio(ratio)
        self.fp16 = fp16
        self.warmup_steps = checks.count("warmup_steps", warmup_steps)
        self.min_bytes = checks.count("min_bytes", min_bytes)
        self.start_step = checks.count("start_step", start_step)
        self.two_level = two_level
        self._begin()

    def _begin(self) -> None:
        self._held_back = HeldBack()
        self._place: tuple[int, int] | None = None  # rank and size, once they are known
        self._groups: Groups | None = None
        self._worker: Worker | None = None
        self._on_device = Exchange()
        self._last: torch.futures.Future[torch.Tensor] | None = None

    def reduce(
        self, bucket: dist.GradBucket, group: dist.ProcessGroup
    ) -> torch.futures.Future[torch.Tensor]:
        """Begins to average a bucket; see `topk_hook`."""
        buffer = bucket.buffer()
        if buffer.device.type not in ("cpu", "cuda"):
            raise ValueError(
                f"The TopK hook needs gradients on the CPU or a CUDA GPU, these are on "
                f"{buffer.device}. Leave the hook out."
            )
        self._enter((group.rank(), group.size()))
        mine = self._held_back.bucket(bucket.parameters(), self._settle)
        step = mine.steps
        mine.steps += 1
        if group.size() == 1 or not self._compresses(buffer, step):
            exchange.flush(buffer, mine)
            return self._dense(buffer, group)
        _loader.load_torch_ops()  # says here what is missing, and not in the thread
        ratio = warmup.warmed_up(self.ratio, step - self.start_step, self.warmup_steps)
        selection = Selection(ratio, self.fp16, self._machines(group))
        if not _in_thread(buffer):
            self._last = self._on_device.begin(buffer, mine, selection, group)
            return self._last
        self._worker = worker_of(group)
        self._last = self._worker.submit(_Job(buffer, mine, selection, group))
        return self._last

    def _dense(
        self, buffer: torch.Tensor, group: dist.ProcessGroup
    ) -> torch.futures.Future[torch.Tensor]:
        buffer.div_(group.size())
        work = dist.all_reduce(buffer, group=group, async_op=True)
        if not _in_thread(buffer):
            result: torch.futures.Future[torch.Tensor] = work.get_future().then(_first)
            return result
        # Nothing of Python's for Gloo's own thread to let go of: a program that ends meanwhile
        # destroys the group, which waits for that thread and keeps Python's lock.
        self._worker = worker_of(group)
        self._last = self._worker.submit(functools.partial(_wait, work, buffer))
        return self._last

    def _enter(self, place: tuple[int, int]) -> None:
        """Takes over what was loaded, or what comes from a world of another size."""
        if self._place not in (None, place):
            self._held_back.load(self.state_dict() | {"rank": place[0]})
            self._groups = None
        self._held_back.adopt(*place)
        self._place = place

    def _compresses(self, buffer: torch.Tensor, step: int) -> bool:
        """The same on every rank: shapes and steps are."""
        return (
            step >= self.start_step
            and buffer.layout == torch.strided
            and buffer.dtype in _DTYPES
            and 0 < buffer.numel() < 1 << 31
            and buffer.numel() * buffer.element_size() >= self.min_bytes
        )

    def _machines(self, group: dist.ProcessGroup) -> Groups | None:
        """The ranks of each machine; None if two levels are not wanted, or are none."""
        if not self.two_level:
            return None
        if self._groups is None:
            places: list[Any] = [None] * group.size()
            dist.all_gather_object(places, _here(), group)
            self._groups = levels_of(places, range(group.size())).hosts
        several = 1 < len(self._groups) < group.size()
        return self._groups if several else None

    def _settle(self) -> None:
        """Waits for what is under way."""
        if self._last is not None:
            with contextlib.suppress(RuntimeError):  # whoever called backward has been told
                self._last.wait()
            self._last = None

    def state_dict(self) -> dict[str, Any]:
        """What this rank holds back, for its own checkpoint.

        Returns:
            "version"; "rank" and "size" of this rank's group; and "parameters": of each, in the
            order in which DDP first reduced them, "elements", "steps" and "residual": (elements,)
            float32, or None.
        """
        self._settle()
        return self._held_back.record(*(self._place or (0, 1)))

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint; all ranks do, or none.

        A rank takes what was held back from its own checkpoint alone: where all ranks load rank
        0's, the others begin with nothing held back. In a world of another size it is scaled, and
        what ranks held back that are gone now is lost.

        Raises:
            ValueError: it is no state_dict of a TopKState, or of another model. For a state that
                has not been used yet, the latter comes out of the first backward.
        """
        self._settle()
        self._held_back.load(state_dict)
        if self._place is not None:
            self._held_back.adopt(*self._place)

    def __getstate__(self) -> dict[str, Any]:
        options = {name: getattr(self, name) for name in _OPTIONS}
        return {"options": options, "held_back": self.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The process group is the default one: set `process_group` where it is another."""
        self.process_group = None
        for name in _OPTIONS:
            setattr(self, name, state["options"][name])
        self._begin()
        self._held_back.load(state["held_back"])


class _Job:
    """One bucket's exchange."""

    def __init__(
        self,
        buffer: torch.Tensor,
        bucket: Bucket,
        selection: Selection,
        group: dist.ProcessGroup,
    ) -> None:
        self._buffer = buffer
        self._bucket = bucket
        self._selection = selection
        self._group = group

    def __call__(self) -> torch.Tensor:
        allowed = settings().taco_cma
        transport = machine.over(self._group, _FIRST_TAG, self._selection.groups, allowed)
        return exchange.average(transport, self._buffer, self._bucket, self._selection)


def _in_thread(buffer: torch.Tensor) -> bool:
    """Whether a thread exchanges it while backward goes on; else the device does."""
    return buffer.device.type == "cpu"


def _first(done: torch.futures.Future[list[torch.Tensor]]) -> torch.Tensor:
    return done.value()[0]


def _wait(work: dist.Work, buffer: torch.Tensor) -> torch.Tensor:
    work.wait()
    return buffer


def _here() -> Place:
    try:
        place = topology.detect(os.environ)
    except topology.TopologyError:  # ranks that were started by hand
        return Place(socket.gethostname())
    return Place(place.hostname)
