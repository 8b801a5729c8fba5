"""Reductions over a group: scale, reduce, scale, with Horovod's arithmetic.

Factors are applied in the tensor's own precision for float32 and float64, in float32 for 16-bit
floats, in float64 with truncation for integers.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist

from taco import _loader
from taco.lightcc.engine.exchange import exchange

_OPS = {
    "sum": dist.ReduceOp.SUM,
    "average": dist.ReduceOp.SUM,
    "min": dist.ReduceOp.MIN,
    "max": dist.ReduceOp.MAX,
    "product": dist.ReduceOp.PRODUCT,
}

_FUSED = (torch.float32, torch.float16, torch.bfloat16)

# Gloo reduces these itself; others are widened on the way.
_WIDENED = {torch.int16: torch.int32, torch.bool: torch.uint8}

_WORTH_PARTS = 4 << 20  # bytes


def scale_(tensor: torch.Tensor, factor: float) -> None:
    """Multiplies in place; integers by way of float64, truncated."""
    if factor == 1.0:
        return
    if tensor.is_floating_point() or tensor.is_complex():
        tensor.mul_(factor)
    else:
        tensor.copy_(tensor.double().mul_(factor))


def post_factor(op: str, postscale: float, size: int) -> float:
    """What the reduced tensor is multiplied with."""
    return postscale / size if op == "average" else postscale


def all_reduce_(group: dist.ProcessGroup, tensor: torch.Tensor, op: str, parts: int = 1) -> None:
    """Reduces a contiguous tensor in place, without factors.

    Args:
        group: the members.
        tensor: (n,) if it is cut.
        op: "sum", "average" (summed here), "min", "max" or "product".
        parts: that are under way at a time, if the tensor is large: one is added while another
            travels. From three ranks on the order in which Gloo adds depends on the cuts.
    """
    if tensor.numel() == 0 or group.size() == 1:
        return
    options = dist.AllreduceOptions()
    options.reduceOp = _OPS[op]
    wide = _WIDENED.get(tensor.dtype) if tensor.device.type == "cpu" else None
    if wide is None:
        pieces = tensor.chunk(parts) if tensor.nbytes >= _WORTH_PARTS else (tensor,)
        for work in [group.allreduce([piece], options) for piece in pieces]:
            work.wait()
        return
    widened = tensor.to(wide)
    group.allreduce([widened], options).wait()
    tensor.copy_(widened)


def share_of(rows: int, size: int) -> list[int]:
    """How `rows` are shared out: the first members get one more where they do not divide."""
    return [rows // size + (member < rows % size) for member in range(size)]


def reduce_scatter(group: dist.ProcessGroup, tensor: torch.Tensor, op: str) -> torch.Tensor:
    """This member's rows of the reduced tensor, without factors.

    Rows come from every member directly and are added in the members' order: the same bits in
    every run.

    Args:
        group: the members.
        tensor: (rows, ...), contiguous, equal shapes everywhere.
        op: as in `all_reduce_`.
    """
    size = group.size()
    shares = share_of(tensor.shape[0], size)
    mine = shares[group.rank()]
    parts = tensor.new_empty((size, mine, *tensor.shape[1:]))
    exchange(group, tensor.split(shares), list(parts.unbind(0)))
    result = parts[0].clone()
    for part in parts[1:]:
        _combine_(result, part, op)
    return result


def _combine_(left: torch.Tensor, right: torch.Tensor, op: str) -> None:
    if op == "min":
        torch.minimum(left, right, out=left)
    elif op == "max":
        torch.maximum(left, right, out=left)
    elif op == "product":
        left.mul_(right)
    else:
        left.add_(right)


def pack(tensors: Sequence[torch.Tensor], buffer: torch.Tensor, factor: float) -> None:
    """Copies tensors, one after the other, into a flat buffer of their total size and kind.

    Args:
        tensors: contiguous.
        buffer: filled.
        factor: for all of them, as in `scale_`.
    """
    if _fuses(buffer):
        _loader.load_torch_ops().fuse(list(tensors), buffer, scale=factor)
        return
    torch.cat([tensor.reshape(-1) for tensor in tensors], out=buffer)
    scale_(buffer, factor)


def unpack(buffer: torch.Tensor, tensors: Sequence[torch.Tensor], factor: float) -> None:
    """The reverse of `pack`; the factor is applied on the way."""
    if _fuses(buffer):
        _loader.load_torch_ops().unfuse(buffer, list(tensors), scale=factor)
        return
    scale_(buffer, factor)
    parts = buffer.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_([tensor.view(-1) for tensor in tensors], list(parts))


def _fuses(buffer: torch.Tensor) -> bool:
    """Whether our own copies, which scale in the same pass, give what `scale_` gives."""
    return buffer.device.type == "cpu" and buffer.dtype in _FUSED
