"""The host's side of topk_compress; torch_ext/cuda/topk.cuh says what the kernels do."""

import math

import torch

from taco.lightcc.cuda import _arguments as arguments
from taco.lightcc.cuda._launch import Launch

_OP = "topk_compress"
_STATE_SIZE = 8
_GROUP = 16  # neighbours that are sampled together
_SAMPLE = 65536  # elements, at least

_SEQUENCE = (
    ("topk_sample", 0),
    ("topk_pass", 0),
    ("topk_put_back", 0),
    ("topk_pass", 1),
    ("topk_put_back", 1),
    ("topk_digits", 0),
    ("topk_digits", 1),
    ("topk_digits", 2),
    ("topk_count", 0),
    ("topk_emit", 0),
)
"""Kernels, and which of its launches each is."""


def capacity_of(n: int, k: int, exact: bool) -> int:
    """The most that is sent: topk::Capacity."""
    if k >= n:
        return n
    return k if exact else min(n, k + k // 3)


def sample_every(n: int) -> int:
    """Of so many groups of neighbours one is sampled: SampleEvery of topk/candidates.cc."""
    every = 1
    while every < arguments.BLOCK // _GROUP and n // (2 * every) >= _SAMPLE:
        every *= 2
    return every


class Step:
    """One call: checked, and then run."""

    def __init__(
        self,
        grad: torch.Tensor,
        residual: torch.Tensor,
        state: torch.Tensor,
        k: int,
        scale: float,
        exact: bool,
        values_dtype: torch.dtype | None,
        velocity: torch.Tensor | None,
        momentum: float,
    ) -> None:
        check, device, n = arguments.check, grad.device, grad.numel()
        arguments.check_plain(_OP, "grad", grad, device)
        for what, tensor in (("residual", residual), ("velocity", velocity)):
            if tensor is None:
                continue
            arguments.check_plain(_OP, what, tensor, device, torch.float32)
            check(
                tensor.numel() == n,
                _OP,
                f"{what} has {tensor.numel()} elements and grad {n}. Make it with "
                "torch.zeros(grad.numel()).",
            )
        arguments.check_plain(_OP, "state", state, device, torch.float64)
        check(
            state.numel() == _STATE_SIZE,
            _OP,
            f"state has {state.numel()} elements and has to have {_STATE_SIZE}. Make it with "
            "torch.zeros(8, dtype=torch.float64).",
        )
        grad_type = arguments.value_type(_OP, "grad", grad.dtype)
        check(
            velocity is not None or momentum == 0.0,
            _OP,
            f"momentum is {momentum} and there is no velocity. Pass "
            "velocity=torch.zeros(grad.numel()) and keep it.",
        )
        check(
            0 <= k <= n,
            _OP,
            f"k is {k} and grad has {n} elements: k must be from 0 to that number.",
        )
        check(
            n < 2**31,
            _OP,
            f"TopK of {n} elements: indices have 31 bits, so that 2147483647 is the most. Split "
            "the gradient into smaller buckets.",
        )
        dtype = grad.dtype if values_dtype is None else values_dtype
        value_type = arguments.value_type(_OP, "values_dtype", dtype)
        self._blocks = max(1, arguments.blocks_of(n))
        capacity = capacity_of(n, k, exact)
        # As MakeBand and Budget of topk/compress.cc: equal thresholds on either kind of device.
        root = math.sqrt(k)
        budget = min(n, max(n if k > n // 8 else 8 * k, 65536))
        # Python keeps what the kernels refer to only until `run` returns. PyTorch gives the memory
        # to later work on the same stream alone, and so after the kernels.
        self._control = torch.zeros(arguments.CONTROL_BYTES, dtype=torch.uint8, device=device)
        self._runs = torch.empty(
            self._blocks * arguments.RUN_BYTES, dtype=torch.uint8, device=device
        )
        self._candidates = torch.empty(2, budget, dtype=torch.int32, device=device)
        self._indices = torch.empty(capacity, dtype=torch.int32, device=device)
        self._values = torch.empty(capacity, dtype=dtype, device=device)
        self._count = torch.empty((), dtype=torch.int64, device=device)
        self._argument = arguments.filled(
            arguments.TOPK_STEP,
            control=self._control.data_ptr(),
            state=state.data_ptr(),
            grad=grad.data_ptr(),
            residual=residual.data_ptr(),
            velocity=0 if velocity is None else velocity.data_ptr(),
            runs=self._runs.data_ptr(),
            candidate_indices=self._candidates[0].data_ptr(),
            candidate_values=self._candidates[1].data_ptr(),
            indices=self._indices.data_ptr(),
            values=self._values.data_ptr(),
            count=self._count.data_ptr(),
            n=n,
            k=k,
            low=k if exact else k - k // 4,
            high=k if exact else capacity,
            capacity=capacity,
            budget=budget,
            aim=1.25 * k + 4.0 * root if exact else 1.0625 * k + root,
            scale=scale,
            momentum=momentum,
            grad_type=grad_type,
            value_type=value_type,
            every=sample_every(n),
        )

    def run(self, launch: Launch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Launches the kernels; returns indices, values and count, which they will fill."""
        for number, (kernel, round_of_kernel) in enumerate(_SEQUENCE):
            self._argument["launch"] = number
            self._argument["round"] = round_of_kernel
            launch(kernel, self._blocks, self._argument)
        return self._indices, self._values, self._count
