"""Carries out an allreduce in the mode that its response names, and says what it took."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from taco import _loader
from taco.lightcc._settings import settings
from taco.lightcc.adaptive import calibration
from taco.lightcc.adaptive.cost import Costs
from taco.lightcc.adaptive.mode import DENSE, Mode, parse
from taco.lightcc.adaptive.places import Levels
from taco.lightcc.adaptive.residuals import BucketState
from taco.lightcc.adaptive.wish import CALIBRATE, RECUT
from taco.lightcc.engine import reduction
from taco.lightcc.engine.requests import Response
from taco.lightcc.patterns import (
    device,
    device_sparse,
    hierarchical,
    machine,
    sparse,
    sparse_balanced,
    sparse_hierarchical,
)
from taco.lightcc.patterns.reduction import Reduction
from taco.lightcc.patterns.sparse_list import SparseList
from taco.lightcc.patterns.transport import CountingTransport, GroupTransport, Transport

# Tags below belong to the engine's own exchanges.
_FIRST_TAG = 64

PROBE_ELEMENTS = 4096

# Of a dense bucket, under way at a time. By themselves allreduces are not cut: their bits are the
# process group's own.
_PARTS = 2

# float16 keeps 11 bits from 2^-14 on and ends at 65504: the largest value of the last result is
# brought to 2^10, which leaves room above for a jump and 24 powers of two below.
_HALF_TARGET = 10


@dataclass(frozen=True)
class Executed:
    """What one allreduce took, on this rank.

    Attributes:
        mode: in which it ran.
        seconds: from its first byte to its last.
        sent: bytes sent by this rank at each level.
        gradient_norm: of what there was to send, residual included; 0 where nobody looked.
        residual_norm: of what stayed.
        cosine: between what TopK has sent since the probe began and the dense sums, on a sample.
        loud: whether float16 could not hold the result, and it was reduced again in full.
    """

    mode: Mode
    seconds: float
    sent: dict[str, int]
    gradient_norm: float = 0.0
    residual_norm: float = 0.0
    cosine: float | None = None
    loud: bool = False


@dataclass(frozen=True)
class Route:
    """How a tensor on a device travels: by collectives of groups.

    Attributes:
        stages: inside machines and racks.
        across: the owners of this rank's shard; None where it owns none.
        level: of what goes across.
    """

    stages: tuple[device.Stage, ...]
    across: dist.ProcessGroup | None
    level: str


def _no_parts(response: Response, members: tuple[int, ...]) -> dist.ProcessGroup:
    raise RuntimeError("no groups of parts of a process set here")


class ModeReducer:
    """What `engine.Collectives` reduces with.

    Attributes:
        part: makes a group of some of a response's ranks, by position; set by who has the groups.

    Args:
        levels_of: the groups of a response's ranks.
        on_executed: told of every allreduce.
    """

    def __init__(
        self,
        levels_of: Callable[[Response], Levels],
        on_executed: Callable[[Response, Executed], None],
    ) -> None:
        self._levels_of = levels_of
        self._on_executed = on_executed
        self.part: Callable[[Response, tuple[int, ...]], dist.ProcessGroup] = _no_parts

    def __call__(
        self,
        response: Response,
        group: dist.ProcessGroup,
        tensor: torch.Tensor,
        op: str,
        state: BucketState | None,
    ) -> None:
        """Reduces a flat tensor in place.

        Args:
            response: says the mode.
            group: its members.
            tensor: (n,), contiguous.
            op: "sum", "average" (summed here), "min", "max" or "product".
            state: the bucket's; None for what has none, or on a rank that has joined.
        """
        if response.mode == CALIBRATE:
            tensor.copy_(torch.tensor(self._measured(response, group, tensor).numbers()))
            reduction.all_reduce_(group, tensor, "sum")
            return
        if state is not None:
            state.recut |= response.mode.endswith(RECUT)
        mode = parse(response.mode.removesuffix(RECUT))
        if group.size() == 1 or tensor.numel() == 0:
            if state is not None:
                _flush(tensor, state)
            return
        if tensor.dtype == torch.bool or (mode == DENSE and state is None):  # no gradients
            reduction.all_reduce_(group, tensor, op)
            return
        levels = self._levels_of(response)
        # Ranks that have joined see the same mode: either all of them come together here, or none.
        transport: Transport = GroupTransport(group, _FIRST_TAG)
        by_messages = by_messages_of(tensor)
        if mode != DENSE and by_messages:
            transport = _transport(group, levels)
        run = _Run(group, transport, levels, mode, op)
        if not by_messages and op in ("sum", "average") and (mode.ratio or mode.levels > 1):
            run.route = self._route(response, group, levels, mode.levels)
        started = time.perf_counter()
        if mode.ratio:
            done = run.topk(tensor, state or BucketState())
        elif mode.half and tensor.dtype == torch.float32:
            done = run.half(tensor, state or BucketState())
        else:
            kept = _flush(tensor, state) if state is not None else None
            done = run.dense(tensor)
            if kept is not None and state is not None and not bool(torch.isfinite(tensor).all()):
                state.residual = kept  # the program will leave this step out
        if tensor.device.type == "cuda":
            torch.cuda.current_stream().synchronize()
        seconds = time.perf_counter() - started
        if state is not None:  # a bucket: others come under any number of names
            self._on_executed(response, Executed(mode, seconds, run.sent(), **done))

    def _route(
        self, response: Response, group: dist.ProcessGroup, levels: Levels, deep: int
    ) -> Route:
        """The groups of so many levels on a device."""
        rank = group.rank()
        plan = device.plan(rank, group.size(), tuple(levels.of(deep)))

        def part(members: tuple[int, ...]) -> dist.ProcessGroup:
            return group if len(members) == group.size() else self.part(response, members)

        stages = tuple(
            device.Stage(part(members), owners, level)
            for (members, owners), level in zip(plan.stages, ("inside", "rack"), strict=False)
            if len(members) > 1
        )
        if not plan.across:
            return Route(stages, None, "")
        next_one = plan.across[(plan.across.index(rank) + 1) % len(plan.across)]
        return Route(stages, part(plan.across), levels.level_between(rank, next_one))

    def _measured(
        self, response: Response, group: dist.ProcessGroup, tensor: torch.Tensor
    ) -> Costs:
        """What this rank sees of the costs of allreduces on the tensor's device."""
        levels = self._levels_of(response)
        if by_messages_of(tensor):
            return calibration.measure(_transport(group, levels), levels, 0)
        route = self._route(response, group, levels, 2)
        inside = next((stage.group for stage in route.stages if stage.level == "inside"), None)
        if len(levels.hosts) == 1:
            return calibration.measure_on_device(group, None, tensor.device)
        return calibration.measure_on_device(inside, route.across, tensor.device)


def by_messages_of(tensor: torch.Tensor) -> bool:
    """Whether a tensor travels by messages of our own, and not by the groups' collectives."""
    return tensor.device.type == "cpu"


def _transport(group: dist.ProcessGroup, levels: Levels) -> Transport:
    return machine.over(group, _FIRST_TAG, levels.hosts, settings().taco_cma)


def _flush(tensor: torch.Tensor, state: BucketState) -> torch.Tensor | None:
    """Puts what was held back into a tensor that travels dense. Returns it, if there was any."""
    state.sparse = False
    state.accelerate(tensor)
    residual = state.residual
    if residual is None:
        return None
    residual = residual.to(tensor.device)
    whole = tensor.float() + residual
    tensor.copy_(whole)
    state.residual, state.family = None, ""
    state.thresholds.clear()
    if tensor.dtype != torch.float32:
        state.residual = whole.sub_(tensor.float()).nan_to_num_(0.0, 0.0, 0.0)
    return residual


def _move(tensor: torch.Tensor, state: BucketState) -> None:
    """Puts what was held back into a tensor, for levels in which a rank sees its own shard alone.

    Momentum goes on: the shard's velocity is that of the machine's ranks together. What waited is
    made small, so that momentum brings it to what it was.
    """
    if state.residual is None and state.velocity is None:
        return
    momentum, gain = state.momentum, state.gain
    whole = tensor.to(torch.float32, copy=True)
    if state.residual is not None:
        whole.add_(state.residual.to(tensor.device), alpha=(1.0 - momentum) / gain)
    if state.velocity is not None:
        whole.add_(state.velocity.to(tensor.device), alpha=momentum / gain)
    tensor.copy_(whole)
    rest = whole.sub_(tensor.float()).nan_to_num_(0.0, 0.0, 0.0)
    state.residual, state.velocity = rest.mul_(gain / (1.0 - momentum)), None


class _Run:
    """One allreduce."""

    def __init__(
        self, group: dist.ProcessGroup, transport: Transport, levels: Levels, mode: Mode, op: str
    ) -> None:
        self._group = group
        self._levels = levels
        self._mode = mode
        self._op = op
        rank = group.rank()
        self._transport = CountingTransport(
            transport, lambda peer: levels.level_between(rank, peer)
        )
        self._flat_bytes = 0
        self._counted: dict[str, int] = {}  # on a device
        self.route: Route | None = None

    def sent(self) -> dict[str, int]:
        """Bytes that this rank has sent, by level."""
        total = self._transport.sent_by_level() | self._counted
        if self._flat_bytes:  # the process group's own ring
            rank, size = self._group.rank(), self._group.size()
            level = self._levels.level_between(rank, (rank + 1) % size)
            share = 2 * (size - 1) * self._flat_bytes // size
            total[level] = total.get(level, 0) + share
        return total

    def dense(self, tensor: torch.Tensor) -> dict[str, Any]:
        groups = self._levels.of(self._mode.levels)
        if self.route is not None:
            device.all_reduce(tensor, self.route.stages, self._dense_across, self._count)
        elif groups and by_messages_of(tensor):
            op = Reduction("sum" if self._op == "average" else self._op)
            hierarchical.all_reduce(self._transport, tensor, groups, op)
        else:
            self._flat_bytes += tensor.numel() * tensor.element_size()
            parts = _PARTS if by_messages_of(tensor) else 1  # a device runs them in turn
            reduction.all_reduce_(self._group, tensor, self._op, parts)
        return {}

    def _dense_across(self, shard: torch.Tensor, low: int) -> None:
        assert self.route is not None and self.route.across is not None
        across = self.route.across
        if across.size() > 1:
            across.allreduce([shard], dist.AllreduceOptions()).wait()
            self._count(self.route.level, 2 * (across.size() - 1) * shard.nbytes // across.size())

    def _count(self, level: str, sent: int) -> None:
        self._counted[level] = self._counted.get(level, 0) + sent

    def half(self, tensor: torch.Tensor, state: BucketState) -> dict[str, Any]:
        """In float16, scaled by what the last result was; in full if that was not enough."""
        kept = _flush(tensor, state)
        small = torch.mul(tensor, state.half_scale).to(torch.float16)
        self.dense(small)
        largest = float(small.abs().max())  # the same bits everywhere
        if math.isfinite(largest):
            torch.mul(small.float(), 1.0 / state.half_scale, out=tensor)
            if largest > 0:
                exponent = _HALF_TARGET - math.frexp(largest)[1]
                state.half_scale *= 2.0 ** max(-40, min(40, exponent))
                state.half_scale = min(2.0**60, max(2.0**-60, state.half_scale))
            return {}
        state.half_scale = 1.0
        self.dense(tensor)
        if kept is not None and not bool(torch.isfinite(tensor).all()):
            state.residual = kept
        return {"loud": True}

    def topk(self, tensor: torch.Tensor, state: BucketState) -> dict[str, Any]:
        """The largest elements of what there is, the rest being kept."""
        ops = _loader.load_torch_ops()
        mode = self._mode
        family = str(mode.family)
        if state.family != family:
            if mode.levels > 1:
                _move(tensor, state)
            state.thresholds.clear()
            state.family = family
        state.sparse = True
        state.prepare(tensor.numel(), tensor.device)
        residual, velocity = state.residual, state.velocity
        assert residual is not None
        dense_sample = self._sample(tensor).clone() if mode.probe else None

        def select(shard: torch.Tensor, low: int) -> tuple[torch.Tensor, ...]:
            # Without what evens out the shards.
            low, high = min(low, residual.numel()), min(low + shard.numel(), residual.numel())
            shard = shard[: high - low]
            k = min(shard.numel(), max(1, round(shard.numel() * mode.ratio)))
            more = (
                {
                    "velocity": velocity[low:high],
                    "momentum": state.momentum,
                    "scale": state.gain,
                }
                if velocity is not None
                else {}
            )
            half = torch.float16 if mode.half else None
            threshold = state.threshold(low, shard.device)
            found: tuple[torch.Tensor, ...] = ops.topk_compress(
                shard, residual[low:high], threshold, k, values_dtype=half, **more
            )
            return found

        def compress(shard: torch.Tensor, low: int) -> SparseList:
            indices, values, count = select(shard, low)
            sent = int(count)
            return SparseList(indices[:sent], values[:sent], shard.numel())

        if self.route is not None:
            route, across = self.route, self.route.across

            def summed(shard: torch.Tensor, low: int) -> None:
                assert across is not None
                indices, values, _ = select(shard, low)
                # Without what evens out the shards, there may be nothing of this one.
                part = shard[: max(0, min(shard.numel(), residual.numel() - low))]
                total = part if part.dtype == torch.float32 else torch.empty_like(part).float()
                if mode.balanced:
                    k = min(part.numel(), max(1, round(part.numel() * mode.ratio)))
                    rest = residual[low : low + part.numel()]
                    sent = device_sparse.balanced(across, indices, values, k, rest, total, ops)
                else:
                    sent = device_sparse.gather(across, indices, values, total, ops)
                if total is not part:
                    part.copy_(total)
                self._count(route.level, sent)

            device.all_reduce(tensor, route.stages, summed, self._count)
        elif mode.levels == 1 and not mode.balanced:
            sparse.all_reduce(self._transport, compress(tensor, 0), tensor, add=_add)
        elif mode.levels == 1:
            k = min(tensor.numel(), max(1, round(tensor.numel() * mode.ratio)))
            part = compress(tensor, 0)
            dropped = sparse_balanced.all_reduce(self._transport, part, k, tensor, add=_add)
            for lost in dropped:
                _add(residual, lost)
        else:
            lists = sparse_hierarchical.all_reduce(
                self._transport, tensor, self._levels.hosts, compress, add=_add
            )
            for low, lost in lists:
                _add(residual[low : low + lost.length], lost)
        before, after = state.norms()
        done: dict[str, Any] = {"gradient_norm": before, "residual_norm": after}
        if dense_sample is not None:
            done["cosine"] = self._probe(state, dense_sample, self._sample(tensor))
        else:
            state.probe = None
        return done

    def _sample(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor[:: max(1, tensor.numel() // PROBE_ELEMENTS)].float()

    def _probe(self, state: BucketState, dense: torch.Tensor, sent: torch.Tensor) -> float:
        """Cosine of the angle between all that was sent and all that there was, on a sample."""
        reduction.all_reduce_(self._group, dense, "sum")
        if state.probe is None:
            state.probe = (torch.zeros_like(sent), torch.zeros_like(dense))
        total_sent, total_dense = state.probe
        total_sent += sent
        total_dense += dense
        norms = float(total_sent.norm()) * float(total_dense.norm())
        return float(torch.dot(total_sent, total_dense)) / norms if norms > 0 else 1.0


def _add(out: torch.Tensor, part: SparseList) -> None:
    if out.dtype == torch.float32:
        _loader.load_torch_ops().topk_accumulate_(out, [part.indices], [part.values])
    else:
        out.scatter_add_(0, part.indices.long(), part.values.to(out.dtype))
