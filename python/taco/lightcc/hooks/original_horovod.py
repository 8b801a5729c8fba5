"""`Compression.topk(...)` as a compressor of the original Horovod's DistributedOptimizer.

Horovod asks a compressor for a tensor to reduce in a gradient's place, and gives it the reduced one
back. Here the largest elements are gathered from all ranks beside it, and what Horovod reduces is
one number that says nothing:

    compress     select, start a gather of indices and values       (nothing waits here)
    Horovod      allreduce of the number
    decompress   wait for the gather, add up what all ranks sent

What is not sent has to be added to the same parameter's next gradient, and Horovod does not say
whose gradient it is. But it calls from a method of its optimizer, which knows the names; and the
parameter is the one that has this gradient. Where that is not so, it is an error or travels dense.
"""

import itertools
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType, ModuleType
from typing import Any, Protocol

import torch

from taco import _loader
from taco.lightcc._settings import settings
from taco.lightcc.adaptive.residuals import BucketState
from taco.lightcc.hooks.exchange import Selection
from taco.lightcc.warmup import warmed_up

# Of these can be selected; other gradients travel dense.
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)

# From `compress` up to the optimizer's method there are two calls, and perhaps a comprehension.
_MOST_FRAMES = 6


class _Options(Protocol):
    """What is taken of a TopKCompression."""

    ratio: float
    fp16: bool
    warmup_steps: int
    momentum_correction: bool


@dataclass
class _HeldBack:
    """Of one parameter."""

    state: BucketState = field(default_factory=BucketState)
    steps: int = 0


@dataclass(frozen=True)
class _Gather:
    """A gradient that is under way.

    Attributes:
        horovod: the module that was asked.
        handle: of the gather.
        gradient: what was compressed; the average is written there if it can be.
        k: elements in each rank's message.
        values_dtype: of them.
        size: ranks; 0 if the sum is wanted.
    """

    horovod: ModuleType
    handle: Any
    gradient: torch.Tensor
    k: int
    values_dtype: torch.dtype
    size: int


class OriginalHorovod:
    """What one `Compression.topk(...)` holds for the optimizers that call it.

    Args:
        options: the compression, which Horovod's optimizer has as its `_compression`.
    """

    def __init__(self, options: _Options) -> None:
        self._options = options
        self._of: weakref.WeakKeyDictionary[Any, dict[str, _HeldBack]]
        self._of = weakref.WeakKeyDictionary()  # by optimizer, by name

    def compress(self, tensor: torch.Tensor) -> tuple[torch.Tensor, _Gather | None]:
        """Starts the gather. Returns what Horovod is to reduce, and what `decompress` needs.

        Raises:
            ValueError: it is not called for a gradient by Horovod's DistributedOptimizer with
                op=Average or Sum; momentum correction is wanted; the gradient is not on the CPU.
        """
        optimizer, horovod, frame = _caller(self._options)
        averages = self._checked(optimizer, horovod)
        param = _owner(tensor, optimizer, frame)
        if param is None or not _large(tensor):
            return tensor, None
        if tensor.device.type != "cpu":
            raise ValueError(
                f"Compression.topk needs gradients on the CPU, this one is on {tensor.device}."
            )
        name = optimizer._parameter_names[param]
        held_back = self._of.setdefault(optimizer, {}).setdefault(name, _HeldBack())
        message, k, values_dtype = self._select(tensor, held_back)
        options = {}
        if (process_set := getattr(optimizer, "process_set", None)) is not None:
            options["process_set"] = process_set
        handle = horovod.allgather_async(message, name=f"{name}.topk", **options)
        size = (process_set or horovod).size() if averages else 0
        return torch.zeros(1), _Gather(horovod, handle, tensor, k, values_dtype, size)

    @staticmethod
    def decompress(tensor: torch.Tensor, ctx: _Gather | None) -> torch.Tensor:
        """The average or sum of what all ranks sent, in the gradient's dtype and shape."""
        if ctx is None:
            return tensor
        gathered = ctx.horovod.synchronize(ctx.handle)
        gradient, width = ctx.gradient, _width(ctx.k, ctx.values_dtype)
        if gathered.numel() % width:
            raise ValueError(
                f"{gathered.numel()} words arrived, in messages of {width}: another rank has other "
                "options of Compression.topk, or another LIGHT_TOPK_THRESHOLD"
            )
        messages = gathered.split(width)
        indices = [message[: ctx.k] for message in messages]
        values = [message[ctx.k :].view(ctx.values_dtype)[: ctx.k] for message in messages]
        fits = gradient.dtype == torch.float32 and gradient.is_contiguous()
        total = gradient.detach().view(-1).zero_() if fits else torch.zeros(gradient.numel())
        scale = 1.0 / ctx.size if ctx.size else 1.0
        _loader.load_torch_ops().topk_accumulate_(total, indices, values, scale=scale)
        return gradient if fits else total.to(gradient.dtype).view(gradient.shape)

    def _checked(self, optimizer: Any, horovod: ModuleType) -> bool:
        """Whether the optimizer averages. Raises ValueError if there is anything it cannot have."""
        op = getattr(optimizer, "op", None)
        if op is None or op not in (horovod.Average, horovod.Sum):
            raise ValueError("Compression.topk works with op=Average and op=Sum, not with Adasum.")
        if self._options.momentum_correction:
            raise ValueError(
                "momentum_correction takes the momentum out of the optimizer, which LightCC's own "
                "DistributedOptimizer can do alone: leave it out with Horovod's."
            )
        return bool(op == horovod.Average)

    def _select(
        self, gradient: torch.Tensor, held_back: _HeldBack
    ) -> tuple[torch.Tensor, int, torch.dtype]:
        """A message of int32 words: k indices, then k values; k; and the values' dtype."""
        options, state = self._options, held_back.state
        ratio = warmed_up(options.ratio, held_back.steps, options.warmup_steps)
        held_back.steps += 1
        n = gradient.numel()
        k = Selection(ratio).count(n)
        state.prepare(n)
        # Exactly k, with zeros where there are fewer: messages are as long on every rank.
        indices, values, _ = _loader.load_torch_ops().topk_compress(
            gradient.detach().contiguous(),
            state.residual,
            state.threshold(0),
            k,
            exact=True,
            values_dtype=torch.float16 if options.fp16 else None,
        )
        message = torch.zeros(_width(k, values.dtype), dtype=torch.int32)
        message[:k] = indices
        message[k:].view(values.dtype)[:k] = values
        return message, k, values.dtype


def _width(k: int, values_dtype: torch.dtype) -> int:
    """Words of a message."""
    return k + -(-k * values_dtype.itemsize // 4)


def _large(tensor: torch.Tensor) -> bool:
    """The same on every rank: shapes are."""
    return (
        tensor.layout == torch.strided
        and tensor.dtype in _DTYPES
        and 0 < tensor.numel() < 1 << 31
        and tensor.numel() * tensor.element_size() >= settings().light_topk_threshold
    )


def _caller(compression: object) -> tuple[Any, ModuleType, FrameType]:
    """The optimizer that has this compression and calls it, its module of Horovod, and its frame.

    Raises:
        ValueError: none of Horovod's does.
    """
    for frame in _frames():
        optimizer = frame.f_locals.get("self")
        if getattr(optimizer, "_compression", None) is not compression:
            continue
        package = str(frame.f_globals.get("__name__", "")).rpartition(".")[0]
        horovod = sys.modules.get(package)
        if hasattr(optimizer, "_parameter_names") and hasattr(horovod, "allgather_async"):
            assert horovod is not None
            return optimizer, horovod, frame
    raise ValueError(
        "Compression.topk keeps what it does not send for the same parameter's next gradient: it "
        "is for DistributedOptimizer(compression=...), and op=Average or Sum, and for nothing else."
    )


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(2)
    for _ in range(_MOST_FRAMES):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def _owner(gradient: torch.Tensor, optimizer: Any, frame: FrameType) -> torch.Tensor | None:
    """The parameter whose gradient it is; None for one that was made of it, as of a sparse one."""
    guess = frame.f_locals.get("p")
    names = optimizer._parameter_names
    first = [guess] if isinstance(guess, torch.Tensor) and guess in names else []
    for param in itertools.chain(first, names):
        if param.grad is gradient:
            found: torch.Tensor = param
            return found
    return None
