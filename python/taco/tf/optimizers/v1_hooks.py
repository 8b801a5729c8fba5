"""The optimizers of tf.compat.v1.train, made aware of tables, in graphs and eagerly."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.framework import ops as tf_ops
from tensorflow.python.ops import resource_variable_ops
from tensorflow.python.training import optimizer as v1_optimizer

from taco.tf.optimizers import tables, v1_rules
from taco.tf.optimizers.update import apply as apply_update

_STEP = "taco_step"


def install() -> None:
    """Wraps what is needed in TensorFlow's optimizer module. Done once by `hooks.install`."""
    cls = v1_optimizer.Optimizer
    cls.apply_gradients = _wrapped(cls.apply_gradients)
    v1_optimizer._get_processor = _processor(v1_optimizer._get_processor)


def check_supported(optimizer: Any) -> None:
    """Raises TypeError for an optimizer that cannot train tables."""
    inner = getattr(optimizer, "_optimizer", None) or getattr(optimizer, "_opt", None)
    if not v1_rules.supports(inner if inner is not None else optimizer):
        raise TypeError(
            f"{type(optimizer).__name__} cannot train a dynamic embedding table. Supported: "
            f"{v1_rules.names()}"
        )


def _processor(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """How the optimizer finds the gradient's target: for a table, as for a resource variable."""

    @functools.wraps(original)
    def get(variable: Any) -> Any:
        if tables.table_of(variable) is not None:
            return v1_optimizer._DenseResourceVariableProcessor(variable)
        return original(variable)

    return get


def _wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def apply_gradients(
        self: Any, grads_and_vars: Any, global_step: Any = None, name: str | None = None, **kw: Any
    ) -> Any:
        pairs = tuple(grads_and_vars)
        if not tables.has_tables(v for g, v in pairs if g is not None):
            # A table without a gradient is left alone, as a variable would be.
            dense = [(g, v) for g, v in pairs if tables.table_of(v) is None]
            return original(self, dense or pairs, global_step, name, **kw)
        check_supported(self)
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            raise NotImplementedError(
                "dynamic embedding tables are not supported under a tf.distribute strategy of "
                "several replicas"
            )
        return _apply(original, self, pairs, global_step, name)

    return apply_gradients


def _apply(
    original: Callable[..., Any], self: Any, pairs: Any, global_step: Any, name: str | None
) -> tf.Operation | None:
    gradients, variables = tables.merge([g for g, _ in pairs], [v for _, v in pairs])
    of_tables: list[tuple[Any, Any]] = []
    of_others: list[tuple[Any, Any]] = []
    for gradient, variable in zip(gradients, variables, strict=True):
        (of_others if tables.table_of(variable) is None else of_tables).append((gradient, variable))
    done = []
    if any(gradient is not None for gradient, _ in of_others):
        done.append(_dense(original, self, of_others, f"{name or self.get_name()}_dense"))
    with tf_ops.name_scope(name or self.get_name(), skip_on_eager=False) as scope:
        update = v1_rules.update_of(self)
        step = _count_step(self, of_tables[0][1]) if update.step is None else update.step
        for gradient, table in of_tables:
            if gradient is not None:
                slices = tables.as_slices(gradient, table)
                with tf_ops.colocate_with(table.handle, ignore_existing=True):
                    done.append(apply_update(table, slices.indices, slices.values, step, update))
        return _finish(done, global_step, scope)


def _dense(
    original: Callable[..., Any], self: Any, pairs: list[Any], name: str | None
) -> tf.Operation | None:
    """Applies the other gradients; the operation is not yet the whole train_op."""
    train_ops = tf_ops.get_collection_ref(tf.compat.v1.GraphKeys.TRAIN_OP)
    before = len(train_ops)
    done = original(self, pairs, None, name)
    if not context.executing_eagerly():
        del train_ops[before:]
    return done


def _count_step(self: Any, table: Any) -> tf.Tensor:
    """Counts the optimizer's steps on tables: int64, 1 for the first.

    The count is a variable of the optimizer's, so that checkpoints hold it."""
    with tf_ops.init_scope():
        counter = self._create_non_slot_variable(np.int64(0), _STEP, table)
    return tf.convert_to_tensor(counter.assign_add(1))


def _finish(done: list[Any], global_step: Any, name: str) -> tf.Operation | None:
    """The operation of the whole step; programs may look it up by its `name`."""
    done = [op for op in done if op is not None]
    if global_step is None:
        train_op = tf.group(*done, name=name)
    else:
        with tf.control_dependencies(done):
            if isinstance(global_step, resource_variable_ops.BaseResourceVariable):
                train_op = global_step.assign_add(1, name=name, read_value=False)
            else:
                train_op = tf.compat.v1.assign_add(global_step, 1, name=name)
    if context.executing_eagerly():
        return None
    if not isinstance(train_op, tf.Operation):
        train_op = train_op.op
    train_ops = tf_ops.get_collection_ref(tf.compat.v1.GraphKeys.TRAIN_OP)
    if train_op not in train_ops:
        train_ops.append(train_op)
    return train_op
