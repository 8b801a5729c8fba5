"""`tf.lookup.experimental.MutableHashTable`: TensorFlow's chained table, a heap block a row."""

from __future__ import annotations

import tensorflow as tf

from benchmarks.embedding.adapters import tensorflow_base


class Contestant(tensorflow_base.TensorFlowContestant):
    """A table of tensors (`MutableHashTableOfTensors`)."""

    def _make(self, name: str, dim: int, rows: int, slots: int) -> None:
        self._table = tf.lookup.experimental.MutableHashTable(
            key_dtype=tf.int64, value_dtype=tf.float32, default_value=tf.zeros([dim]), name=name
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
