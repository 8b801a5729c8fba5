"""A dense `tf.Variable` of the same rows: TensorFlow's stock way, which knows ids in advance."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from benchmarks.embedding.adapters import tensorflow_base


class Contestant(tensorflow_base.TensorFlowContestant):
    """`tf.gather`, `scatter_update`, and Keras 3 Adam on the sparse gradient of the gather."""

    def versions(self) -> dict[str, str]:
        """Versions of TensorFlow and Keras."""
        return {**super().versions(), "keras": keras.__version__}

    def _make(self, name: str, dim: int, rows: int, slots: int) -> None:
        self._variable = tf.Variable(tf.zeros([rows, dim]), name=name)
        if slots:
            self._optimizer = keras.optimizers.Adam(tensorflow_base.LEARNING_RATE)
            self._optimizer.build([self._variable])

    def keys(self, ids: np.ndarray) -> tf.Tensor:
        """The ids themselves."""
        return tf.constant(ids)

    def _lookup(self, keys: tf.Tensor) -> tf.Tensor:
        return tf.gather(self._variable, keys)

    def _upsert(self, keys: tf.Tensor, values: tf.Tensor) -> None:
        self._variable.scatter_update(tf.IndexedSlices(values, keys))

    def _train(self, keys: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            rows = tf.nn.embedding_lookup(self._variable, keys)
        gradients = tape.gradient(rows, [self._variable], output_gradients=gradient)
        self._optimizer.apply_gradients(zip(gradients, [self._variable], strict=True))
        return rows

    def size(self) -> int:
        """Rows of the variable."""
        return int(self._variable.shape[0])

    def drop(self) -> None:
        """Lets variable, slots and functions go."""
        super().drop()
        self._variable = self._optimizer = None
