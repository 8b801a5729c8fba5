"""TensorFlow Recommenders Addons, in its own environment (see `benchmarks.embedding.peers`).

Its peculiarities are written down in docs/embedding_benchmarks.md. Each call is the quickest of the
ways that it offers: a shadow variable inside a `tf.function`, unique ids (otherwise it loses the
updates of an id that is twice in a batch), legacy Keras-2 Adam under `DynamicEmbeddingOptimizer`.
"""

from __future__ import annotations

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import tensorflow as tf
import tensorflow_recommenders_addons as tfra
from tensorflow_recommenders_addons import dynamic_embedding as de

from benchmarks.embedding.adapters import tensorflow_base


class Contestant(tensorflow_base.TensorFlowContestant):
    """`de.get_variable` on one CPU device, grown from its default size."""

    def versions(self) -> dict[str, str]:
        """Versions of TFRA and its TensorFlow."""
        return {**super().versions(), "tensorflow-recommenders-addons": tfra.__version__}

    def _make(self, name: str, dim: int, rows: int, slots: int) -> None:
        self._dim = dim
        self._variable = de.get_variable(
            name,
            key_dtype=tf.int64,
            value_dtype=tf.float32,
            dim=dim,
            devices=["/CPU:0"],
            initializer=tf.keras.initializers.Zeros(),
        )
        if slots:
            self._shadow = de.shadow_ops.ShadowVariable(self._variable, name=name + "_shadow")
            adam = tf.keras.optimizers.legacy.Adam(tensorflow_base.LEARNING_RATE)
            self._optimizer = de.DynamicEmbeddingOptimizer(adam)

    def _lookup(self, keys: tf.Tensor) -> tf.Tensor:
        return self._variable.lookup(keys)

    def _upsert(self, keys: tf.Tensor, values: tf.Tensor) -> None:
        self._variable.upsert(keys, values)

    def _train(self, keys: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(self._shadow)
            rows = de.shadow_ops.embedding_lookup_unique(self._shadow, keys, self._dim)
        gradients = tape.gradient(rows, [self._shadow], output_gradients=gradient)
        self._optimizer.apply_gradients(zip(gradients, [self._shadow], strict=True))
        return rows

    def size(self) -> int:
        """Rows of the variable."""
        return int(self._variable.size())

    def drop(self) -> None:
        """Lets the tables go; their memory comes back with the process only."""
        super().drop()
        self._variable = self._shadow = self._optimizer = None
