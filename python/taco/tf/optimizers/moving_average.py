"""`use_ema` of Keras's optimizers, for tables: an exponential moving average of each row.

Keras moves the average of a dense variable at every step, `average = m * average + (1 - m) * row`.
A row that no gradient reaches stays as it is, so that after n steps its average is
`m ** n * average + (1 - m ** n) * row`: what the rows of a batch have missed is made up for when
they are touched, and what the others have when the averages are asked for.

The averages are a table of the optimizer's (`companions.py`). A row is the average and the step
that it is of, as two numbers, for float32 is exact up to 2**24 alone. A key that is not there has
an average that equals its row: so it is before the first gradient, and after the row has been
overwritten by its average.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from taco.tf import _ops
from taco.tf.optimizers import companions

_KIND = "moving_average"
_STEP_VALUES = 2
_STEP_BASE = 1 << 20
# Rows that are in memory at once while all are overwritten.
_CHUNK = 1 << 16


def build(optimizer: Any, table: Any) -> Any:
    """The table of averages of `table`, made at the first call."""
    return companions.of(optimizer, table, _KIND, more=_STEP_VALUES)


def check(table: Any) -> None:
    """Raises ValueError if the rows of `table` leave no room for a step beside their average."""
    from taco.tf.dynamic_embedding.variable import MAX_DIM

    if table.dim + _STEP_VALUES > MAX_DIM:
        raise ValueError(
            f"use_ema takes rows of at most {MAX_DIM - _STEP_VALUES} values, and those of table "
            f"'{table.name}' have {table.dim}: leave it out, or split the table"
        )


class Update:
    """One step of the averages of the rows that an optimizer step touches."""

    def __init__(self, optimizer: Any, table: Any, keys: tf.Tensor):
        """Reads what is there before the optimizer's update of `keys` (n,)."""
        self._optimizer, self._table = optimizer, table
        self._keys = tf.unique(tf.cast(keys, table.key_dtype))[0]
        drawn = table._insert_drawn(self._keys)
        with tf.control_dependencies([] if drawn is None else [drawn]):
            rows, exist = _rows(table, self._keys)
        self._averages = build(optimizer, table)
        self._step = _steps(optimizer) + 1
        self._before = _averages_of(
            optimizer, self._averages, self._keys, rows, exist, self._step - 1
        )

    def finish(self) -> None:
        """Moves the averages towards the rows as they are after the update."""
        rows, _ = _rows(self._table, self._keys)
        first = tf.equal(tf.convert_to_tensor(self._optimizer.iterations), 0)
        momentum = tf.where(first, 0.0, tf.cast(self._optimizer.ema_momentum, tf.float32))
        moved = momentum * self._before + (1.0 - momentum) * rows
        self._averages.upsert(self._keys, _packed(moved, self._step))


def overwrite(optimizer: Any, in_step: bool) -> None:
    """Sets every row that has an average of its own to it; slots stay.

    Args:
      optimizer: whose averages they are.
      in_step: whether a step is under way, which its count does not have yet.
    """

    def to_average(table: Any, averages: Any, keys: Any, rows: Any, moved: Any, step: Any) -> None:
        del averages, rows, step
        table.upsert(keys, tf.cast(moved, table.value_dtype))

    for table, averages in companions.all_of(optimizer, _KIND):
        _for_all(optimizer, table, averages, in_step, to_average)
        averages.clear()


def swap(optimizer: Any) -> None:
    """Exchanges the rows and their averages; doing it twice changes nothing."""

    def exchange(table: Any, averages: Any, keys: Any, rows: Any, moved: Any, step: Any) -> None:
        table.upsert(keys, tf.cast(moved, table.value_dtype))
        averages.upsert(keys, _packed(rows, step))

    for table, averages in companions.all_of(optimizer, _KIND):
        _for_all(optimizer, table, averages, False, exchange)


def set_to_rows(optimizer: Any) -> None:
    """Makes every average what its row is now."""
    for _, averages in companions.all_of(optimizer, _KIND):
        averages.clear()


def _for_all(
    optimizer: Any, table: Any, averages: Any, in_step: bool, act: Callable[..., None]
) -> None:
    """Calls `act(table, averages, keys, rows, averages now, step)` for all rows with an average,
    some at a time."""
    step = _steps(optimizer) + int(in_step)
    export = _ops.ops().taco_table_export_keys
    keys = tf.concat([export(handle, K=averages.key_dtype) for handle in averages.handles], 0)
    count = tf.size(keys)

    def some(start: tf.Tensor) -> list[tf.Tensor]:
        part = keys[start : start + _CHUNK]
        rows, exist = _rows(table, part)
        part, rows = tf.boolean_mask(part, exist), tf.boolean_mask(rows, exist)
        exist = tf.ones_like(part, tf.bool)
        moved = _averages_of(optimizer, averages, part, rows, exist, step)
        act(table, averages, part, rows, moved, step)
        return [start + _CHUNK]

    tf.while_loop(lambda start: start < count, some, [tf.constant(0)], parallel_iterations=1)


def _steps(optimizer: Any) -> tf.Tensor:
    """Steps done, those that only accumulate gradients too: Keras moves averages at each."""
    return tf.cast(tf.convert_to_tensor(optimizer._iterations), tf.int64)


def _rows(table: Any, keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    rows, exist = table.lookup(keys, return_exists=True)
    return tf.cast(rows, tf.float32), exist


def _averages_of(
    optimizer: Any, averages: Any, keys: tf.Tensor, rows: tf.Tensor, exist: tf.Tensor, step: Any
) -> tf.Tensor:
    """The averages after `step` steps of rows that have been what they are since the last one that
    touched them."""
    packed, known = averages.lookup(keys, return_exists=True)
    average, since = packed[:, :-_STEP_VALUES], tf.cast(packed[:, -_STEP_VALUES:], tf.int64)
    missed = tf.maximum(step - (since[:, 0] * _STEP_BASE + since[:, 1]), 0)
    kept = tf.pow(tf.cast(optimizer.ema_momentum, tf.float64), tf.cast(missed, tf.float64))
    kept = tf.cast(kept, tf.float32)[:, tf.newaxis]
    known = tf.logical_and(known, exist)[:, tf.newaxis]  # a row that was removed begins anew
    return tf.where(known, kept * average + (1.0 - kept) * rows, rows)


def _packed(averages: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    parts = tf.cast(tf.stack([step // _STEP_BASE, step % _STEP_BASE]), tf.float32)
    parts = tf.broadcast_to(parts, tf.stack([tf.shape(averages)[0], _STEP_VALUES]))
    return tf.concat([averages, parts], 1)
