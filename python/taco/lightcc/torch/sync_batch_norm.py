"""Batch normalization whose statistics are those of the batches of all ranks together."""

from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from taco.lightcc.torch._submit import Sum
from taco.lightcc.torch.allreduce import allreduce_
from taco.lightcc.torch.basics import size


class SyncBatchNorm(_BatchNorm):
    """N-dimensional BatchNorm with mean and variance over all ranks' batches.

    Works on CPU and GPU tensors. Ranks may have batches of different sizes, also empty ones; all
    of them have to call it. In eval mode, and in a job of one rank, it is a plain BatchNorm.

    Gradients of weight and bias are those of this rank's batch; DistributedOptimizer reduces them.

    Args:
        num_features: channels, the size of dimension 1.
        eps: is added to the variance.
        momentum: share of the new batch in the running statistics; None: the plain average.
        affine: whether there are a weight and a bias.
        track_running_stats: whether there are running statistics; without them eval mode uses the
            batch's as well.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")
        if input.size(1) != self.num_features:
            raise ValueError(f"expected {self.num_features} channels (got {input.size(1)})")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalizes. In training mode all ranks have to call it.

        Raises:
            ValueError: the input has fewer than two dimensions, or other channels.
            HorovodInternalError: ranks have different numbers of channels, or one is gone.
        """
        self._check_input_dim(input)
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                factor = 1.0 / float(self.num_batches_tracked)
        of_batch = self.training or self.running_mean is None or self.running_var is None
        if not of_batch or size() == 1:
            return F.batch_norm(
                input,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                of_batch,
                factor,
                self.eps,
            )
        result, mean, var, count = _Normalize.apply(input, self.weight, self.bias, self.eps)
        if self.training and self.running_mean is not None and self.running_var is not None:
            unbiased = var * (count / (count - 1).clamp(min=1))
            with torch.no_grad():
                for running, new in (self.running_mean, mean), (self.running_var, unbiased):
                    running.lerp_(new.to(running.dtype), factor)
        return result


class _Normalize(torch.autograd.Function):
    """Gives the normalized batch, and the mean, the biased variance and the count of all ranks."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, eps: float) -> Any:
        channels, wide = x.size(1), _wide(x)
        if x.numel() == 0:
            var = mean = wide.new_zeros(channels, dtype=torch.float64)
        else:
            both = torch.var_mean(wide, _all_but_channels(x), correction=0)
            var, mean = (each.double() for each in both)
        # In double precision, so that the mean square less the squared mean keeps its digits.
        count = mean.new_full((1,), x.numel() // channels)
        sums = torch.cat([mean * count, (var + mean.square()) * count, count])
        allreduce_(sums, name="sync_batch_norm.forward", op=Sum)
        count = sums[-1:]
        at_least = count.clamp(min=1)
        mean = sums[:channels] / at_least
        var = (sums[channels:-1] / at_least - mean.square()).clamp_(min=0)
        scale = (var + eps).rsqrt_()
        ctx.save_for_backward(x, weight, mean, scale, at_least)
        ctx.mark_non_differentiable(mean, var, count)
        ctx.has_bias = bias is not None
        result = _normalized(wide, mean, scale)
        if weight is not None:
            result = result * _along(weight, result)
        if bias is not None:
            result = result + _along(bias, result)
        return result.to(x.dtype), mean, var, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Any, *_: Any) -> Any:
        x, weight, mean, scale, count = ctx.saved_tensors
        dims = _all_but_channels(x)
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        normal = _normalized(_wide(x), mean, scale)
        grad = grad.to(normal.dtype)
        sums = torch.stack([grad.sum(dims), (grad * normal).sum(dims)]).double()
        grad_weight = sums[1].to(weight.dtype) if weight is not None and of_weight else None
        grad_bias = sums[0].to(grad.dtype) if ctx.has_bias and of_bias else None
        grad_x = None
        if of_x:
            shared = sums.clone()
            allreduce_(shared, name="sync_batch_norm.backward", op=Sum)
            shared /= count
            factor = scale if weight is None else scale * weight
            grad_x = grad - _along(shared[0], grad) - normal * _along(shared[1], grad)
            grad_x = (grad_x * _along(factor, grad)).to(x.dtype)
        return grad_x, grad_weight, grad_bias, None


def _all_but_channels(x: torch.Tensor) -> list[int]:
    return [dim for dim in range(x.dim()) if dim != 1]


def _along(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """One value a channel, in x's precision and so that it can be combined with x."""
    return values.to(x.dtype).view(1, -1, *[1] * (x.dim() - 2))


def _wide(x: torch.Tensor) -> torch.Tensor:
    """In single precision at least."""
    return x if x.dtype == torch.float64 else x.float()


def _normalized(x: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return (x - _along(mean, x)) * _along(scale, x)
