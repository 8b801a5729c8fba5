"""Turns tensors into requests: the checks that one rank can make by itself, and the names."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from taco.lightcc.engine.requests import Request, TensorSpec
from taco.lightcc.torch import _state
from taco.lightcc.torch.process_sets import ProcessSet

Average = 0
Sum = 1
Adasum = 2
Min = 3
Max = 4
Product = 5

_OP_NAMES = {
    Average: "average",
    Sum: "sum",
    Adasum: "adasum",
    Min: "min",
    Max: "max",
    Product: "product",
}

_REDUCIBLE = {
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
}
_MOVABLE = _REDUCIBLE | {torch.bool, torch.complex64, torch.complex128}


def op_name(op: int) -> str:
    """The engine's name of a reduction.

    Raises:
        ValueError: there is no such reduction.
    """
    try:
        return _OP_NAMES[op]
    except (KeyError, TypeError):
        raise ValueError(
            f"{op!r} is no reduction: use hvd.Average, Sum, Adasum, Min, Max or Product."
        ) from None


def choose_op(op: int | None, average: bool | None) -> int:
    """The reduction, from `op` and the older `average`.

    Raises:
        ValueError: both are given.
    """
    if op is not None:
        if average is not None:
            raise ValueError(
                "The op parameter supersedes average. Please provide only one of them."
            )
        return op
    return Sum if average is False else Average


def check_tensor(tensor: Any, reduces: bool) -> None:
    """Raises ValueError for what no collective of the kind takes."""
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"Expected a torch.Tensor, got {type(tensor).__name__}.")
    if tensor.layout is not torch.strided:
        raise ValueError(
            f"Tensor type {tensor.layout} is not supported: use sparse_allreduce_async, or "
            f"to_dense()."
        )
    if tensor.dtype not in (_REDUCIBLE if reduces else _MOVABLE):
        raise ValueError(f"Tensor type {tensor.dtype} is not supported.")
    if tensor.device.type not in ("cpu", "cuda"):
        raise ValueError(f"Tensor is on {tensor.device}; the CPU and CUDA are supported.")
    if not tensor.is_contiguous():
        raise ValueError("Tensor is required to be contiguous.")


def submit(
    kind: str,
    tensors: Sequence[torch.Tensor],
    name: str | None,
    process_set: ProcessSet,
    *,
    outputs: Sequence[torch.Tensor] = (),
    reduces: bool = False,
    finish: Callable[[Any], Any],
    state: Any = None,
    **fields: Any,
) -> int:
    """Checks and hands in a collective.

    Args:
        kind: of the engine's requests.
        tensors: inputs.
        name: what the ranks know it by; None numbers it.
        process_set: who takes part.
        outputs: where the engine puts the results, for reductions and broadcasts.
        reduces: whether the elements are computed with.
        finish: turns the engine's result into what `synchronize` returns.
        state: for the engine's reducer.
        **fields: more of the Request.

    Returns:
        A handle.
    """
    job = _state.runtime()
    if not process_set.included():
        raise ValueError(f"Rank {job.rank} is not part of {process_set}.")
    for tensor in tensors:
        check_tensor(tensor, reduces)
    set_id = process_set.process_set_id
    assert set_id is not None
    full_name = job.auto_name(kind, set_id) if name is None else f"{kind}.{name}"
    specs = tuple(
        TensorSpec(str(tensor.dtype)[6:], tuple(tensor.shape), tensor.device.type)
        for tensor in tensors
    )
    request = Request(kind, full_name, set_id, specs, **fields)
    inputs = [tensor.detach() for tensor in tensors]
    targets = inputs if outputs is tensors else [tensor.detach() for tensor in outputs]
    handle = job.submit(request, inputs, targets, state)
    return _state.keep(handle, finish)


def refuse(kind: str, name: str | None, process_set: ProcessSet, why: str) -> None:
    """Tells the other ranks that this one cannot take part, so that they fail and do not wait."""
    job = _state.runtime()
    set_id = process_set.process_set_id
    if set_id is None or not process_set.included():
        return
    full_name = job.auto_name(kind, set_id) if name is None else f"{kind}.{name}"
    job.submit(Request(kind, full_name, set_id, invalid=why))
