"""Keeps TensorFlow's sparse lookups from reading a table whole.

`tf.nn.embedding_lookup_sparse` and its kin read a parameter that lies on the device of the ids as
one tensor, and gather from that. Of a table they are given the distinct rows of the batch instead.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import embedding_ops


def install(table_class: type) -> None:
    """Wraps the implementation that dense, sparse and ragged lookups share; only calls with an
    instance of `table_class` are changed."""
    original = embedding_ops.embedding_lookup_sparse_impl
    embedding_ops.embedding_lookup_sparse_impl = _wrapped(original, table_class)


def _wrapped(original: Callable[..., Any], table_class: type) -> Callable[..., Any]:
    @functools.wraps(original)
    def lookup(
        params: Any,
        segment_ids: Any,
        sp_weights: Any,
        ids: Any,
        combiner: str,
        ignored: bool,
        max_norm: float | None,
        *rest: Any,
    ) -> Any:
        if len(params) == 1 and isinstance(params[0], table_class):
            distinct, ids = tf.unique(ids)
            params = [tf.nn.embedding_lookup(params[0], distinct, max_norm=max_norm)]
            max_norm = None
        return original(params, segment_ids, sp_weights, ids, combiner, ignored, max_norm, *rest)

    return lookup
