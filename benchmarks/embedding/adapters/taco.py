"""TACO's dynamic embedding, through its public API and a plain Keras 3 optimizer."""

from __future__ import annotations

from typing import Any

import keras
import taco
import tensorflow as tf
from taco.tf import dynamic_embedding as de

from benchmarks.embedding.adapters import tensorflow_base

# Names under which `var.stats()` may count the memory of the whole table.
_BYTES = ("bytes", "total_bytes", "memory_bytes", "bytes_total")


class Contestant(tensorflow_base.TensorFlowContestant):
    """`de.get_variable`, grown from its default size."""

    _variable: Any
    _optimizer: Any

    def __init__(self, threads: int):
        super().__init__(threads)
        # Loads the library now: its absence is found here, and said once.
        de.get_variable("probe", dim=1)

    def versions(self) -> dict[str, str]:
        """Versions of TACO, TensorFlow and Keras."""
        taco_version = str(getattr(taco, "__version__", "unknown"))
        return {**super().versions(), "taco": taco_version, "keras": keras.__version__}

    def _make(self, name: str, dim: int, rows: int, slots: int) -> None:
        self._variable = de.get_variable(
            name,
            key_dtype=tf.int64,
            value_dtype=tf.float32,
            dim=dim,
            initializer=tf.keras.initializers.Zeros(),
        )
        if slots:
            self._optimizer = keras.optimizers.Adam(tensorflow_base.LEARNING_RATE)
            self._optimizer.build([self._variable])

    def _lookup(self, keys: tf.Tensor) -> tf.Tensor:
        return self._variable.lookup(keys)

    def _upsert(self, keys: tf.Tensor, values: tf.Tensor) -> None:
        self._variable.upsert(keys, values)

    def _train(self, keys: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            rows = tf.nn.embedding_lookup(self._variable, keys)
        gradients = tape.gradient(rows, [self._variable], output_gradients=gradient)
        self._optimizer.apply_gradients(zip(gradients, [self._variable], strict=True))
        return rows

    def size(self) -> int:
        """Rows by the variable's own count."""
        return int(self._variable.size())

    def own_bytes(self) -> int | None:
        """What `var.stats()` says."""
        stats = self._variable.stats()
        return next((int(stats[name]) for name in _BYTES if name in stats), None)

    def drop(self) -> None:
        """Lets the variable and the optimizer go."""
        super().drop()
        self._variable = self._optimizer = None
