"""`tf.lookup.experimental.DenseHashTable`: TensorFlow's own open-addressing table of vectors."""

from __future__ import annotations

import tensorflow as tf

from benchmarks.embedding import keys as bench_keys
from benchmarks.embedding.adapters import tensorflow_base


class Contestant(tensorflow_base.TensorFlowContestant):
    """Grown from its default number of buckets; two keys, which no id has, are reserved."""

    def _make(self, name: str, dim: int, rows: int, slots: int) -> None:
        empty, deleted = bench_keys.absent_keys(2)
        self._table = tf.lookup.experimental.DenseHashTable(
            key_dtype=tf.int64,
            value_dtype=tf.float32,
            default_value=tf.zeros([dim]),
            empty_key=tf.constant(empty, tf.int64),
            deleted_key=tf.constant(deleted, tf.int64),
            name=name,
        )

    def _lookup(self, keys: tf.Tensor) -> tf.Tensor:
        return self._table.lookup(keys)

    def _upsert(self, keys: tf.Tensor, values: tf.Tensor) -> None:
        self._table.insert(keys, values)

    def size(self) -> int:
        """Rows by the table's count."""
        return int(self._table.size())

    def drop(self) -> None:
        """Lets table and functions go."""
        super().drop()
        self._table = None
