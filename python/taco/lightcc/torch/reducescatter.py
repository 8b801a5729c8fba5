"""Reduce-scatter: every rank gets its rows of the reduced tensor."""

from collections.abc import Sequence
from typing import Any

import torch

from taco.lightcc.engine import requests as rq
from taco.lightcc.torch import _state
from taco.lightcc.torch._submit import Adasum, Average, Sum, op_name, submit
from taco.lightcc.torch.compression import Compression
from taco.lightcc.torch.gathers import grouped_allgather
from taco.lightcc.torch.process_sets import ProcessSet, global_process_set


def _check(tensors: Sequence[torch.Tensor], op: int) -> None:
    if not tensors:
        raise ValueError("A group needs at least one tensor.")
    if op == Adasum:
        raise NotImplementedError("Reducescatter does not support Adasum yet.")
    for tensor in tensors:
        if tensor.dim() == 0:
            raise ValueError("reducescatter does not support scalars: there are no rows to share.")


def grouped_reducescatter_async(
    tensors: Sequence[torch.Tensor],
    name: str | None = None,
    op: int = Average,
    process_set: ProcessSet = global_process_set,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
) -> int:
    """Begins to reduce tensors and to share out the rows of the results.

    Args:
        tensors: each contiguous, (rows, ...), the same shape and dtype on every rank.
        name: what the ranks know them by.
        op: Average, Sum, Min, Max or Product.
        process_set: who takes part.
        prescale_factor: the inputs are multiplied with it first.
        postscale_factor: the results are multiplied with it.

    Returns:
        A handle; `synchronize` gives a list of new tensors with this rank's rows. Where the ranks
        do not divide the rows, the first ranks get one more.

    Raises:
        ValueError: a tensor is a scalar, or of no kind that can be reduced.
        NotImplementedError: for Adasum.
    """
    _check(tensors, op)
    return submit(
        rq.REDUCESCATTER,
        tensors,
        name,
        process_set,
        reduces=True,
        finish=list,
        op=op_name(op),
        prescale=float(prescale_factor),
        postscale=float(postscale_factor),
    )


def reducescatter_async(
    tensor: torch.Tensor,
    name: str | None = None,
    op: int = Average,
    process_set: ProcessSet = global_process_set,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
) -> int:
    """As `grouped_reducescatter_async` for one tensor; `synchronize` gives one."""
    _check([tensor], op)
    return submit(
        rq.REDUCESCATTER,
        [tensor],
        name,
        process_set,
        reduces=True,
        finish=lambda tensors: tensors[0],
        op=op_name(op),
        prescale=float(prescale_factor),
        postscale=float(postscale_factor),
    )


class _Reducescatter(torch.autograd.Function):
    """The gradients of all ranks' rows, joined; scaled as the rows were."""

    @staticmethod
    def forward(ctx, name, op, process_set, prescale, postscale, *tensors):  # type: ignore[no-untyped-def]
        ctx.process_set = process_set
        ctx.factor = prescale * postscale * (process_set.size() if op == Sum else 1)
        handle = grouped_reducescatter_async(tensors, name, op, process_set, prescale, postscale)
        return tuple(_state.synchronize(handle))

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[no-untyped-def]
        scaled = [(grad * ctx.factor).contiguous() for grad in grads]
        gathered = grouped_allgather(scaled, process_set=ctx.process_set)
        return (None, None, None, None, None, *gathered)


def grouped_reducescatter(
    tensors: Sequence[torch.Tensor],
    name: str | None = None,
    compression: Any = Compression.none,
    op: int = Average,
    process_set: ProcessSet = global_process_set,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
) -> list[torch.Tensor]:
    """As `grouped_reducescatter_async`, waits. Differentiable."""
    _check(tensors, op)
    compressed, contexts = zip(*[compression.compress(t) for t in tensors], strict=True)
    reduced = _Reducescatter.apply(
        name, op, process_set, prescale_factor, postscale_factor, *compressed
    )
    return [compression.decompress(t, ctx) for t, ctx in zip(reduced, contexts, strict=True)]


def reducescatter(
    tensor: torch.Tensor,
    name: str | None = None,
    compression: Any = Compression.none,
    op: int = Average,
    process_set: ProcessSet = global_process_set,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
) -> torch.Tensor:
    """As `grouped_reducescatter` for one tensor. Differentiable."""
    return grouped_reducescatter(
        [tensor], name, compression, op, process_set, prescale_factor, postscale_factor
    )[0]
