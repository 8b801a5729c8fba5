"""Restriction of a variable's size: the policies of TFRA, as `get_variable(restrict_policy=...)`.

A policy notes something about each key that an optimizer touches, in a table of its own, and
`var.restrict(n)` removes the keys that rank lowest until `n` remain. A row's slots live in the row
and go with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from taco.tf.dynamic_embedding.variable import Variable


class RestrictPolicy:
    """Base of the policies. A subclass says in `apply_update` what is noted of a key."""

    def __init__(self, var: Variable):
        """Makes the (empty) notes on the keys of `var`."""
        self.var = var
        self._status = tf.lookup.experimental.MutableHashTable(
            key_dtype=var.key_dtype,
            value_dtype=tf.int64,
            default_value=0,
            name=f"{var.name.replace('/', '_')}_status",
        )

    @property
    def status(self) -> tf.lookup.experimental.MutableHashTable:
        """The notes: key to int64; the keys with the lowest are removed first."""
        return self._status

    def apply_update(self, ids: tf.Tensor) -> tf.Operation | None:
        """Notes that an optimizer touched `ids`, an integer tensor of any shape."""
        raise NotImplementedError

    def apply_restriction(self, num_reserved: int, trigger: int | None = None) -> Any:
        """Removes the lowest keys until `num_reserved` are left, if there are more than `trigger`.

        Args:
          num_reserved: rows to keep.
          trigger: the number of rows above which anything is done; `num_reserved` by default.

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
            keys, notes = self._status.export()
            excess = tf.maximum(tf.size(keys) - num_reserved, 0)
            lowest = tf.argsort(notes, stable=True)[:excess]
            removed = tf.gather(keys, lowest)
            group = tf.group(self.var.remove(removed), self._status.remove(removed))
            with tf.control_dependencies([group] if group is not None else []):
                return tf.identity(excess)

        return tf.cond(self.var.size() > trigger, restrict, lambda: tf.constant(0, tf.int32))


class TimestampRestrictPolicy(RestrictPolicy):
    """Keeps the keys touched last."""

    def apply_update(self, ids: tf.Tensor) -> tf.Operation | None:
        keys = tf.reshape(ids, [-1])
        microseconds = tf.cast(tf.timestamp() * 1e6, tf.int64)
        return self._status.insert(keys, tf.fill(tf.shape(keys), microseconds))


class FrequencyRestrictPolicy(RestrictPolicy):
    """Keeps the keys touched by the most steps."""

    def apply_update(self, ids: tf.Tensor) -> tf.Operation | None:
        keys = tf.unique(tf.reshape(ids, [-1]))[0]
        return self._status.insert(keys, self._status.lookup(keys) + 1)
