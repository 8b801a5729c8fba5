"""Allreduce: of one tensor, of a group, of a sparse gradient."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from taco.lightcc.adaptive.residuals import BucketState
from taco.lightcc.adaptive.wish import Wish
from taco.lightcc.engine import requests as rq
from taco.lightcc.torch import _state
from taco.lightcc.torch._submit import (
    Adasum,
    Average,
    check_tensor,
    choose_op,
    op_name,
    submit,
)
from taco.lightcc.torch.compression import Compression
from taco.lightcc.torch.gathers import allgather_async
from taco.lightcc.torch.process_sets import ProcessSet, global_process_set


def _check_adasum(op: int, process_set: ProcessSet) -> None:
    if op != Adasum:
        return
    if process_set is not global_process_set:
        raise NotImplementedError("Adasum does not support non-global process sets yet.")
    size = _state.runtime().size
    if size & (size - 1):
        raise NotImplementedError("Running Adasum with non-power of 2 ranks is not supported yet.")


def _reduce(
    tensors: Sequence[torch.Tensor],
    outputs: Sequence[torch.Tensor],
    name: str | None,
    op: int,
    prescale_factor: float,
    postscale_factor: float,
    process_set: ProcessSet,
    finish: Callable[[Any], Any],
    mode: str = "",
    state: Any = None,
) -> int:
    _check_adasum(op, process_set)
    return submit(
        rq.ALLREDUCE,
        tensors,
        name,
        process_set,
        outputs=outputs,
        reduces=True,
        finish=finish,
        op=op_name(op),
        prescale=float(prescale_factor),
        postscale=float(postscale_factor),
        mode=mode,
        state=state,
    )


def allreduce_async(
    tensor: torch.Tensor,
    average: bool | None = None,
    name: str | None = None,
    op: int | None = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
    process_set: ProcessSet = global_process_set,
) -> int:
    """Begins to reduce a tensor over all ranks of a process set; the input is not modified.

    Args:
        tensor: contiguous, any shape; dtype and shape are the same on every rank.
        average: the older form of `op`.
        name: what the ranks know it by; numbered in order of the calls if None.
        op: Average (default), Sum, Adasum, Min, Max or Product.
        prescale_factor: the input is multiplied with it first.
        postscale_factor: the result is multiplied with it.
        process_set: who takes part.

    Returns:
        A handle for `poll` and `synchronize`, which gives a new tensor of the same shape.

    Raises:
        ValueError: the tensor is of no kind that can be reduced; the name is in progress.
        HorovodInternalError: from `synchronize`: ranks disagree, or one is gone.
    """
    check_tensor(tensor, reduces=True)
    output = torch.empty_like(tensor)
    return _reduce(
        [tensor],
        [output],
        name,
        choose_op(op, average),
        prescale_factor,
        postscale_factor,
        process_set,
        lambda _: output,
    )


def allreduce_async_(
    tensor: torch.Tensor,
    average: bool | None = None,
    name: str | None = None,
    op: int | None = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
    process_set: ProcessSet = global_process_set,
) -> int:
    """As `allreduce_async`, in place: `synchronize` gives the same tensor."""
    tensors = [tensor]
    return _reduce(
        tensors,
        tensors,
        name,
        choose_op(op, average),
        prescale_factor,
        postscale_factor,
        process_set,
        lambda _: tensor,
    )


class _Allreduce(torch.autograd.Function):
    """The gradient of a reduction is the same reduction of the gradients."""

    @staticmethod
    def forward(ctx, tensor, name, op, prescale, postscale, process_set):  # type: ignore[no-untyped-def]
        ctx.reduction = op, prescale, postscale, process_set
        handle = allreduce_async(tensor, None, name, op, prescale, postscale, process_set)
        return _state.synchronize(handle)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        op, prescale, postscale, process_set = ctx.reduction
        reduced = _Allreduce.apply(grad.contiguous(), None, op, prescale, postscale, process_set)
        return reduced, None, None, None, None, None


def allreduce(
    tensor: torch.Tensor,
    average: bool | None = None,
    name: str | None = None,
    compression: Any = Compression.none,
    op: int | None = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
    process_set: ProcessSet = global_process_set,
) -> torch.Tensor:
    """Reduces a tensor over all ranks of a process set. Differentiable.

    Args:
        tensor: as for `allreduce_async`.
        average: the older form of `op`.
        name: as there.
        compression: `Compression.none` or `Compression.fp16`: how it travels.
        op: as there.
        prescale_factor: as there.
        postscale_factor: as there.
        process_set: as there.

    Returns:
        A new tensor of the same shape and dtype.

    Raises:
        As `allreduce_async` and `synchronize`.
    """
    compressed, ctx = compression.compress(tensor)
    reduced = _Allreduce.apply(
        compressed, name, choose_op(op, average), prescale_factor, postscale_factor, process_set
    )
    result: torch.Tensor = compression.decompress(reduced, ctx)
    return result


def allreduce_(
    tensor: torch.Tensor,
    average: bool | None = None,
    name: str | None = None,
    op: int | None = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
    process_set: ProcessSet = global_process_set,
) -> torch.Tensor:
    """As `allreduce`, in place and not differentiable. Returns the same tensor."""
    handle = allreduce_async_(
        tensor, average, name, op, prescale_factor, postscale_factor, process_set
    )
    result: torch.Tensor = _state.synchronize(handle)
    return result


def grouped_allreduce_async(
    tensors: Sequence[torch.Tensor],
    average: bool | None = None,
    name: str | None = None,
    op: int | None = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
    process_set: ProcessSet = global_process_set,
) -> int:
    """As `allreduce_async` for a list of tensors that start together, once every rank has all.

    Returns:
        A handle; `synchronize` gives the list of new tensors.
    """
    _check_group(tensors)
    outputs = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in tensors]
    return _reduce(
        tensors,
        outputs,
        name,
        choose_op(op, average),
        prescale_factor,
        postscale_factor,
        process_set,
        lambda _: outputs,
    )


def grouped_allreduce_async_(
    tensors: Sequence[torch.Tensor],
    average: bool | None = None,
    name: str | None = None,
    op: int | None = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
    process_set: ProcessSet = global_process_set,
) -> int:
    """As `grouped_allreduce_async`, in place: `synchronize` gives the same tensors."""
    _check_group(tensors)
    return _reduce(
        tensors,
        tensors,
        name,
        choose_op(op, average),
        prescale_factor,
        postscale_factor,
        process_set,
        lambda _: list(tensors),
    )


def reduce_gradients_async_(
    tensors: Sequence[torch.Tensor],
    name: str,
    op: int,
    prescale_factor: float,
    postscale_factor: float,
    process_set: ProcessSet,
    wish: Wish,
    state: BucketState | None,
) -> int:
    """As `grouped_allreduce_async_`, for a bucket of gradients.

    Args:
        tensors: the gradients.
        name, op, prescale_factor, postscale_factor, process_set: as there.
        wish: how it may be carried out; the same on every rank.
        state: what is held back; this rank's own. None for what is not tracked.
    """
    _check_group(tensors)
    return _reduce(
        tensors,
        tensors,
        name,
        op,
        prescale_factor,
        postscale_factor,
        process_set,
        lambda _: None,
        str(wish),
        state,
    )


def _check_group(tensors: Sequence[torch.Tensor]) -> None:
    if not tensors:
        raise ValueError("A group needs at least one tensor.")
    devices = {tensor.device.type for tensor in tensors}
    if len(devices) > 1:
        raise ValueError(
            f"The tensors of a group are on {sorted(devices)}: use one kind of device."
        )


class _GroupedAllreduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, name, op, prescale, postscale, process_set, *tensors):  # type: ignore[no-untyped-def]
        ctx.reduction = op, prescale, postscale, process_set
        handle = grouped_allreduce_async(tensors, None, name, op, prescale, postscale, process_set)
        return tuple(_state.synchronize(handle))

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[no-untyped-def]
        op, prescale, postscale, process_set = ctx.reduction
        grads = [grad.contiguous() for grad in grads]
        reduced = _GroupedAllreduce.apply(None, op, prescale, postscale, process_set, *grads)
        return (None, None, None, None, None, *reduced)


def grouped_allreduce(
    tensors: Sequence[torch.Tensor],
    average: bool | None = None,
    name: str | None = None,
    compression: Any = Compression.none,
    op: int | None = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
    process_set: ProcessSet = global_process_set,
) -> list[torch.Tensor]:
    """As `allreduce` for a list of tensors. Returns a list of new ones. Differentiable."""
    _check_group(tensors)
    compressed, contexts = zip(*[compression.compress(t) for t in tensors], strict=True)
    reduced = _GroupedAllreduce.apply(
        name,
        choose_op(op, average),
        prescale_factor,
        postscale_factor,
        process_set,
        *compressed,
    )
    return [compression.decompress(t, ctx) for t, ctx in zip(reduced, contexts, strict=True)]


def grouped_allreduce_(
    tensors: Sequence[torch.Tensor],
    average: bool | None = None,
    name: str | None = None,
    op: int | None = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
    process_set: ProcessSet = global_process_set,
) -> list[torch.Tensor]:
    """As `grouped_allreduce`, in place and not differentiable. Returns the same tensors."""
    handle = grouped_allreduce_async_(
        tensors, average, name, op, prescale_factor, postscale_factor, process_set
    )
    result: list[torch.Tensor] = _state.synchronize(handle)
    return result


def sparse_allreduce_async(
    tensor: torch.Tensor,
    name: str | None,
    op: int,
    process_set: ProcessSet = global_process_set,
) -> "SparseHandle":
    """Begins to add sparse COO tensors: indices and values of all ranks, one after the other.

    Args:
        tensor: sparse COO, the same dense shape on every rank; the number of entries may differ.
        name: what the ranks know it by.
        op: Sum or Average.
        process_set: who takes part.

    Returns:
        A function that waits and returns the reduced tensor, not coalesced: equal indices of
        several ranks stand in it several times, which means their sum.

    Raises:
        ValueError: the tensor is not sparse, or the reduction no sum.
    """
    if not tensor.is_sparse:
        raise ValueError("sparse_allreduce_async expects a sparse COO tensor.")
    if op_name(op) not in ("sum", "average"):
        raise ValueError("sparse_allreduce_async adds: op is hvd.Sum or hvd.Average.")
    names = (None, None) if name is None else (f"{name}.indices", f"{name}.values")
    rows = tensor._indices().transpose(0, 1).contiguous()  # rows are gathered
    indices_handle = allgather_async(rows, names[0], process_set)
    values_handle = allgather_async(tensor._values().contiguous(), names[1], process_set)

    return SparseHandle(indices_handle, values_handle, tensor.size(), op, process_set)


class SparseHandle:
    """What `sparse_allreduce_async` gives: call it for the result."""

    def __init__(
        self, indices: int, values: int, shape: torch.Size, op: int, process_set: ProcessSet
    ) -> None:
        self.handles = (indices, values)
        self._shape = shape
        self._divisor = process_set.size() if op == Average else 1

    def __call__(self) -> torch.Tensor:
        indices, values = (_state.synchronize(handle) for handle in self.handles)
        if self._divisor != 1:
            values = values / self._divisor
        return torch.sparse_coo_tensor(
            indices.transpose(0, 1), values, self._shape, check_invariants=False
        )
