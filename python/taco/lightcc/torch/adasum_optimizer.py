"""The optimizer for op=Adasum: every rank steps by itself, and the steps are combined."""

from typing import Any

import torch

from taco.lightcc.torch import _state
from taco.lightcc.torch._submit import Adasum
from taco.lightcc.torch.allreduce import allreduce_async_
from taco.lightcc.torch.process_sets import ProcessSet


class AdasumMixin:
    """What is put before the optimizer's own class."""

    _names: dict[torch.nn.Parameter, str]
    _compression: Any
    _passes: int
    _process_set: ProcessSet

    def _attach(
        self,
        names: dict[torch.nn.Parameter, str],
        compression: Any,
        passes: int,
        process_set: ProcessSet,
    ) -> None:
        self._names = names
        self._compression = compression
        self._passes = passes
        self._process_set = process_set

    @property
    def backward_passes_per_step(self) -> int:
        return self._passes

    def set_backward_passes_per_step(self, passes: int) -> None:
        self._passes = passes

    def synchronize(self) -> None:
        """Nothing: with Adasum the reduction is a part of `step`."""

    def skip_synchronize(self) -> None:
        """Raises AssertionError: there is no step without the reduction."""
        raise AssertionError(
            "Skipping synchronization is not supported when using Adasum optimizer."
        )

    def step(self, closure: Any = None) -> Any:
        """Steps on this rank's gradients, then combines the ranks' changes of each parameter."""
        params = [p for p in self._names if p.requires_grad]
        starts = [param.detach().clone() for param in params]
        loss = super().step(closure)  # type: ignore[misc]
        if _state.runtime().size == 1:
            return loss
        works = []
        for param, start in zip(params, starts, strict=True):
            change, ctx = self._compression.compress(param.detach() - start)
            handle = allreduce_async_(
                change.contiguous(), name=f"adasum.{self._names[param]}", op=Adasum
            )
            works.append((param, start, handle, ctx))
        for param, start, handle, ctx in works:
            change = self._compression.decompress(_state.synchronize(handle), ctx)
            param.detach().copy_(start.add_(change))
        return loss
