"""`gradient_accumulation_steps` of Keras's optimizers, for tables.

The gradients of the batches between two updates are summed, by key, in a table of the optimizer's
(`companions.py`). At the update its rows are the gradient: one for each key of any of the batches,
divided by their number, as Keras divides the gradient of a dense variable.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from taco.tf.optimizers import companions
from taco.tf.optimizers.update import Update
from taco.tf.optimizers.update import apply as apply_update

_KIND = "gradient_accumulator"
# Adds the gradient to the row, and the gradients of duplicate keys to each other.
_ADD = Update("sgd", -1.0)


def build(optimizer: Any, table: Any) -> None:
    """Makes the table of sums, for a checkpoint to be restored into."""
    companions.of(optimizer, table, _KIND)


def add(optimizer: Any, table: Any, keys: tf.Tensor, values: tf.Tensor) -> None:
    """Adds the gradient of one batch: rows of `values` (n, dim) under `keys` (n,)."""
    sums = companions.of(optimizer, table, _KIND)
    apply_update(sums, keys, values, tf.constant(1, tf.int64), _ADD)


def mean(optimizer: Any, table: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """The gradient that has come together: distinct keys (n,) and rows (n, dim), float32."""
    keys, sums = companions.of(optimizer, table, _KIND).export()
    return keys, sums / tf.cast(optimizer.gradient_accumulation_steps, tf.float32)


def reset(optimizer: Any) -> None:
    """Forgets the sums of all tables."""
    for _, sums in companions.all_of(optimizer, _KIND):
        sums.clear()
