"""The structures that kernels take, and checks of tensors that are to become part of them.

The layouts are those of torch_ext/cuda: topk.cuh, accumulate.cu and fuse.cu say what a field means.
"""

from typing import Any

import numpy as np
import torch

LISTS = 32
"""Lists of one launch: kLists of accumulate.cu."""

SEGMENTS = 96
"""Tensors of one launch: kSegments of fuse.cu."""

BLOCK = 4096
"""Elements of a block, in every kernel."""

CONTROL_BYTES = 416 << 10
"""More than topk.cuh's Control has."""

RUN_BYTES = 40
"""Of topk.cuh's Run."""

MAILBOX_FIELDS = 5
"""int64 of accumulate.cu's Mailbox."""

VALUE_TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
"""base::ValueType."""

_POINTER, _INT64, _INT32, _DOUBLE, _FLOAT = "u8", "i8", "i4", "f8", "f4"


def _structure(*fields: tuple[Any, ...]) -> np.dtype:
    return np.dtype(list(fields), align=True)


TOPK_STEP = _structure(
    ("control", _POINTER),
    ("state", _POINTER),
    ("grad", _POINTER),
    ("residual", _POINTER),
    ("velocity", _POINTER),
    ("runs", _POINTER),
    ("candidate_indices", _POINTER),
    ("candidate_values", _POINTER),
    ("indices", _POINTER),
    ("values", _POINTER),
    ("count", _POINTER),
    ("n", _INT64),
    ("k", _INT64),
    ("low", _INT64),
    ("high", _INT64),
    ("capacity", _INT64),
    ("budget", _INT64),
    ("aim", _DOUBLE),
    ("scale", _FLOAT),
    ("momentum", _FLOAT),
    ("grad_type", _INT32),
    ("value_type", _INT32),
    ("every", _INT32),
    ("launch", _INT32),
    ("round", _INT32),
)

LIST = _structure(
    ("indices", _POINTER),
    ("values", _POINTER),
    ("count", _INT64),
    ("number", _INT32),
    ("type", _INT32),
)

ACCUMULATE_STEP = _structure(
    ("out", _POINTER),
    ("bad", _POINTER),
    ("unordered", _POINTER),
    ("mailbox", _POINTER),
    ("n", _INT64),
    ("scale", _FLOAT),
    ("num_lists", _INT32),
    ("lists", LIST, (LISTS,)),
    ("first_block", _INT32, (LISTS + 1,)),
)

SEGMENT = _structure(
    ("data", _POINTER),
    ("count", _INT64),
    ("place", _INT64),
    ("type", _INT32),
    ("transfer", _INT32),
)

FUSE_STEP = _structure(
    ("buffer", _POINTER),
    ("type", _INT32),
    ("scale", _FLOAT),
    ("to_buffer", _INT32),
    ("unit", _INT32),
    ("num_segments", _INT32),
    ("first_block", _INT32, (SEGMENTS + 1,)),
    ("segments", SEGMENT, (SEGMENTS,)),
)


def filled(structure: np.dtype, **fields: Any) -> np.ndarray:
    """A structure, zero but for these fields; as an array of no dimensions, as CuPy takes it."""
    made = np.zeros((), structure)
    for name, value in fields.items():
        made[name] = value
    return made


def blocks_of(elements: int) -> int:
    """How many blocks so many elements are."""
    return -(-elements // BLOCK)


def check(condition: bool, op: str, message: str) -> None:
    """Raises RuntimeError, as the CPU's ops do."""
    if not condition:
        raise RuntimeError(f"taco::{op}: {message}")


def check_plain(
    op: str,
    what: str,
    tensor: torch.Tensor,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> None:
    """Raises unless the tensor is on the device, contiguous, and of the dtype."""
    check(
        tensor.device == device,
        op,
        f"{what} is on {tensor.device} and the other tensors are on {device}. Move it with "
        f'.to("{device}").',
    )
    check(
        tensor.layout == torch.strided and tensor.is_contiguous(),
        op,
        f"{what} is not contiguous (sizes {list(tensor.shape)}). Pass .contiguous(), or for what "
        "is written to, a tensor that was made contiguous.",
    )
    check(
        dtype is None or tensor.dtype == dtype,
        op,
        f"{what} is of dtype {name_of(tensor.dtype)} and has to be of "
        f"{name_of(dtype or tensor.dtype)}. Cast it with .to(), or make it so.",
    )


def value_type(op: str, what: str, dtype: torch.dtype) -> int:
    """The kernels' number of a dtype; raises for any but the three."""
    found = VALUE_TYPES.get(dtype)
    check(
        found is not None,
        op,
        f"{what} is of dtype {name_of(dtype)}; float32, float16 and bfloat16 are supported. Cast "
        "it with .float().",
    )
    assert found is not None
    return found


_NAMES = {
    torch.float32: "Float",
    torch.float64: "Double",
    torch.float16: "Half",
    torch.bfloat16: "BFloat16",
    torch.int64: "Long",
    torch.int32: "Int",
    torch.int8: "Char",
}


def name_of(dtype: torch.dtype) -> str:
    """The dtype as PyTorch's C++ messages call it."""
    return _NAMES.get(dtype, str(dtype))
