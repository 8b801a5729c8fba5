"""Buckets: gradients that are reduced together, in the order in which they really arrive.

The first steps reduce every gradient by itself and note the order of arrival; then rank 0's order
is cut into buckets for everybody. A bucket is handed in when its last gradient has come. It is
finished (gradients written back) when somebody needs them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from taco.lightcc.adaptive.residuals import BucketState
from taco.lightcc.adaptive.wish import Wish
from taco.lightcc.torch import _state
from taco.lightcc.torch._submit import Average, Sum
from taco.lightcc.torch.allreduce import reduce_gradients_async_, sparse_allreduce_async
from taco.lightcc.torch.compression import Compression
from taco.lightcc.torch.flat import FlatGradients
from taco.lightcc.torch.process_sets import ProcessSet


@dataclass(frozen=True)
class Recipe:
    """How gradients are reduced.

    Attributes:
        compression: of the tensors on the wire.
        op: the reduction.
        prescale: factor for the gradients.
        postscale: factor for the result.
        sparse_as_dense: whether sparse gradients are made dense first.
        process_set: who takes part.
        wish: how buckets may be reduced.
    """

    compression: Any
    op: int
    prescale: float
    postscale: float
    sparse_as_dense: bool
    process_set: ProcessSet
    wish: Wish = Wish()

    @property
    def plain(self) -> bool:
        """Whether gradients travel as they are."""
        return self.compression is Compression.none and not self.sparse_as_dense


@dataclass
class Bucket:
    """Parameters whose gradients are reduced together.

    Attributes:
        name: what all ranks know it by.
        params: in order of arrival.
        arrived: those whose gradient has come since the last step.
        work: what was handed in; None before.
        state: what TopK holds back of it.
        wish: in place of the recipe's.
        flat: where its gradients stand side by side; None: each by itself.
    """

    name: str
    params: tuple[torch.nn.Parameter, ...]
    arrived: set[torch.nn.Parameter] = field(default_factory=set)
    work: "Work | None" = None
    state: BucketState = field(default_factory=BucketState)
    wish: Wish | None = None
    flat: FlatGradients | None = None

    @property
    def shapes(self) -> list[tuple[torch.nn.Parameter, torch.Size]]:
        """Of its gradients, in order."""
        return [(param, param.shape) for param in self.params]

    @property
    def complete(self) -> bool:
        return len(self.arrived) == len(self.params)

    def submit(self, recipe: Recipe) -> None:
        """Hands in the gradients. Those that did not come are zeros: another rank may have them."""
        for param in self.params:
            if param.grad is None:
                param.grad = torch.zeros_like(param, memory_format=torch.contiguous_format)
        if self.flat is not None:
            self.work = _submit_flat(self, self.flat, recipe)
            return
        sparse = [p for p in self.params if p.grad.is_sparse]
        if sparse and not recipe.sparse_as_dense:
            if len(self.params) > 1:
                raise ValueError(
                    f"{self.name}: a group cannot hold sparse gradients. Leave the parameter out "
                    f"of `groups`, or set sparse_as_dense=True."
                )
            self.work = _submit_sparse(self.name, self.params[0], recipe)
        else:
            self.work = _submit_dense(self, recipe)

    def reset(self) -> None:
        self.arrived.clear()
        self.work = None


class Work:
    """A bucket's reduction under way.

    Args:
        handles: all that has to be done before `write`.
        write: puts the reduced gradients where they belong.
    """

    def __init__(self, handles: Sequence[int], write: Callable[[], None]) -> None:
        self._handles = handles
        self._write = write
        self._written = False

    @property
    def written(self) -> bool:
        """Whether the gradients stand where they belong."""
        return self._written

    def wait(self, deadline: float) -> bool:
        """Waits until a time of time.monotonic(). Returns whether it is done by then."""
        return self._written or all(_state.wait(handle, deadline) for handle in self._handles)

    def finish(self) -> None:
        """Waits, and writes the gradients: once, whatever the program does with them later."""
        if not self._written:
            self._written = True
            self._write()


def _submit_flat(bucket: Bucket, flat: FlatGradients, recipe: Recipe) -> Work:
    op, factor = recipe.op, 1.0
    if op == Average and recipe.prescale == 1.0:
        factor = flat.early_division(recipe.process_set.size())
        op = op if factor == 1.0 else Sum
    try:
        tensors = flat.take(factor)
    except ValueError as error:
        raise ValueError(f"{bucket.name}: {error}") from None
    bucket.state.rescale(factor)
    handle = _hand_in(bucket, tensors, recipe, op)

    def write() -> None:
        _state.synchronize(handle)
        flat.write(tensors)

    return Work([handle], write)


def _hand_in(bucket: Bucket, tensors: Sequence[torch.Tensor], recipe: Recipe, op: int) -> int:
    wish = recipe.wish if bucket.wish is None else bucket.wish
    return reduce_gradients_async_(
        tensors,
        bucket.name,
        op,
        recipe.prescale,
        recipe.postscale,
        recipe.process_set,
        wish,
        bucket.state if wish.gradient else None,
    )


def _submit_dense(bucket: Bucket, recipe: Recipe) -> Work:
    packed = []
    for param in bucket.params:
        grad = param.grad
        assert grad is not None
        dense = grad.to_dense() if grad.is_sparse else grad
        tensor, ctx = recipe.compression.compress(dense.detach())
        packed.append((tensor.contiguous(), ctx))
    bucket.state.rescale(1.0)
    handle = _hand_in(bucket, [tensor for tensor, _ in packed], recipe, recipe.op)

    def write() -> None:
        _state.synchronize(handle)
        for param, (tensor, ctx) in zip(bucket.params, packed, strict=True):
            _write(param, recipe.compression.decompress(tensor, ctx))

    return Work([handle], write)


def _write(param: torch.nn.Parameter, reduced: torch.Tensor) -> None:
    grad = param.grad
    assert grad is not None
    if grad.is_sparse:
        param.grad = reduced.to_sparse()
    elif reduced.data_ptr() != grad.data_ptr() or reduced.stride() != grad.stride():
        grad.detach().copy_(reduced)


def _submit_sparse(name: str, param: torch.nn.Parameter, recipe: Recipe) -> Work:
    assert param.grad is not None
    gather = sparse_allreduce_async(param.grad, name, recipe.op, recipe.process_set)

    def write() -> None:
        param.grad = gather()

    return Work(gather.handles, write)


def lists_by_limit(
    order: Sequence[str],
    params: dict[str, torch.nn.Parameter],
    aim: int,
    limit: int,
    alone: Callable[[torch.nn.Parameter], bool],
) -> list[list[str]]:
    """Cuts an order of arrival into buckets by their bytes.

    Args:
        order: names of all parameters.
        params: by name.
        aim: bytes from which a bucket is large enough.
        limit: bytes of a bucket; a larger tensor is one by itself. 0: every tensor is.
        alone: whether a parameter needs a bucket of its own.

    Returns:
        The names of each bucket, in order; each holds one dtype and one device.
    """
    groups: list[list[str]] = []
    open_groups: dict[Any, tuple[int, int]] = {}  # kind -> (index, bytes)
    for name in order:
        param = params[name]
        size = param.numel() * param.element_size()
        kind = (param.dtype, param.device)
        index, filled = open_groups.get(kind, (-1, 0))
        if index < 0 or filled >= aim or filled + size > limit or alone(param):
            open_groups[kind] = (len(groups), size if not alone(param) else limit + 1)
            groups.append([name])
        else:
            open_groups[kind] = (index, filled + size)
            groups[index].append(name)
    return groups
