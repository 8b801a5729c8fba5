"""The exchange of a bucket whose gradients are on a device: by collectives, in a stream of its own.

All collectives of a group have to begin in one order on every rank, DDP's own among them. So they
begin in the hook, in backward's thread, and the device does them while backward goes on.
"""

import contextlib
import datetime
import hashlib
import weakref

import torch
import torch.distributed as dist

from taco import _loader
from taco.lightcc.adaptive.places import Groups
from taco.lightcc.engine.groups import nccl
from taco.lightcc.hooks.exchange import MOST_RANKS_GATHERED, TWO_LEVELS, Selection, flush
from taco.lightcc.hooks.held_back import Bucket
from taco.lightcc.patterns import device, device_sparse

# As torch gives groups of NCCL's.
_TIMEOUT = datetime.timedelta(minutes=10)

_parts: weakref.WeakKeyDictionary[dist.ProcessGroup, dict[tuple[int, ...], dist.ProcessGroup]] = (
    weakref.WeakKeyDictionary()
)


class Exchange:
    """Averages buckets on a device. Keeps its stream."""

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def begin(
        self, buffer: torch.Tensor, bucket: Bucket, selection: Selection, group: dist.ProcessGroup
    ) -> torch.futures.Future[torch.Tensor]:
        """Begins to average a bucket.

        Args:
            buffer: (n,) float32, float16 or bfloat16, contiguous.
            bucket: what is held back of it, in and out.
            selection: the same on every rank.
            group: DDP's; NCCL's, where the buffer is on a GPU.

        Returns:
            The buffer. On a GPU, whoever waits for it has the current stream wait.

        Raises:
            ValueError: the group cannot carry tensors of a GPU.
        """
        if buffer.device.type != "cuda":
            self._average(buffer, bucket, selection, group)
            done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
            done.set_result(buffer)
            return done
        _check_backend(buffer.device, group)
        stream = self._streams.get(buffer.device)
        if stream is None:
            stream = self._streams[buffer.device] = torch.cuda.Stream(buffer.device)
        done = torch.futures.Future(devices=[buffer.device])
        stream.wait_stream(torch.cuda.current_stream(buffer.device))
        with torch.cuda.stream(stream):
            self._average(buffer, bucket, selection, group)
            buffer.record_stream(stream)
            done.set_result(buffer)
        return done

    def _average(
        self, buffer: torch.Tensor, bucket: Bucket, selection: Selection, group: dist.ProcessGroup
    ) -> None:
        ops = _loader.load_torch_ops()
        state, n = bucket.state, buffer.numel()
        state.prepare(n, buffer.device)
        total = buffer if buffer.dtype == torch.float32 else buffer.float()
        two_levels = selection.groups is not None
        if two_levels and state.family != TWO_LEVELS:
            # It may be anywhere in the bucket, and this rank looks at its own shard alone.
            state.family = TWO_LEVELS if flush(total, bucket) else ""
            state.prepare(n, buffer.device)
        elif not two_levels:
            state.family = ""
        residual = state.residual
        assert residual is not None
        stages, across = _route(selection.groups, group, buffer.device)

        def summed(shard: torch.Tensor, low: int) -> None:
            part = shard[: max(0, min(shard.numel(), n - low))]
            rest = residual[low : low + part.numel()]
            if not part.numel():
                return
            idle = _idle(part, low, bucket.bounds)
            aside = torch.where(idle, rest, 0.0)
            rest.masked_fill_(idle, 0.0)
            k = selection.count(part.numel())
            indices, values, _ = ops.topk_compress(
                part,
                rest,
                state.threshold(low, part.device),
                k,
                exact=k == part.numel(),
                values_dtype=torch.float16 if selection.half else buffer.dtype,
            )
            if two_levels or across.size() <= MOST_RANKS_GATHERED:
                device_sparse.gather(across, indices, values, part, ops)
            else:
                device_sparse.balanced(across, indices, values, k, rest, part, ops)
            rest.add_(aside)

        device.all_reduce(total, stages, summed)
        total.mul_(1.0 / group.size())
        if total is not buffer:
            buffer.copy_(total)


def _route(
    groups: Groups | None, group: dist.ProcessGroup, where: torch.device
) -> tuple[tuple[device.Stage, ...], dist.ProcessGroup]:
    """What is done inside a machine, and who goes across."""
    if groups is None:
        return (), group
    plan = device.plan(group.rank(), group.size(), (groups,))
    stages = tuple(
        device.Stage(_part(members, group, where), owners)
        for members, owners in plan.stages
        if len(members) > 1
    )
    return stages, _part(plan.across, group, where) if plan.across else group


def _part(
    members: tuple[int, ...], group: dist.ProcessGroup, where: torch.device
) -> dist.ProcessGroup:
    """A group of some ranks of DDP's. They come here at the same bucket, and the others need not:
    torch's new_group wants all ranks, or names groups by how many a rank has made."""
    parts = _parts.setdefault(group, {})
    part = parts.get(members)
    if part is None:
        digest = hashlib.sha256(repr(members).encode()).hexdigest()[:16]
        whole = group.get_group_store()
        store = dist.PrefixStore(f"taco.hook/{digest}", whole)
        rank, size = members.index(group.rank()), len(members)
        if where.type == "cuda":
            part = nccl(store, rank, size, _TIMEOUT)
        else:
            part = dist.ProcessGroupGloo(store, rank, size, _TIMEOUT)
        parts[members] = part
    return part


def _check_backend(where: torch.device, group: dist.ProcessGroup) -> None:
    name = "none"
    with contextlib.suppress(RuntimeError):
        name = str(group._get_backend(where).name())
    if name.lower() != "nccl":
        raise ValueError(
            f"The TopK hook needs a group of NCCL for gradients on {where}, and the backend of "
            f"this one is {name}. Call init_process_group('nccl'), or leave the hook out."
        )


def _idle(part: torch.Tensor, low: int, bounds: list[int]) -> torch.Tensor:
    """(n,) bool: which elements belong to parameters whose gradient is zero.

    DDP throws away the result for a parameter that no rank has used in this step, and what was
    sent of it would be lost.
    """
    ends = [min(max(bound - low, 0), part.numel()) for bound in bounds]
    lengths = [end - start for start, end in zip(ends, ends[1:], strict=False)]
    where = torch.tensor(lengths, pin_memory=part.is_cuda).to(part.device, non_blocking=True)
    largest = torch.segment_reduce(part.float().abs(), "max", lengths=where, unsafe=True)
    return torch.repeat_interleave(largest == 0, where, output_size=part.numel())
