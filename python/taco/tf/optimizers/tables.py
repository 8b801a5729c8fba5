"""Which variables of an optimizer are tables, and their gradients."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf


def table_of(variable: Any) -> Any:
    """The table that `variable` is, or stands for; None for any other variable.

    A table itself; one lookup's share of it; or a Keras variable around it.
    """
    from taco.tf.dynamic_embedding.variable import Variable

    for candidate in (variable, getattr(variable, "_taco_table", None)):
        if isinstance(candidate, Variable):
            return candidate
    inner = getattr(variable, "__dict__", {}).get("_value")  # a Keras variable's tf.Variable
    return inner if isinstance(inner, Variable) else None


def has_tables(variables: Iterable[Any]) -> bool:
    """Whether there is a table among `variables`."""
    return any(table_of(variable) is not None for variable in variables)


def without_tables(variables: Iterable[Any]) -> list[Any]:
    """The variables that are no tables, in order."""
    return [variable for variable in variables if table_of(variable) is None]


def distinct(variables: Iterable[Any]) -> list[Any]:
    """The tables among `variables`, each once."""
    return list({id(t): t for t in map(table_of, variables) if t is not None}.values())


def hand_over(table: Any, optimizer: Any, fresh: bool) -> None:
    """Notes that `optimizer` trains `table` from now on.

    Slots lie in the rows, so that a table has those of one optimizer. Where another one of this
    process has trained it, and this one is `fresh`, they are dropped: a new optimizer begins with
    slots of its own. Those that came from a file are this one's to go on with.
    """
    before = table._trained_by
    if before is not None and before() is not optimizer and fresh:
        with tf.init_scope():
            table.drop_slots()
    table._trained_by = weakref.ref(optimizer)


def as_slices(gradient: Any, table: Any) -> tf.IndexedSlices:
    """The gradient of a table: values (n, dim) under their keys (n,).

    Args:
      gradient: IndexedSlices with one row of values for each index.
      table: whose gradient it is.

    Raises:
      TypeError: a dense gradient, which does not say whose rows it has; or indices that are no
        integers.
      ValueError: there is not one row of `dim` values for each index.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        raise TypeError(
            f"the gradient of table '{table.name}' must be tf.IndexedSlices (values and keys), as "
            f"GradientTape.gradient and tf.gradients give it, not {type(gradient).__name__}"
        )
    keys = tf.convert_to_tensor(gradient.indices)
    values = tf.convert_to_tensor(gradient.values)
    if not keys.dtype.is_integer:
        raise TypeError(
            f"the gradient of table '{table.name}' has {keys.dtype.name} indices: they must be its "
            "keys, which are integers"
        )
    if not values.shape.is_compatible_with(keys.shape.concatenate([table.dim])):
        raise ValueError(
            f"the gradient of table '{table.name}' has values of shape {values.shape} for indices "
            f"of shape {keys.shape}: give one row of {table.dim} values for each index"
        )
    return tf.IndexedSlices(_rows(values), tf.reshape(keys, [-1]), gradient.dense_shape)


def _rows(values: tf.Tensor) -> tf.Tensor:
    """`values` as a matrix whose rows are those that it had: where a graph does not know their
    length, the operation that takes them checks it."""
    if values.shape.rank == 2:
        return values
    return tf.reshape(values, tf.concat([[-1], tf.shape(values)[-1:]], 0))


def merge(gradients: Sequence[Any], variables: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """One entry for each table, with the gradients of all its lookups; the rest as it was.

    Args:
      gradients: tensors, IndexedSlices or None.
      variables: of the same length.

    Returns:
      gradients and variables, in the order of first occurrence.
    """
    merged: list[Any] = []
    kept: list[Any] = []
    place: dict[int, int] = {}
    for gradient, variable in zip(gradients, variables, strict=True):
        table = table_of(variable)
        if table is None:
            merged.append(gradient)
            kept.append(variable)
        elif id(table) not in place:
            place[id(table)] = len(kept)
            merged.append(gradient)
            kept.append(table)
        elif gradient is not None:
            at = place[id(table)]
            merged[at] = gradient if merged[at] is None else _concat(merged[at], gradient, table)
    return merged, kept


def _concat(first: Any, second: Any, table: Any) -> tf.IndexedSlices:
    slices = [as_slices(first, table), as_slices(second, table)]
    return tf.IndexedSlices(
        tf.concat([s.values for s in slices], 0),
        tf.concat([s.indices for s in slices], 0),
        slices[0].dense_shape,
    )


def sum_duplicates(keys: tf.Tensor, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Distinct keys, and for each the sum of its rows of `values` (n, dim) in float32."""
    distinct, place = tf.unique(keys)
    summed = tf.math.unsorted_segment_sum(tf.cast(values, tf.float32), place, tf.size(distinct))
    return distinct, summed
