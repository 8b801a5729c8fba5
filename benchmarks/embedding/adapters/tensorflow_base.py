"""What the contestants inside TensorFlow share: threads, tensors, compiled functions."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import tensorflow as tf

from benchmarks.embedding import keys as bench_keys

LEARNING_RATE = 1e-3


class TensorFlowContestant:
    """Base of the adapters; a subclass gives `_make`, `_lookup`, `_upsert` and perhaps `_train`.

    Lookups and upserts are eager calls of what the contestant's users call: a `tf.function` around
    one operation adds the same quarter of a millisecond to all of them, which would bring their
    ratios nearer to 1. A training step is many operations: one traced function, with an open batch
    size, called without the search for a trace that fits.
    """

    merge_batches = 1

    def __init__(self, threads: int):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        self._tables_made = 0

    def versions(self) -> dict[str, str]:
        """TensorFlow's version."""
        return {"tensorflow": tf.__version__}

    def create(self, dim: int, rows: int, slots: int) -> None:
        """Makes the table, and with slots the function that trains it."""
        self._tables_made += 1
        self._make(f"table{self._tables_made}", dim, rows, slots)
        key = tf.TensorSpec([None], tf.int64)
        row = tf.TensorSpec([None, dim], tf.float32)
        self._train_function = None
        if slots:
            traced = tf.function(self._train, input_signature=[key, row])
            self._train_function = traced.get_concrete_function()

    def keys(self, ids: np.ndarray) -> Any:
        """int64 (n,) tensor of keys."""
        return tf.constant(bench_keys.key_of(ids))

    def values(self, rows: np.ndarray) -> Any:
        """float32 (n, dim) tensor."""
        return tf.constant(rows)

    def lookup(self, keys: Any) -> Any:
        """(n, dim) tensor."""
        return self._lookup(keys)

    def upsert(self, keys: Any, values: Any) -> None:
        """Runs the upsert."""
        self._upsert(keys, values)

    def train_step(self, keys: Any, gradient: Any) -> None:
        """Runs the compiled training step."""
        self._train_function(keys, gradient)

    def own_bytes(self) -> int | None:
        """None: no count of its own."""
        return None

    def drop(self) -> None:
        """Lets go of the table and of the function that holds it."""
        self._train_function = None

    def _make(self, name: str, dim: int, rows: int, slots: int) -> None:
        raise NotImplementedError

    def _lookup(self, keys: tf.Tensor) -> tf.Tensor:
        raise NotImplementedError

    def _upsert(self, keys: tf.Tensor, values: tf.Tensor) -> None:
        raise NotImplementedError

    def _train(self, keys: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        """Looks the rows up, hands their gradient back, applies Adam.

        No model stands between: two passes of TensorFlow's over the rows for a loss were a third
        of TACO's step, and brought the ratios nearer to 1.

        Returns:
          The rows (n, dim), so that no graph optimizer finds the lookup useless.
        """
        raise NotImplementedError
