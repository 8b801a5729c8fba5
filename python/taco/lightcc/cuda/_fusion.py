"""The host's side of fuse and unfuse; torch_ext/cuda/fuse.cu's."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch

from taco.lightcc.cuda import _arguments as arguments

Argument: TypeAlias = tuple[int, np.ndarray]
"""The number of blocks of a launch, and its argument."""

_CAST, _SCALE, _COPY = 0, 1, 2  # fuse.cu's Transfer


def transfer_of(
    op: str, number: int, tensor: torch.Tensor, buffer: torch.Tensor, scale: float
) -> int:
    """How a tensor's elements are transferred, or RuntimeError."""
    floats = arguments.VALUE_TYPES
    same = tensor.dtype == buffer.dtype
    if same and scale == 1.0:
        return _COPY
    if same and tensor.dtype == torch.float64:
        return _SCALE
    castable = tensor.dtype in floats and buffer.dtype in floats
    arguments.check(
        castable or not same,
        op,
        f"tensor {number} is of an integer type, which cannot be scaled: pass scale = 1, or fuse "
        "it in a buffer of float32.",
    )
    arguments.check(
        castable,
        op,
        f"tensor {number} and the buffer are of different types, and only float32, float16 and "
        "bfloat16 are cast into one another: use a buffer of the tensor's type.",
    )
    return _CAST


def launches(
    op: str,
    tensors: Sequence[torch.Tensor],
    buffer: torch.Tensor,
    scale: float,
    to_buffer: bool,
) -> list[Argument]:
    """The launches that transfer the tensors, or RuntimeError."""
    arguments.check_plain(op, "buffer", buffer, buffer.device)
    scale = float(np.float32(scale))
    # What is copied is of the buffer's type; elements of 16 bytes are two of 8.
    unit = min(8, buffer.element_size())
    units = buffer.element_size() // unit
    segments = []
    place = 0
    for number, tensor in enumerate(tensors):
        arguments.check_plain(op, "a tensor of the list", tensor, buffer.device)
        how = transfer_of(op, number, tensor, buffer, scale)
        each = units if how == _COPY else 1
        count = tensor.numel()
        if count > 0:
            segments.append(
                (
                    tensor.data_ptr(),
                    count * each,
                    place * each,
                    arguments.VALUE_TYPES.get(tensor.dtype, 0),
                    how,
                )
            )
        place += count
    arguments.check(
        place <= buffer.numel(),
        op,
        f"the tensors hold {place} elements and the buffer {buffer.numel()}: pass a buffer that is "
        "large enough.",
    )
    made = []
    for begin in range(0, len(segments), arguments.SEGMENTS):
        part = segments[begin : begin + arguments.SEGMENTS]
        argument = arguments.filled(
            arguments.FUSE_STEP,
            buffer=buffer.data_ptr(),
            type=arguments.VALUE_TYPES.get(buffer.dtype, 0),
            scale=scale,
            to_buffer=to_buffer,
            unit=unit,
            num_segments=len(part),
        )
        first = np.cumsum([0] + [arguments.blocks_of(segment[1]) for segment in part])
        argument["first_block"][: len(first)] = first
        argument["segments"][: len(part)] = part
        made.append((int(first[-1]), argument))
    return made
