"""Collectives that move tensors: allgather, broadcast, alltoall."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from taco.lightcc.engine import requests as rq
from taco.lightcc.torch import _state
from taco.lightcc.torch._submit import check_tensor, refuse, submit
from taco.lightcc.torch.process_sets import ProcessSet, global_process_set


def _first(tensors: list[torch.Tensor]) -> torch.Tensor:
    return tensors[0]


def allgather_async(
    tensor: torch.Tensor, name: str | None = None, process_set: ProcessSet = global_process_set
) -> int:
    """Begins to join the ranks' tensors along their first dimension.

    Args:
        tensor: contiguous, at least one dimension (a scalar counts as one row); all dimensions
            but the first, and the dtype, are the same on every rank.
        name: what the ranks know it by.
        process_set: who takes part.

    Returns:
        A handle; `synchronize` gives a new tensor, (sum of first dimensions, ...).

    Raises:
        As `allreduce_async`.
    """
    return submit(rq.ALLGATHER, [_with_rows(tensor)], name, process_set, finish=_first)


def _with_rows(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(1) if isinstance(tensor, torch.Tensor) and tensor.dim() == 0 else tensor


def _own_rows(grad: torch.Tensor, rows: int, process_set: ProcessSet) -> torch.Tensor:
    """This rank's part of what the ranks' rows were joined to."""
    counts = allgather(torch.tensor([rows]), process_set=process_set)
    offset = int(counts[: process_set.rank()].sum())
    return grad.narrow(0, offset, rows)


class _Allgather(torch.autograd.Function):
    """The gradient: averaged over the ranks, and this rank's rows of it."""

    @staticmethod
    def forward(ctx, tensor, name, process_set):  # type: ignore[no-untyped-def]
        ctx.shape, ctx.process_set = tensor.shape, process_set
        return _state.synchronize(allgather_async(tensor, name, process_set))

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        from taco.lightcc.torch.allreduce import allreduce

        reduced = allreduce(grad.contiguous(), process_set=ctx.process_set)
        rows = ctx.shape[0] if ctx.shape else 1
        return _own_rows(reduced, rows, ctx.process_set).reshape(ctx.shape), None, None


def allgather(
    tensor: torch.Tensor, name: str | None = None, process_set: ProcessSet = global_process_set
) -> torch.Tensor:
    """As `allgather_async`, waits. Differentiable."""
    result: torch.Tensor = _Allgather.apply(tensor, name, process_set)
    return result


def grouped_allgather_async(
    tensors: Sequence[torch.Tensor],
    name: str | None = None,
    process_set: ProcessSet = global_process_set,
) -> int:
    """As `allgather_async` for a list that starts together. `synchronize` gives a list."""
    if not tensors:
        raise ValueError("A group needs at least one tensor.")
    rows = [_with_rows(tensor) for tensor in tensors]
    return submit(rq.ALLGATHER, rows, name, process_set, finish=list)


class _GroupedAllgather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, name, process_set, *tensors):  # type: ignore[no-untyped-def]
        ctx.shapes, ctx.process_set = [tensor.shape for tensor in tensors], process_set
        return tuple(_state.synchronize(grouped_allgather_async(tensors, name, process_set)))

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[no-untyped-def]
        from taco.lightcc.torch.allreduce import grouped_allreduce

        reduced = grouped_allreduce(
            [grad.contiguous() for grad in grads], process_set=ctx.process_set
        )
        own = [
            _own_rows(grad, shape[0] if shape else 1, ctx.process_set).reshape(shape)
            for grad, shape in zip(reduced, ctx.shapes, strict=True)
        ]
        return (None, None, *own)


def grouped_allgather(
    tensors: Sequence[torch.Tensor],
    name: str | None = None,
    process_set: ProcessSet = global_process_set,
) -> list[torch.Tensor]:
    """As `allgather` for a list of tensors. Differentiable."""
    return list(_GroupedAllgather.apply(name, process_set, *tensors))


def broadcast_async(
    tensor: torch.Tensor,
    root_rank: int,
    name: str | None = None,
    process_set: ProcessSet = global_process_set,
) -> int:
    """Begins to send the root's tensor to all; the input is not modified.

    Args:
        tensor: contiguous; dtype and shape are the same on every rank.
        root_rank: global rank of whose values all get.
        name: what the ranks know it by.
        process_set: who takes part; the root is one of them.

    Returns:
        A handle; `synchronize` gives a new tensor.

    Raises:
        As `allreduce_async`.
    """
    check_tensor(tensor, reduces=False)
    output = torch.empty_like(tensor)
    return _broadcast([tensor], [output], root_rank, name, process_set)


def broadcast_async_(
    tensor: torch.Tensor,
    root_rank: int,
    name: str | None = None,
    process_set: ProcessSet = global_process_set,
) -> int:
    """As `broadcast_async`, in place: `synchronize` gives the same tensor."""
    tensors = [tensor]
    return _broadcast(tensors, tensors, root_rank, name, process_set)


def _broadcast(
    tensors: list[torch.Tensor],
    outputs: list[torch.Tensor],
    root_rank: int,
    name: str | None,
    process_set: ProcessSet,
) -> int:
    job = _state.runtime()
    members = job.sets.get(process_set.process_set_id or 0, ())
    why = ""
    if not isinstance(root_rank, int) or root_rank not in members:
        why = f"broadcast from root rank {root_rank}, which is none of the ranks {list(members)}"
    return submit(
        rq.BROADCAST,
        tensors,
        name,
        process_set,
        outputs=outputs,
        finish=lambda _: outputs[0],
        root=root_rank if isinstance(root_rank, int) else -1,
        invalid=why,
    )


class _Broadcast(torch.autograd.Function):
    """The gradient: averaged, and it belongs to the root alone."""

    @staticmethod
    def forward(ctx, tensor, root_rank, name, process_set):  # type: ignore[no-untyped-def]
        ctx.root_rank, ctx.process_set = root_rank, process_set
        return _state.synchronize(broadcast_async(tensor, root_rank, name, process_set))

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        from taco.lightcc.torch.allreduce import allreduce

        reduced = allreduce(grad.contiguous(), process_set=ctx.process_set)
        if _state.runtime().rank != ctx.root_rank:
            reduced = torch.zeros_like(reduced)
        return reduced, None, None, None


def broadcast(
    tensor: torch.Tensor,
    root_rank: int,
    name: str | None = None,
    process_set: ProcessSet = global_process_set,
) -> torch.Tensor:
    """As `broadcast_async`, waits. Differentiable."""
    result: torch.Tensor = _Broadcast.apply(tensor, root_rank, name, process_set)
    return result


def broadcast_(
    tensor: torch.Tensor,
    root_rank: int,
    name: str | None = None,
    process_set: ProcessSet = global_process_set,
) -> torch.Tensor:
    """As `broadcast`, in place and not differentiable. Returns the same tensor."""
    result: torch.Tensor = _state.synchronize(
        broadcast_async_(tensor, root_rank, name, process_set)
    )
    return result


def alltoall_async(
    tensor: torch.Tensor,
    splits: torch.Tensor | Sequence[int] | None = None,
    name: str | None = None,
    process_set: ProcessSet = global_process_set,
) -> int:
    """Begins to send each rank its part of this rank's rows.

    Args:
        tensor: contiguous, (rows, ...); all dimensions but the first, and the dtype, are the same
            on every rank.
        splits: int32 or int64, (ranks of the set,): how many rows, in order, each rank gets;
            equal parts if None. On any device.
        name: what the ranks know it by.
        process_set: who takes part.

    Returns:
        A handle; `synchronize` gives the rows received, in the order of the ranks; and, if
        `splits` was given, an int32 tensor of how many came from each, on the device of `splits`.

    Raises:
        ValueError: the splits are no integers, negative, too many, or more rows than there are;
            the rows do not divide into equal parts. The other ranks get an error too.
    """

    def finish(result: tuple[torch.Tensor, list[int]]) -> Any:
        rows, received = result
        return rows if splits is None else (rows, _received_splits(received, splits))

    return _submit_alltoall(tensor, splits, name, process_set, finish)


def _received_splits(received: list[int], splits: Any) -> torch.Tensor:
    device = splits.device if isinstance(splits, torch.Tensor) else torch.device("cpu")
    return torch.tensor(received, dtype=torch.int32, device=device)


def _submit_alltoall(
    tensor: torch.Tensor,
    splits: torch.Tensor | Sequence[int] | None,
    name: str | None,
    process_set: ProcessSet,
    finish: Callable[[Any], Any],
) -> int:
    try:
        parts = _check_splits(tensor, splits, process_set.size())
    except ValueError as error:
        refuse(rq.ALLTOALL, name, process_set, str(error))
        raise
    return submit(rq.ALLTOALL, [tensor], name, process_set, finish=finish, splits=parts)


def _check_splits(
    tensor: torch.Tensor, splits: torch.Tensor | Sequence[int] | None, members: int
) -> tuple[int, ...]:
    if tensor.dim() == 0:
        raise ValueError("alltoall needs a tensor with at least one dimension.")
    rows = tensor.shape[0]
    if splits is None:
        if rows % members:
            raise ValueError(
                f"alltoall without splits needs a first dimension that {members} ranks divide "
                f"evenly; it is {rows}."
            )
        return (rows // members,) * members
    if isinstance(splits, torch.Tensor) and splits.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"alltoall expects splits of 32-bit integers, got {splits.dtype}.")
    parts = tuple(splits.tolist() if isinstance(splits, torch.Tensor) else splits)
    if len(parts) != members or any(not isinstance(n, int) or n < 0 for n in parts):
        raise ValueError(
            f"alltoall expects {members} splits that are 0 or more, one a rank; got {list(parts)}."
        )
    if sum(parts) > rows:
        raise ValueError(
            f"The splits of alltoall add up to {sum(parts)}, and there are {rows} rows."
        )
    return parts


class _Alltoall(torch.autograd.Function):
    """The gradient goes back the way the rows came."""

    @staticmethod
    def forward(ctx, tensor, splits, name, process_set):  # type: ignore[no-untyped-def]
        handle = _submit_alltoall(tensor, splits, name, process_set, tuple)
        rows, ctx.received = _state.synchronize(handle)
        ctx.process_set, ctx.rows = process_set, tensor.shape[0]
        if splits is None:
            return rows
        received = _received_splits(ctx.received, splits)
        ctx.mark_non_differentiable(received)
        return rows, received

    @staticmethod
    def backward(ctx, grad, *_unused):  # type: ignore[no-untyped-def]
        handle = alltoall_async(grad.contiguous(), ctx.received, process_set=ctx.process_set)
        back, _ = _state.synchronize(handle)
        unsent = ctx.rows - back.shape[0]
        if unsent:  # rows that went to nobody
            back = torch.cat([back, back.new_zeros((unsent, *back.shape[1:]))])
        return back, None, None, None


def alltoall(
    tensor: torch.Tensor,
    splits: torch.Tensor | Sequence[int] | None = None,
    name: str | None = None,
    process_set: ProcessSet = global_process_set,
) -> Any:
    """As `alltoall_async`, waits. Differentiable."""
    if splits is not None and not isinstance(splits, torch.Tensor):
        splits = torch.tensor(list(splits), dtype=torch.int32)
    return _Alltoall.apply(tensor, splits, name, process_set)
