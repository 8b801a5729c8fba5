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

from taco.tf.optimizers import accumulation, keras_rules, moving_average, tables
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
        (base, "_backend_apply_gradients", _apply_gradients),
        (base, "_apply_weight_decay", _apply_weight_decay),
        (base, "_backend_update_step", _update_step),
        (base, "_overwrite_model_variables_with_average_value", _overwrite_with_averages),
        (keras.callbacks.SwapEMAWeights, "_tf_swap_variables", _swap_averages),
        (keras.callbacks.SwapEMAWeights, "_tf_finalize_ema_values", _set_averages),
    ):
        setattr(cls, name, _wrapped(getattr(cls, name), hook))


def check_supported(optimizer: Any) -> None:
    """Raises TypeError, with the remedy, for what tables cannot be trained with."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if keras_rules.rule_of(optimizer) is None and not _hands_on(optimizer):
        raise TypeError(
            f"{type(optimizer).__name__} cannot train a dynamic embedding table. Supported: "
            f"{keras_rules.names()}. Train the tables with one of these, and the other variables "
            "with this one"
        )


def _hands_on(optimizer: Any) -> bool:
    """Whether `optimizer` gives each variable to one of several others, which are asked then."""
    return isinstance(optimizer, getattr(keras.optimizers, "MultiOptimizer", ()))


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
    if _hands_on(self):
        return original(self, variables)
    object.__setattr__(self, "_taco_variables", variables)  # Keras would track it as a child
    trains = keras_rules.rule_of(self) is not None  # and has no other optimizer inside for that
    for table in tables.distinct(variables):
        if trains:
            tables.hand_over(table, self, _is_fresh(self))
        if self.use_ema:
            moving_average.check(table)
            moving_average.build(self, table)
        if self.gradient_accumulation_steps:
            accumulation.build(self, table)
    return original(self, tables.without_tables(variables))


def _is_fresh(optimizer: Any) -> bool:
    """Whether it has made no step, nor been restored, nor is about to be."""
    if getattr(_local, "restoring", False):
        return False
    with tf.init_scope():
        return tf.executing_eagerly() and int(optimizer._iterations.value) == 0


@contextmanager
def restoring() -> Iterator[None]:
    """While an optimizer is built for its state to be restored, with the slots of its tables."""
    before = getattr(_local, "restoring", False)
    _local.restoring = True
    try:
        yield
    finally:
        _local.restoring = before


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


def _apply_gradients(
    original: Callable[..., Any], self: Any, grads: Any, trainable_variables: Any
) -> None:
    """Where gradients accumulate, what Keras does with those of dense variables is done here, as
    those of the tables have to go with them: into one norm, and into one update."""
    variables = list(trainable_variables)
    if not self.gradient_accumulation_steps or not tables.has_tables(variables):
        return original(self, grads, variables)
    grads, sums = list(grads), []
    for gradient, variable in zip(grads, variables, strict=True):
        if tables.table_of(variable) is None:
            sums.append(self._accumulated_gradients[self._get_variable_index(variable)])
        else:
            sums.append(None)
            accumulation.add(self, variable, _local.pending.keys[id(variable)], gradient)

    def update() -> None:
        means = [
            (gradient + waiting) / self.gradient_accumulation_steps if waiting is not None else None
            for gradient, waiting in zip(grads, sums, strict=True)
        ]
        for i, table in enumerate(variables):
            if means[i] is None:
                _local.pending.keys[id(table)], means[i] = accumulation.mean(self, table)
        means = self._clip_gradients(means)
        self._apply_weight_decay(variables)
        self._backend_update_step(means, variables, self.learning_rate)
        self._backend_reset_gradient_accumulators()
        accumulation.reset(self)

    def wait() -> None:
        dense = [(g, s) for g, s in zip(grads, sums, strict=True) if s is not None]
        if dense:
            self._backend_increment_gradient_accumulators(
                [g for g, _ in dense], [s for _, s in dense]
            )

    count = tf.convert_to_tensor(self._iterations) + 1
    keras.ops.cond(tf.equal(count % self.gradient_accumulation_steps, 0), update, wait)
    if self.use_ema:
        self._update_model_variables_moving_average(self._trainable_variables)
        if self.ema_overwrite_frequency:
            done = tf.convert_to_tensor(self.iterations) + 1
            keras.ops.cond(
                tf.equal(done % self.ema_overwrite_frequency, 0),
                lambda: self._overwrite_model_variables_with_average_value(
                    self._trainable_variables
                ),
                lambda: None,
            )


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
            keys = _local.pending.keys[id(table)]
            averages = moving_average.Update(self, table, keys) if self.use_ema else None
            apply_update(table, keys, gradient, step, keras_rules.update_of(self, table, lr))
            if averages is not None:
                averages.finish()


# Moving averages.


def _overwrite_with_averages(
    original: Callable[..., Any], self: Any, trainable_variables: Any
) -> None:
    original(self, tables.without_tables(trainable_variables))
    moving_average.overwrite(self, in_step=getattr(_local, "pending", None) is not None)


def _swap_averages(original: Callable[..., Any], self: Any, optimizer: Any) -> None:
    original(self, optimizer)
    moving_average.swap(optimizer)


def _set_averages(original: Callable[..., Any], self: Any, optimizer: Any) -> None:
    original(self, optimizer)
    moving_average.set_to_rows(optimizer)
