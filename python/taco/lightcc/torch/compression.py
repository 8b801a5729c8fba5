"""Compression of gradients on the wire, with Horovod's names."""

from typing import Any

import torch

from taco.lightcc import checks, warmup
from taco.lightcc.adaptive.mode import Mode
from taco.lightcc.adaptive.wish import Wish


class Compressor:
    """What a compression offers: a tensor in another form, and back."""

    @staticmethod
    def compress(tensor: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Returns the tensor to send, and what `decompress` needs."""
        raise NotImplementedError

    @staticmethod
    def decompress(tensor: torch.Tensor, ctx: Any) -> torch.Tensor:
        """The reverse, for the reduced tensor."""
        raise NotImplementedError


class NoneCompressor(Compressor):
    """Sends the tensor as it is."""

    @staticmethod
    def compress(tensor: torch.Tensor) -> tuple[torch.Tensor, Any]:
        return tensor, None

    @staticmethod
    def decompress(tensor: torch.Tensor, ctx: Any) -> torch.Tensor:
        return tensor


class FP16Compressor(Compressor):
    """Sends floating-point tensors as float16."""

    @staticmethod
    def compress(tensor: torch.Tensor) -> tuple[torch.Tensor, Any]:
        if not tensor.dtype.is_floating_point:
            return tensor, None
        return tensor.to(torch.float16), tensor.dtype

    @staticmethod
    def decompress(tensor: torch.Tensor, ctx: Any) -> torch.Tensor:
        return tensor if ctx is None else tensor.to(ctx)


class TopKCompression(Compressor):
    """The largest gradients alone are sent; the rest is added to the next step's.

    It is for `DistributedOptimizer`: LightCC's own, and that of the original Horovod, which calls
    `compress` and `decompress`.

    Args:
        ratio: part of the elements that is sent, above 0 and at most 1.
        fp16: values are sent as float16; what rounding takes is not lost.
        warmup_steps: steps in which the ratio comes down from 0.25, by one factor each; 0: none.
        momentum_correction: momentum is applied on every rank before the selection (Deep Gradient
            Compression, arXiv 1712.01887), and the wrapped optimizer leaves it out. That has to be
            `torch.optim.SGD` with momentum, `Adam` or `AdamW`.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        ratio: float = 0.01,
        fp16: bool = False,
        warmup_steps: int = warmup.STEPS,
        momentum_correction: bool = False,
    ) -> None:
        self.ratio = checks.ratio(ratio)
        self.fp16 = fp16
        self.warmup_steps = checks.count("warmup_steps", warmup_steps)
        self.momentum_correction = momentum_correction
        self._original_horovod: Any = None

    # Horovod asks an instance as it asks the classes above.

    def compress(self, tensor: torch.Tensor) -> tuple[torch.Tensor, Any]:  # type: ignore[override]
        """For the original Horovod alone; see `taco.lightcc.hooks.original_horovod`.

        Raises:
            ValueError: what calls is not its DistributedOptimizer.
        """
        from taco.lightcc.hooks.original_horovod import OriginalHorovod

        if self._original_horovod is None:
            self._original_horovod = OriginalHorovod(self)
        compressed: tuple[torch.Tensor, Any] = self._original_horovod.compress(tensor)
        return compressed

    def decompress(self, tensor: torch.Tensor, ctx: Any) -> torch.Tensor:  # type: ignore[override]
        """For what `compress` gave."""
        if ctx is None:
            return tensor
        dense: torch.Tensor = self._original_horovod.decompress(tensor, ctx)
        return dense

    @property
    def wish(self) -> Wish:
        """What a bucket's request asks for."""
        return Wish(True, Mode(ratio=self.ratio, half=self.fp16), self.warmup_steps)


class Compression:
    """What `compression=` takes."""

    none = NoneCompressor
    fp16 = FP16Compressor
    topk = TopKCompression
