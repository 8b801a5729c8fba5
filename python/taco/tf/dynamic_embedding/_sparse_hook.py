"""Keeps TensorFlow's sparse lookups from reading a table whole, and its lists from taking tables.

`tf.nn.embedding_lookup_sparse` and its kin read a parameter that lies on the device of the ids as
one tensor, and gather from that. Of a table they are given the distinct rows of the batch instead.
All of TensorFlow's lookups take a list for the parts of one matrix, and give each part ids of its
own counting: for tables that would be other keys.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import embedding_ops


def install(table_class: type[Any]) -> None:
    """Wraps the implementations that dense, sparse and ragged lookups share; only calls with an
    instance of `table_class` are changed."""
    for name, wrapped in (
        ("embedding_lookup_sparse_impl", _sparse),
        ("_embedding_lookup_and_transform", _dense),
    ):
        setattr(embedding_ops, name, wrapped(getattr(embedding_ops, name), table_class))


def _dense(original: Callable[..., Any], table_class: type[Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def lookup(params: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_lists(params, table_class)
        return original(params, *args, **kwargs)

    return lookup


def _refuse_lists(params: Any, table_class: type[Any]) -> None:
    if not isinstance(params, (list, tuple)) or len(params) == 1:
        return
    for each in params:
        if isinstance(each, table_class):
            raise ValueError(
                f"a list of {len(params)} parameters with table '{each.name}' in it: look ids up "
                "in one table at a time. To spread one over several devices make it with "
                "get_variable(..., devices=[...])"
            )


def _sparse(original: Callable[..., Any], table_class: type[Any]) -> Callable[..., Any]:
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
        _refuse_lists(params, table_class)
        if len(params) == 1 and isinstance(params[0], table_class):
            distinct, ids = tf.unique(ids)
            params = [tf.nn.embedding_lookup(params[0], distinct, max_norm=max_norm)]
            max_norm = None
        return original(params, segment_ids, sp_weights, ids, combiner, ignored, max_norm, *rest)

    return lookup
