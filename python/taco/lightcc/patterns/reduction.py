"""What two partial results become: the operators of an allreduce."""

import enum
from collections.abc import Callable

import torch


class Reduction(enum.Enum):
    """How elements of different ranks are joined. An average is a sum that the caller scales.

    fp16 and bf16 are added as torch adds them: in fp32, rounded to the dtype after every addition,
    that is size - 1 times for an element. Who wants one rounding casts to fp32 first.
    """

    SUM = "sum"
    MIN = "min"
    MAX = "max"
    PRODUCT = "product"

    def into(self, target: torch.Tensor, other: torch.Tensor) -> None:
        """`target = target (op) other`, in place; NaN wins in MIN and MAX."""
        _INTO[self](target, other, out=target)


_INTO: dict[Reduction, Callable[..., torch.Tensor]] = {
    Reduction.SUM: torch.add,
    Reduction.MIN: torch.minimum,
    Reduction.MAX: torch.maximum,
    Reduction.PRODUCT: torch.mul,
}


def check_flat(tensor: torch.Tensor) -> None:
    """Raises ValueError unless a tensor is contiguous and has one dimension."""
    if tensor.dim() != 1 or not tensor.is_contiguous():
        raise ValueError(
            f"a pattern works in place on a contiguous tensor of one dimension, not on shape "
            f"{tuple(tensor.shape)} with strides {tensor.stride()}"
        )


def even_bounds(length: int, parts: int) -> list[int]:
    """parts + 1 ascending limits that cut `length` into parts as equal as possible."""
    return [length * part // parts for part in range(parts + 1)]
