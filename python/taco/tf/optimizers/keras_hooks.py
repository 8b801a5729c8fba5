"""Keras's optimizers, made aware of tables.

Each hook passes straight through where no table is among the variables. Where one is, Keras still
does everything but the update of the table itself: unscaling, clipping, schedules, the count of
steps. On its way through Keras, the gradient of a table is the plain tensor of its rows (n, dim);
the keys wait in `_pending`.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf
from keras.src.optimizers import optimizer as keras_optimizer

from taco.tf.optimizers import keras_rules, tables
from taco.tf.optimizers.update import apply as apply_update

_local = threading.local()


def install() -> None:
    """Wraps the methods of Keras's optimizer classes. Done once by `hooks.install`."""
    base = keras_optimizer.Optimizer
    for cls, name, hook in (
        (base, "build", _build),
        (base, "add_optimizer_variables", _add_optimizer_variables),
        (base, "_check_variables_are_known", _check_variables_are_known),
        (base, "apply", _apply),
        (keras.optimizers.LossScaleOptimizer, "apply", _apply),
        (base, "_apply_weight_decay", _apply_weight_decay),
        (base, "_backend_update_step", _update_step),
    ):
        setattr(cls, name, _wrapped(getattr(cls, name), hook))


def check_supported(optimizer: Any) -> None:
    """Raises TypeError or ValueError, with the remedy, for what tables cannot be trained with."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if keras_rules.rule_of(optimizer) is None:
        raise TypeError(
            f"{type(optimizer).__name__} cannot train a dynamic embedding table. Supported: "
            f"{keras_rules.names()}. Train the tables with one of these, and the other variables "
            "with this one"
        )
    if optimizer.use_ema:
        raise ValueError("use_ema is not supported for dynamic embedding tables: leave it out")
    if optimizer.gradient_accumulation_steps:
        raise ValueError(
            "gradient_accumulation_steps is not supported for dynamic embedding tables: use "
            "larger batches"
        )


def _wrapped(original: Callable[..., Any], hook: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return hook(original, self, *args, **kwargs)

    return method


# Building: no slot variable is made for a table, whose slots live in its rows.


def _build(original: Callable[..., Any], self: Any, variables: Any) -> None:
    variables = list(variables)
    if not tables.has_tables(variables):
        return original(self, variables)
    check_supported(self)
    object.__setattr__(self, "_taco_variables", variables)  # Keras would track it as a child
    return original(self, tables.without_tables(variables))


def _add_optimizer_variables(
    original: Callable[..., Any], self: Any, trainable_variables: Any, *args: Any, **kwargs: Any
) -> Any:
    return original(self, tables.without_tables(trainable_variables), *args, **kwargs)


def _check_variables_are_known(original: Callable[..., Any], self: Any, variables: Any) -> None:
    original(self, tables.without_tables(variables))


# Applying.


@dataclasses.dataclass
class _Pending:
    """The keys of the tables' gradients during one `apply`, by id of the table."""

    keys: dict[int, tf.Tensor] = dataclasses.field(default_factory=dict)


@contextmanager
def _pending() -> Iterator[_Pending]:
    """That of the `apply` under way: a loss-scaling optimizer calls that of its inner one."""
    current = getattr(_local, "pending", None)
    if current is not None:
        yield current
        return
    _local.pending = _Pending()
    try:
        yield _local.pending
    finally:
        _local.pending = None


def _apply(
    original: Callable[..., Any], self: Any, grads: Any, trainable_variables: Any = None
) -> Any:
    grads = list(grads)
    variables = trainable_variables
    if variables is None:
        variables = getattr(self, "_taco_variables", None)
    if variables is not None:
        variables = list(variables)
    if variables is None or not tables.has_tables(variables):
        return original(self, grads, trainable_variables if variables is None else variables)
    if len(grads) != len(variables):
        raise ValueError(f"{len(grads)} gradients for {len(variables)} variables")
    check_supported(self)
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise NotImplementedError(
            "dynamic embedding tables are not supported under a tf.distribute strategy of several "
            "replicas"
        )
    if not self.built:
        with keras.name_scope(self.name):
            self.build(variables)
    grads, variables = tables.merge(grads, variables)
    clips = self.clipnorm or self.global_clipnorm or self.clipvalue
    with _pending() as pending:
        for i, table in enumerate(variables):
            if tables.table_of(table) is None or grads[i] is None:
                continue
            if id(table) not in pending.keys:
                slices = tables.as_slices(grads[i], table)
                pending.keys[id(table)], grads[i] = slices.indices, slices.values
            if clips:
                pending.keys[id(table)], grads[i] = tables.sum_duplicates(
                    pending.keys[id(table)], grads[i]
                )
        return original(self, grads, variables)


def _apply_weight_decay(original: Callable[..., Any], self: Any, variables: Any) -> None:
    dense = tables.without_tables(variables)
    if dense:
        original(self, dense)


def _update_step(
    original: Callable[..., Any], self: Any, grads: Any, trainable_variables: Any, lr: Any
) -> None:
    pairs = list(zip(grads, trainable_variables, strict=True))
    dense = [(g, v) for g, v in pairs if tables.table_of(v) is None]
    if dense:
        original(self, [g for g, _ in dense], [v for _, v in dense], lr)
    if len(dense) == len(pairs):
        return
    step = tf.convert_to_tensor(self.iterations) + 1
    for gradient, table in pairs:
        if tables.table_of(table) is not None:
            update = keras_rules.update_of(self, table, lr)
            apply_update(table, _local.pending.keys[id(table)], gradient, step, update)
