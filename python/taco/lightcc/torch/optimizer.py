"""DistributedOptimizer: any torch optimizer, with gradients reduced over the ranks first.

Gradients are reduced as backward produces them. They are complete when backward returns, so that
clipping, GradScaler and whatever else stands between backward and step sees the reduced ones;
`synchronize()` is still there for programs that call it.
"""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from taco.lightcc import _settings
from taco.lightcc.torch import _state, held_back
from taco.lightcc.torch._submit import Adasum, Average, Sum
from taco.lightcc.torch.adasum_optimizer import AdasumMixin
from taco.lightcc.torch.compression import Compression
from taco.lightcc.torch.momentum import Correction, correction_of
from taco.lightcc.torch.process_sets import ProcessSet, global_process_set
from taco.lightcc.torch.reducer import GradientReducer


class _DistributedMixin:
    """What is put before the optimizer's own class."""

    _reducer: GradientReducer
    _correction: Correction
    _synchronized: bool
    _should_synchronize: bool

    @property
    def backward_passes_per_step(self) -> int:
        return self._reducer.passes

    def set_backward_passes_per_step(self, passes: int) -> None:
        """Changes how many backward passes a step has, from the next step on."""
        self._reducer.set_passes(passes)

    def synchronize(self) -> None:
        """Waits until every gradient is reduced.

        `step` does it; a program that changes gradients between backward and step may call it
        first and step inside `skip_synchronize()`.

        Raises:
            HorovodInternalError: ranks disagree, or one is gone.
        """
        self._reducer.synchronize()
        self._synchronized = True

    @contextmanager
    def skip_synchronize(self) -> Iterator[None]:
        """Inside, `step` does not synchronize: the program has."""
        self._should_synchronize = False
        try:
            yield
        finally:
            self._should_synchronize = True

    def step(self, closure: Any = None) -> Any:
        """Synchronizes, then steps as the optimizer does."""
        if self._should_synchronize:
            if self._synchronized:
                warnings.warn(
                    "optimizer.step() called without optimizer.skip_synchronize() context after "
                    "optimizer.synchronize(). This can cause training slowdown. You may want to "
                    "consider using optimizer.skip_synchronize() context if you use "
                    "optimizer.synchronize() in your code.",
                    stacklevel=2,
                )
            self.synchronize()
        self._synchronized = False
        with self._correction.step(self, self._reducer.sparse):
            return super().step(closure)  # type: ignore[misc]

    def zero_grad(self, *args: Any, **kwargs: Any) -> None:
        """As the optimizer's.

        Raises:
            AssertionError: gradients are on their way and neither `step` nor `synchronize` was
                called.
        """
        if self._reducer.in_progress:
            raise AssertionError(
                "optimizer.zero_grad() was called after loss.backward() but before "
                "optimizer.step() or optimizer.synchronize(). This is prohibited as it can cause "
                "a race condition."
            )
        self._reducer.reset()  # GradScaler may have left the step out
        super().zero_grad(*args, **kwargs)  # type: ignore[misc]

    def state_dict(self) -> dict[str, Any]:
        """As the optimizer's, and under "lightcc" what TopK holds back on this rank, if anything.

        Each rank holds back something else: a checkpoint that is to lose nothing has it of all
        ranks. `hvd.reshard` deals it out where the number of ranks changes.
        """
        state: dict[str, Any] = super().state_dict()  # type: ignore[misc]
        self._correction.settle(self, state)
        parts = self._reducer.residuals()
        if parts:
            rank, size = _state.last_rank_and_size()
            state[held_back.KEY] = held_back.pack(
                parts, rank, size, self._reducer.average, self._reducer.steps
            )
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As the optimizer's; what was in progress is forgotten.

        Raises:
            ValueError: what TopK held back belongs to another model.
        """
        self._reducer.reset()
        self._synchronized = False
        self._should_synchronize = True
        record = state_dict.get(held_back.KEY)
        rest = {key: value for key, value in state_dict.items() if key != held_back.KEY}
        parts, steps = {}, 0
        if record is not None:
            parts = held_back.unpack(record, *_state.last_rank_and_size())
            steps = held_back.steps_of(record)
        super().load_state_dict(rest)  # type: ignore[misc]
        self._reducer.load_residuals(parts)
        self._reducer.resume(steps)
        self._correction.sparse = frozenset()


def DistributedOptimizer(
    optimizer: torch.optim.Optimizer,
    named_parameters: Iterable[tuple[str, torch.nn.Parameter]] | None = None,
    compression: Any = Compression.none,
    backward_passes_per_step: int = 1,
    op: int = Average,
    gradient_predivide_factor: float = 1.0,
    num_groups: int = 0,
    groups: int | Sequence[Sequence[torch.nn.Parameter]] | None = None,
    sparse_as_dense: bool = False,
    process_set: ProcessSet = global_process_set,
) -> torch.optim.Optimizer:
    """An optimizer that reduces gradients over the ranks before it applies them.

    Args:
        optimizer: any torch optimizer. The result is an instance of its class too, and shares its
            state and parameter groups.
        named_parameters: `model.named_parameters()`; names by position if None. They need to be
            the same on every rank.
        compression: `Compression.none`, `Compression.fp16` or `Compression.topk(...)`.
        backward_passes_per_step: gradients of so many backward passes are added before they are
            reduced.
        op: Average, Sum, or Adasum (which reduces the change of the parameters).
        gradient_predivide_factor: with Average: gradients are divided by it before the sum and the
            rest of the division comes after.
        num_groups: older form of `groups`.
        groups: how many groups the parameters are reduced in, or the groups themselves; None lets
            LightCC cut buckets in the order of arrival.
        sparse_as_dense: makes sparse gradients dense before they are reduced.
        process_set: who takes part; ranks that are not in it step by themselves.

    Raises:
        ValueError: an argument contradicts another, names are missing or appear twice.
    """
    if gradient_predivide_factor != 1.0 and op != Average:
        raise ValueError("gradient_predivide_factor not supported with op != Average")
    if num_groups != 0:
        warnings.warn(
            "Parameter `num_groups` has been replaced by `groups` and will be removed",
            DeprecationWarning,
            stacklevel=2,
        )
        groups = groups if groups is not None else num_groups
    names = _named(optimizer, named_parameters)
    if op == Adasum:
        return _with_mixin(
            AdasumMixin, optimizer, names, compression, backward_passes_per_step, process_set
        )
    if op not in (Average, Sum):
        raise ValueError("DistributedOptimizer takes op=Average, Sum or Adasum.")
    wrapped = _with_mixin(_DistributedMixin, optimizer)
    wrapped._correction = correction_of(optimizer, compression, _settings.settings())
    wrapped._reducer = GradientReducer(
        _grouped_params(optimizer),
        names,
        compression,
        backward_passes_per_step,
        op,
        gradient_predivide_factor,
        _checked(groups),
        sparse_as_dense,
        process_set,
        os.environ,
        wrapped._correction,
    )
    wrapped._parameter_names = names  # as Horovod's; programs read it
    wrapped._synchronized = False
    wrapped._should_synchronize = True
    return wrapped


def _with_mixin(mixin: type, optimizer: torch.optim.Optimizer, *args: Any) -> Any:
    """The optimizer again, with the mixin's methods before its own."""
    base = type(optimizer)
    wrapped: Any = object.__new__(
        type(base.__name__, (mixin, base), {"__module__": base.__module__})
    )
    wrapped.__dict__.update(optimizer.__dict__)
    # A scheduler made before puts a `step` of its own there, bound to the optimizer inside.
    wrapped.__dict__.pop("step", None)
    if args:
        wrapped._attach(*args)
    return wrapped


def _grouped_params(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [param for group in optimizer.param_groups for param in group["params"]]


def _named(
    optimizer: torch.optim.Optimizer,
    named_parameters: Iterable[tuple[str, torch.nn.Parameter]] | None,
) -> dict[torch.nn.Parameter, str]:
    """The name of each of the optimizer's parameters."""
    if named_parameters is None:
        return {
            param: f"allreduce.noname.{i}.{j}"
            for i, group in enumerate(optimizer.param_groups)
            for j, param in enumerate(group["params"])
        }
    pairs = list(named_parameters)
    if any(not isinstance(pair, tuple) for pair in pairs):
        raise ValueError(
            "named_parameters should be a sequence of tuples (name, parameter), usually produced "
            "by model.named_parameters()."
        )
    seen: set[str] = set()
    twice = {name for name, _ in pairs if name in seen or seen.add(name)}  # type: ignore[func-returns-value]
    if twice:
        raise ValueError(
            "Parameter names in named_parameters must be unique. Found duplicates: "
            + ", ".join(sorted(twice))
        )
    names = {param: name for name, param in pairs}
    unnamed = [param for param in _grouped_params(optimizer) if param not in names]
    if unnamed:
        raise ValueError(
            "named_parameters was specified, but one or more model parameters were not named. "
            "Python object ids: " + ", ".join(str(id(param)) for param in unnamed)
        )
    return names


def _checked(
    groups: int | Sequence[Sequence[torch.nn.Parameter]] | None,
) -> int | list[list[torch.nn.Parameter]] | None:
    if groups is None or groups == 0:
        return None
    if isinstance(groups, int):
        if groups < 0:
            raise ValueError(
                "groups should be a non-negative integer or a list of list of torch.Tensor."
            )
        return groups
    if not isinstance(groups, list):
        raise ValueError(
            "groups should be a non-negative integer or a list of list of torch.Tensor."
        )
    seen: set[torch.Tensor] = set()
    for group in groups:
        for param in group:
            if not isinstance(param, torch.Tensor):
                raise ValueError("groups must consist of torch.Tensor.")
            if param in seen:
                raise ValueError("A parameter can only appear once in groups.")
            seen.add(param)
    return [list(group) for group in groups]
