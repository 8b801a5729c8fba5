"""Keys onto tables: splitting a batch by device and putting the answers back in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

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

    def __init__(self, keys: tf.Tensor, shard_num: int, partition_fn: PartitionFn):
        """Partitions `keys`, a tensor of shape (n,)."""
        self._shard_num = shard_num
        if shard_num == 1:
            return
        self._shard = tf.reshape(tf.cast(partition_fn(keys, shard_num), tf.int32), [-1])
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
