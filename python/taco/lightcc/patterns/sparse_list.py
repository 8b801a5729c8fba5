"""Lists of (index, value), as TopK gives them, and how they become dense again."""

import dataclasses
from collections.abc import Callable

import torch


@dataclasses.dataclass(frozen=True)
class SparseList:
    """Some elements of a dense tensor; all others count as zero.

    Attributes:
        indices: (k,) int32, strictly ascending, each in [0, length).
        values: (k,), any dtype that torch can add.
        length: elements of the dense tensor, at most 2**31 - 1.
    """

    indices: torch.Tensor
    values: torch.Tensor
    length: int

    def slice(self, low: int, high: int) -> "SparseList":
        """The elements low to high - 1 as a list of that length; views where nothing moves."""
        limits = torch.tensor([low, high], dtype=torch.int32)
        first, last = torch.searchsorted(self.indices, limits).tolist()
        indices = self.indices[first:last]
        return SparseList(indices - low if low else indices, self.values[first:last], high - low)


Accumulate = Callable[[torch.Tensor, SparseList], None]
"""Adds a list into a dense tensor of its length."""


def accumulate(out: torch.Tensor, part: SparseList) -> None:
    """`out[indices] += values`, rounded to the dtype of `out`.

    The indices of a list are distinct, so every element is added to once, and the sum is the same
    in every run. (`scatter_add_` takes a fifth of the time of `out[indices] += values`.)

    Args:
        out: (length,), contiguous.
        part: the list.
    """
    out.scatter_add_(0, part.indices.long(), part.values.to(out.dtype))


def check_list(part: SparseList) -> None:
    """Raises ValueError unless a list is as `SparseList` says; reads the indices once."""
    indices, values = part.indices, part.values
    if indices.dim() != 1 or indices.dtype != torch.int32 or values.shape != indices.shape:
        raise ValueError(
            f"indices (k,) int32 and as many values are needed, not {tuple(indices.shape)} "
            f"{indices.dtype} and {tuple(values.shape)}"
        )
    if not 0 <= part.length < 1 << 31:
        raise ValueError(f"a dense length of {part.length} does not fit 32-bit indices")
    if len(indices) == 0:
        return
    if int(indices[0]) < 0 or int(indices[-1]) >= part.length:
        raise ValueError(
            f"indices {int(indices[0])} to {int(indices[-1])} do not fit a length of {part.length}"
        )
    if not bool((indices[1:] > indices[:-1]).all()):
        raise ValueError("the indices do not ascend strictly")
