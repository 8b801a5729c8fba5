"""Keys onto tables: splitting a batch by device and putting the answers back in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context

PartitionFn = Callable[[tf.Tensor, int], tf.Tensor]


def default_partition_fn(keys: tf.Tensor, shard_num: int) -> tf.Tensor:
    """The table of each key: the key modulo the number of tables.

    Args:
      keys: integer tensor of any shape; negative keys too.
      shard_num: how many tables there are.

    Returns:
      int32 tensor of the shape of `keys`, each in [0, shard_num).
    """
    keys = tf.convert_to_tensor(keys)
    if shard_num <= 1:
        return tf.zeros(tf.shape(keys), tf.int32)
    return tf.cast(tf.math.floormod(keys, tf.cast(shard_num, keys.dtype)), tf.int32)


class Partition:
    """How one batch of keys is spread over the tables.

    `split` sends anything with one entry a key to the tables; `join` is its inverse.
    """

    def __init__(self, keys: tf.Tensor, shard_num: int, partition_fn: PartitionFn, table_name: str):
        """Partitions `keys`, a tensor of shape (n,).

        Raises:
          TypeError, ValueError: `partition_fn` gives something else than a table for each key.
          tf.errors.InvalidArgumentError: the same, where a graph knows only as it runs.
        """
        self._shard_num = shard_num
        if shard_num == 1:
            return
        shard = partition_fn(keys, shard_num)
        if partition_fn is not default_partition_fn:
            shard = _checked(shard, keys, shard_num, table_name)
        self._shard = tf.reshape(tf.cast(shard, tf.int32), [-1])
        positions = tf.range(tf.size(keys), dtype=tf.int32)
        self._positions = tf.dynamic_partition(positions, self._shard, shard_num)

    def split(self, data: tf.Tensor) -> list[tf.Tensor]:
        """`data` of shape (n, ...) as one tensor of shape (n_i, ...) a table."""
        if self._shard_num == 1:
            return [data]
        return tf.dynamic_partition(data, self._shard, self._shard_num)

    def join(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        """One tensor of shape (n, ...), in the order of the keys."""
        if self._shard_num == 1:
            return parts[0]
        # dynamic_stitch stops at the largest position, and all of them occur.
        return tf.dynamic_stitch(self._positions, list(parts))


def _checked(shard: Any, keys: tf.Tensor, shard_num: int, table_name: str) -> tf.Tensor:
    """What a user's partitioner gave, if it is an integer from 0 to shard_num - 1 for each key."""
    must = (
        f"the partitioner of table '{table_name}' must give an integer from 0 to {shard_num - 1} "
        "for each key, the number of its device"
    )
    try:
        shard = tf.convert_to_tensor(shard)
    except (TypeError, ValueError):
        raise TypeError(f"{must}, and gave {type(shard).__name__}") from None
    if not shard.dtype.is_integer:
        raise TypeError(f"{must}, and gave {shard.dtype.name}")
    if not tf.TensorShape([shard.shape.num_elements()]).is_compatible_with(keys.shape):
        raise ValueError(f"{must}, and gave shape {shard.shape} for keys of shape {keys.shape}")
    inside = tf.logical_and(shard >= 0, shard < tf.cast(shard_num, shard.dtype))
    if not context.executing_eagerly():
        check = tf.debugging.Assert(tf.reduce_all(inside), [must, "and gave", shard])
        with tf.control_dependencies([check]):
            return tf.identity(shard)
    if not bool(tf.reduce_all(inside)):
        raise ValueError(f"{must}, and gave {int(shard[tf.logical_not(inside)][0])}")
    return shard
