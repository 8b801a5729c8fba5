"""Carries out one response on this rank: the entries' tensors over the set's process group."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist

from taco.lightcc.engine import exchange, reduction
from taco.lightcc.engine import requests as rq
from taco.lightcc.engine.adasum import adasum_
from taco.lightcc.engine.handles import Entry
from taco.lightcc.engine.requests import Response, TensorSpec

# Reduces a flat tensor in place: (response, group, tensor, op, the entry's state). An average is
# summed; the division comes after.
Reducer = Callable[[Response, dist.ProcessGroup, torch.Tensor, str, Any], None]


def plain_reducer(
    response: Response, group: dist.ProcessGroup, tensor: torch.Tensor, op: str, state: Any
) -> None:
    """The process group's own allreduce."""
    reduction.all_reduce_(group, tensor, op)


class Collectives:
    """Executes responses. One thread at a time.

    Args:
        rank: this process's global rank.
        reducer: how an allreduce is carried out.
    """

    def __init__(self, rank: int, reducer: Reducer = plain_reducer) -> None:
        self._rank = rank
        self._reducer = reducer
        self._buffers: dict[tuple[torch.dtype, torch.device], torch.Tensor] = {}

    def execute(
        self, response: Response, entries: Sequence[Entry | None], group: dist.ProcessGroup | None
    ) -> list[Any]:
        """Runs one response.

        Args:
            response: what all members run now.
            entries: this rank's, one for each of the response's names; None where it has joined.
            group: the set's members; None for what needs none.

        Returns:
            The result of each name: a list of tensors (allreduce, allgather, broadcast,
            reducescatter), (rows, splits) for alltoall, an int for join and process sets.
        """
        if response.kind == rq.JOIN:
            return [response.last_joined]
        if response.kind in (rq.ADD_SET, rq.REMOVE_SET):
            return [response.new_set]
        assert group is not None
        if response.kind == rq.BARRIER:
            group.barrier(dist.BarrierOptions()).wait()
            return [None]
        if response.kind == rq.ALLREDUCE:
            return self._all_reduce(response, entries, group)
        entry = entries[0]
        assert entry is not None
        if response.kind == rq.ALLGATHER:
            return [
                [
                    exchange.all_gather(group, tensor, lengths)
                    for tensor, lengths in zip(entry.inputs, response.lengths, strict=True)
                ]
            ]
        if response.kind == rq.BROADCAST:
            return [self._broadcast(response, entry, group)]
        if response.kind == rq.ALLTOALL:
            return [exchange.all_to_all(group, entry.inputs[0], response.splits)]
        return [[self._reduce_scatter(response, tensor, group) for tensor in entry.inputs]]

    def _all_reduce(
        self, response: Response, entries: Sequence[Entry | None], group: dist.ProcessGroup
    ) -> list[list[torch.Tensor]]:
        inputs, outputs = self._operands(response, entries)
        # What belongs to one name alone; fused ones have nothing of the kind.
        state = entries[0].state if len(entries) == 1 and entries[0] is not None else None
        if len(outputs) == 1:
            if outputs[0] is not inputs[0]:
                outputs[0].copy_(inputs[0])
            self._reduce(response, group, outputs[0].view(-1), state)
        elif response.op == "adasum":  # each tensor has coefficients of its own
            for given, output in zip(inputs, outputs, strict=True):
                if output is not given:
                    output.copy_(given)
                self._reduce(response, group, output.view(-1), None)
        else:
            self._reduce_fused(response, group, inputs, outputs, state)
        return _grouped(outputs, response.counts)

    def _reduce_fused(
        self,
        response: Response,
        group: dist.ProcessGroup,
        inputs: list[torch.Tensor],
        outputs: list[torch.Tensor],
        state: Any,
    ) -> None:
        """One buffer for all tensors of a dtype: their own, where they stand in one."""
        flat = _adjacent(inputs, outputs)
        if flat is not None:
            self._reduce(response, group, flat, state)
            return
        kinds: dict[tuple[torch.dtype, torch.device], list[int]] = {}
        for i, tensor in enumerate(inputs):
            kinds.setdefault((tensor.dtype, tensor.device), []).append(i)
        for (dtype, device), members in kinds.items():
            elements = sum(inputs[i].numel() for i in members)
            buffer = self._buffer(dtype, device, elements)
            reduction.pack([inputs[i] for i in members], buffer, response.prescale)
            self._reducer(response, group, buffer, response.op, state if len(kinds) == 1 else None)
            factor = reduction.post_factor(response.op, response.postscale, group.size())
            reduction.unpack(buffer, [outputs[i] for i in members], factor)

    def _reduce(
        self, response: Response, group: dist.ProcessGroup, flat: torch.Tensor, state: Any
    ) -> None:
        """One tensor, in place, with its factors."""
        reduction.scale_(flat, response.prescale)
        if response.op == "adasum":
            adasum_(group, flat)
        else:
            self._reducer(response, group, flat, response.op, state)
        reduction.scale_(flat, reduction.post_factor(response.op, response.postscale, group.size()))

    def _operands(
        self, response: Response, entries: Sequence[Entry | None]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Inputs and outputs of all names; zeros where this rank has joined."""
        inputs: list[torch.Tensor] = []
        outputs: list[torch.Tensor] = []
        specs = iter(response.tensors)
        for entry, count in zip(entries, response.counts, strict=True):
            own = [next(specs) for _ in range(count)]
            if entry is None:
                zeros = [_zeros(spec) for spec in own]
                inputs += zeros
                outputs += zeros
            else:
                inputs += entry.inputs
                outputs += entry.outputs
        return inputs, outputs

    def _broadcast(
        self, response: Response, entry: Entry, group: dist.ProcessGroup
    ) -> list[torch.Tensor]:
        root = response.ranks.index(response.root)
        for given, output in zip(entry.inputs, entry.outputs, strict=True):
            if self._rank == response.root and output is not given:
                output.copy_(given)
            exchange.broadcast(group, output, root)
        return entry.outputs

    def _reduce_scatter(
        self, response: Response, tensor: torch.Tensor, group: dist.ProcessGroup
    ) -> torch.Tensor:
        if response.prescale != 1.0:
            tensor = tensor.clone()
            reduction.scale_(tensor, response.prescale)
        result = reduction.reduce_scatter(group, tensor, response.op)
        reduction.scale_(
            result, reduction.post_factor(response.op, response.postscale, group.size())
        )
        return result

    def _buffer(self, dtype: torch.dtype, device: torch.device, elements: int) -> torch.Tensor:
        """A flat buffer that is kept for the next time."""
        key = (dtype, device)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.numel() < elements:
            buffer = torch.empty(elements, dtype=dtype, device=device)
            self._buffers[key] = buffer
        return buffer[:elements]


def _adjacent(
    inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]
) -> torch.Tensor | None:
    """The memory of tensors that stand side by side, flat; None where they do not, or are copied.

    Args:
        inputs: contiguous.
        outputs: the same tensors, where the reduction is in place.
    """
    first = inputs[0]
    memory, at, end = first.untyped_storage().data_ptr(), first.data_ptr(), 0
    for given, output in zip(inputs, outputs, strict=True):
        if given is not output or given.data_ptr() != at or given.dtype != first.dtype:
            return None
        if given.untyped_storage().data_ptr() != memory:
            return None
        at += given.nbytes
        end += given.numel()
    return first.detach().as_strided((end,), (1,))


def _grouped(items: list[torch.Tensor], counts: Sequence[int]) -> list[list[torch.Tensor]]:
    groups = []
    start = 0
    for count in counts:
        groups.append(items[start : start + count])
        start += count
    return groups


def _zeros(spec: TensorSpec) -> torch.Tensor:
    device = (
        torch.device(spec.device, torch.cuda.current_device()) if spec.device == "cuda" else None
    )
    return torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype), device=device)
