"""One optimizer step on a table: what an optimizer's settings become at the fused operation."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from taco.tf import _ops

_GRADIENT_TYPES = (tf.float32, tf.bfloat16, tf.float16)


@dataclasses.dataclass(frozen=True)
class Update:
    """The rule and its numbers, each a Python number or a scalar tensor.

    `rule` is the operation's `optimizer` attribute. `momentum`, where a rule has one, is `beta1`;
    `rho` is `beta2`. A rule ignores the numbers that it does not name.
    """

    rule: str
    learning_rate: Any
    beta1: Any = 0.0
    beta2: Any = 0.0
    epsilon: Any = 0.0
    weight_decay: Any = 0.0
    l1: Any = 0.0
    l2: Any = 0.0
    l2_shrinkage: Any = 0.0
    lr_power: Any = -0.5
    nesterov: bool = False
    lr_outside_momentum: bool = False
    amsgrad: bool = False
    centered: bool = False
    has_momentum: bool = False
    decay_in_direction: bool = False
    slot_init: tuple[float, ...] = ()
    # The step, 1 for the first, where it is not the optimizer's count of its steps on tables.
    step: Any = None
    # In float64, `1 - beta` is rounded after the subtraction, as Keras does; in float32 before it,
    # as the kernels of tf.compat.v1.train do.
    precision: tf.DType = tf.float64

    def attributes(self) -> dict[str, Any]:
        """The attributes that decide the layout of a row."""
        return {
            "optimizer": self.rule,
            "nesterov": self.nesterov,
            "lr_outside_momentum": self.lr_outside_momentum,
            "amsgrad": self.amsgrad,
            "centered": self.centered,
            "has_momentum": self.has_momentum,
            "decay_in_direction": self.decay_in_direction,
            "slot_init": list(self.slot_init),
        }

    def numbers(self) -> tf.Tensor:
        """The numbers in the operation's order: (9,) of type `precision`."""
        order = (
            self.learning_rate,
            self.beta1,
            self.beta2,
            self.epsilon,
            self.weight_decay,
            self.l1,
            self.l2,
            self.l2_shrinkage,
            self.lr_power,
        )
        if all(isinstance(number, (int, float)) for number in order):
            return tf.constant(order, self.precision)
        return tf.stack([tf.reshape(tf.cast(number, self.precision), []) for number in order])


def apply(
    table: Any, keys: tf.Tensor, values: tf.Tensor, step: tf.Tensor, update: Update
) -> tf.Operation | None:
    """Updates the rows of `keys`; those of duplicate keys by the sum of their gradients.

    Args:
      table: a `taco.tf.dynamic_embedding.Variable`.
      keys: (n,), of its key type.
      values: (n, dim) gradients of a floating type.
      step: int64 scalar, 1 for the optimizer's first step.
      update: what to do.

    Returns:
      The operation in a graph, None eagerly.
    """
    keys = tf.cast(keys, table.key_dtype)
    if values.dtype not in _GRADIENT_TYPES:
        values = tf.cast(values, tf.float32)
    numbers = update.numbers()
    step = tf.cast(step, tf.int64)

    def on_one_table(handle: tf.Tensor, part: tf.Tensor, gradients: tf.Tensor) -> Any:
        return _ops.ops().taco_table_apply(
            handle, part, gradients, step, numbers, **update.attributes()
        )

    inserted = table._insert_drawn(keys)
    with tf.control_dependencies([] if inserted is None else [inserted]):
        done = table._scatter(on_one_table, keys, values)
    if table.restrict_policy is None:
        return done
    return tf.group(*[op for op in (done, table.restrict_policy.apply_update(keys)) if op])
