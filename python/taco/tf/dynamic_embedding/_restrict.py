"""Restriction of a variable's size: the policies of TFRA, as `get_variable(restrict_policy=...)`.

A policy notes something about each key that an optimizer touches, in a table of its own, and
`var.restrict(n)` removes the rows that rank lowest until `n` remain:

1. rows that no optimizer has touched, such as those that only `upsert`, `accum` or `import_` wrote;
2. the others, by what is noted of their keys;
3. where that is equal, by key: the smallest goes first.

So a variable of known contents and history always keeps the same rows. In TFRA rows of the first
kind count as rows too many, but stay: it removes trained ones until `n` of those are left. A row's
slots live in the row and go with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from taco.tf import _ops

if TYPE_CHECKING:
    from taco.tf.dynamic_embedding.variable import Variable


class RestrictPolicy:
    """Base of the policies. A subclass says in `apply_update` what is noted of a key."""

    def __init__(self, var: Variable):
        """Makes the (empty) notes on the keys of `var`."""
        self.var = var
        self._status = tf.lookup.experimental.MutableHashTable(
            key_dtype=tf.int64,  # TensorFlow has no such table from int32 to int64
            value_dtype=tf.int64,
            default_value=0,
            name=f"{var.name.replace('/', '_')}_status",
        )

    @property
    def status(self) -> tf.lookup.experimental.MutableHashTable:
        """The notes: int64 key to int64; the keys with the lowest are removed first. Those of keys
        that have no row, having been removed, count for nothing and go with the next restriction.
        """
        return self._status

    def apply_update(self, ids: tf.Tensor) -> tf.Operation | None:
        """Notes that an optimizer touched `ids`, an integer tensor of any shape."""
        raise NotImplementedError

    def apply_restriction(self, num_reserved: int, trigger: int | None = None) -> Any:
        """Removes the lowest rows until `num_reserved` are left, if there are more than `trigger`.

        Rows that training inserts meanwhile stay.

        Args:
          num_reserved: rows to keep, of all devices together.
          trigger: the number of rows above which anything is done; `num_reserved` by default.

        Returns:
          How many rows were removed: int32 scalar.

        Raises:
          TypeError: an argument is not an int.
          ValueError: `num_reserved` is negative.
        """
        trigger = num_reserved if trigger is None else trigger
        for name, value in (("num_reserved", num_reserved), ("trigger", trigger)):
            if not isinstance(value, int):
                raise TypeError(f"{name} must be an int, not {type(value).__name__}")
        if num_reserved < 0:
            raise ValueError(f"num_reserved must not be negative, and is {num_reserved}")

        def restrict() -> tf.Tensor:
            noted, _ = self._status.export()
            with tf.control_dependencies([noted]):  # those that are noted have had their rows
                keys = tf.sort(self._keys())
            untouched = tf.constant(tf.int64.min, tf.int64)
            notes = self._status.lookup(keys, dynamic_default_values=untouched)
            order = tf.argsort(notes, stable=True)
            excess = tf.maximum(tf.size(keys) - num_reserved, 0)
            removed, kept = tf.gather(keys, order[:excess]), tf.gather(keys, order[excess:])
            forgotten = tf.raw_ops.ListDiff(x=noted, y=kept).out
            removed = tf.cast(removed, self.var.key_dtype)
            group = tf.group(self.var.remove(removed), self._status.remove(forgotten))
            with tf.control_dependencies([group] if group is not None else []):
                return tf.identity(excess)

        return tf.cond(self.var.size() > trigger, restrict, lambda: tf.constant(0, tf.int32))

    def _keys(self) -> tf.Tensor:
        """The keys of all rows: (n,) int64, in no particular order."""
        export = _ops.ops().taco_table_export_keys
        keys = [export(handle, K=self.var.key_dtype) for handle in self.var.handles]
        return tf.cast(tf.concat(keys, 0), tf.int64)


class TimestampRestrictPolicy(RestrictPolicy):
    """Keeps the keys touched last."""

    def apply_update(self, ids: tf.Tensor) -> tf.Operation | None:
        keys = tf.cast(tf.reshape(ids, [-1]), tf.int64)
        microseconds = tf.cast(tf.timestamp() * 1e6, tf.int64)
        return self._status.insert(keys, tf.fill(tf.shape(keys), microseconds))


class FrequencyRestrictPolicy(RestrictPolicy):
    """Keeps the keys touched by the most steps."""

    def apply_update(self, ids: tf.Tensor) -> tf.Operation | None:
        keys = tf.cast(tf.unique(tf.reshape(ids, [-1]))[0], tf.int64)
        return self._status.insert(keys, self._status.lookup(keys) + 1)
