"""What the tests of the raw ops share."""

from __future__ import annotations

import functools
from typing import Any

import torch
from taco._loader import library_path

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
STATE_FIELDS = (
    "threshold",
    "steps",
    "misses",
    "fitting",
    "passes",
    "sent",
    "input_sq",
    "residual_sq",
)


@functools.cache
def ops() -> Any:
    """`torch.ops.taco`, as `torch.ops.load_library` alone gives it."""
    torch.ops.load_library(str(library_path("torch")))
    return torch.ops.taco


def fresh_state() -> torch.Tensor:
    """The state of a rank before its first step: (8,) float64."""
    return torch.zeros(len(STATE_FIELDS), dtype=torch.float64)


def fields(state: torch.Tensor) -> dict[str, float]:
    """A state by the names of its fields."""
    return dict(zip(STATE_FIELDS, state.tolist(), strict=True))


def gradient(n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Normal noise, the same for the same seed on every device."""
    noise = torch.randn(n, generator=torch.Generator().manual_seed(seed), device="cpu")
    return noise.to(torch.get_default_device(), dtype)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors hold the same bytes."""
    return a.dtype == b.dtype and torch.equal(a.view(torch.uint8), b.view(torch.uint8))
