"""Gradients that stand side by side in one buffer: what travels is what the optimizer reads.

A bucket's gradients are copied once, into its buffer, and become views of it. The reduction works
there in place. The division of an average is part of the copy where it rounds as a division of the
sum would: by a power of two.
"""

from collections.abc import Sequence

import torch

from taco.lightcc.engine import reduction

# float16 would lose small gradients to a division that comes before the sum.
_EARLY_DIVISION = (torch.float32, torch.float64, torch.bfloat16)


class FlatGradients:
    """The buffer of one bucket.

    Args:
        params: whose gradients they are, in order; see `suits`.
    """

    def __init__(self, params: Sequence[torch.nn.Parameter]) -> None:
        self._params = tuple(params)
        self._buffer: torch.Tensor | None = None
        self._own = 0  # references to the buffer's memory when nobody else has any

    @staticmethod
    def suits(params: Sequence[torch.nn.Parameter]) -> bool:
        """Whether parameters can have one: several, plain, on the CPU, of one dtype."""
        plain = all(type(param.data) is torch.Tensor for param in params)
        kinds = {(param.dtype, param.device.type) for param in params}
        return plain and len(params) > 1 and len(kinds) == 1 and next(iter(kinds))[1] == "cpu"

    def early_division(self, size: int) -> float:
        """The factor that makes the sum over `size` ranks an average; 1.0: divide the sum."""
        exact = size & (size - 1) == 0 and self._params[0].dtype in _EARLY_DIVISION
        return 1.0 / size if exact else 1.0

    @torch.no_grad()
    def take(self, factor: float) -> list[torch.Tensor]:
        """Brings the gradients into the buffer, times `factor`; they become views of it.

        A program may still hold views of the last step's: then the buffer is left to it, and
        another one is begun.

        Args:
            factor: for all of them.

        Returns:
            What stands side by side in the buffer, in the parameters' shapes.

        Raises:
            ValueError: a gradient is sparse.
        """
        grads = [_dense(param) for param in self._params]
        views = self._slots()
        inside = [
            grad.data_ptr() == view.data_ptr() for grad, view in zip(grads, views, strict=True)
        ]
        del views  # they would count as references
        if self._buffer is None or _references(self._buffer) > self._own + sum(inside):
            total = sum(param.numel() for param in self._params)
            self._buffer = torch.empty(total, dtype=self._params[0].dtype)
            self._own = _references(self._buffer)
            inside = [False] * len(grads)
        views = self._slots()
        if not any(inside):
            reduction.pack([grad.contiguous() for grad in grads], self._buffer, factor)
        else:
            for grad, view, there in zip(grads, views, inside, strict=True):
                if not there:
                    view.copy_(grad)
            reduction.scale_(self._buffer, factor)
        for param, grad, view in zip(self._params, grads, views, strict=True):
            # Other strides, or a graph of its own, have to stay: see `write`.
            if grad.is_contiguous() and param.is_contiguous() and not grad.requires_grad:
                param.grad = view
        return views

    def write(self, views: Sequence[torch.Tensor]) -> None:
        """Copies results to the gradients that could not become views."""
        for param, view in zip(self._params, views, strict=True):
            grad = param.grad
            if grad is not None and grad.data_ptr() != view.data_ptr():
                grad.detach().copy_(view)

    def _slots(self) -> list[torch.Tensor]:
        if self._buffer is None:
            return [param.new_empty(0) for param in self._params]
        pieces = self._buffer.split([param.numel() for param in self._params])
        return [piece.view(p.shape) for piece, p in zip(pieces, self._params, strict=True)]


def _dense(param: torch.nn.Parameter) -> torch.Tensor:
    grad = param.grad
    assert grad is not None
    if grad.is_sparse:
        raise ValueError(
            "a group cannot hold sparse gradients. Leave the parameter out of `groups`, or set "
            "sparse_as_dense=True."
        )
    return grad


def _references(tensor: torch.Tensor) -> int:
    """How many tensors and storages stand on a tensor's memory."""
    return int(torch._C._storage_Use_Count(tensor.untyped_storage()._cdata))
