"""Lookups with TFRA's signatures. TensorFlow's own (`tf.nn.embedding_lookup` ...) work as well."""

from __future__ import annotations

import numbers
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops as tf_ops
from tensorflow.python.ops import resource_variable_ops

from taco.tf.dynamic_embedding._keys import bits_as_keys
from taco.tf.dynamic_embedding._trainable import TrainableWrapper
from taco.tf.dynamic_embedding.variable import Variable


def embedding_lookup(
    params: Variable,
    ids: Any,
    partition_strategy: str | None = None,
    name: str | None = None,
    validate_indices: bool | None = None,
    max_norm: float | None = None,
    return_trainable: bool = False,
) -> Any:
    """The rows of `ids`.

    Args:
      params: a table.
      ids: tensor or `tf.RaggedTensor` of params.key_dtype, of any shape; or of uint64, whose 64
        bits are the key.
      partition_strategy: unused; a table has its own partitioner.
      name: of the operation.
      validate_indices: unused; every key is legal.
      max_norm: rows of a larger L2 norm are scaled down to it; None: none is.
      return_trainable: also give what stands for this lookup in an optimizer's `var_list`.

    Returns:
      Tensor of params.value_dtype, shape `ids.shape + (dim,)`; with `return_trainable` a pair of
      it and a `TrainableWrapper`.

    Raises:
      TypeError: `params` is not a table, `ids` is not of its key type, or max_norm no number.
      ValueError: more than one table is given.

    Example:

    >>> from taco.tf import dynamic_embedding as de
    >>> table = de.Variable(name="t", dim=2, initializer=1.0)
    >>> de.embedding_lookup(table, tf.constant([5], tf.int64)).numpy().tolist()
    [[1.0, 1.0]]
    """
    params = _table(params)
    if isinstance(ids, tf.RaggedTensor):
        found = embedding_lookup(
            params, ids.flat_values, None, name, None, max_norm, return_trainable
        )
        rows, wrapper = found if return_trainable else (found, None)
        rows = ids.with_flat_values(rows)
        return (rows, wrapper) if return_trainable else rows
    ids = bits_as_keys(
        tf.convert_to_tensor(ids) if hasattr(ids, "dtype") else params._keys(ids), params.key_dtype
    )
    if ids.dtype != params.key_dtype:
        raise TypeError(
            f"ids are {ids.dtype.name}, and the keys of table '{params.name}' are "
            f"{params.key_dtype.name}: they should be the same"
        )
    with tf_ops.name_scope(name, "embedding_lookup"):
        if not return_trainable:
            return _clip(params.sparse_read(ids), max_norm)
        resource_variable_ops.variable_accessed(params)
        wrapper = TrainableWrapper(params, ids, name or "embedding_lookup")
        resource_variable_ops.variable_accessed(wrapper)
        return _clip(params._gather(ids, wrapper.handle), max_norm), wrapper


def embedding_lookup_unique(
    params: Variable,
    ids: Any,
    partition_strategy: str | None = None,
    name: str | None = None,
    validate_indices: bool | None = None,
    max_norm: float | None = None,
    return_trainable: bool = False,
) -> Any:
    """As `embedding_lookup`, reading each key once however often it occurs in `ids`."""
    with tf_ops.name_scope(name, "EmbeddingLookupUnique"):
        ids = tf.convert_to_tensor(ids) if hasattr(ids, "dtype") else params._keys(ids)
        distinct, positions = tf.unique(tf.reshape(ids, [-1]))
        rows = embedding_lookup(
            params,
            distinct,
            partition_strategy,
            name,
            validate_indices,
            max_norm,
            return_trainable,
        )
        rows, wrapper = rows if return_trainable else (rows, None)
        dim = rows.shape[-1]
        spread = tf.reshape(tf.gather(rows, positions), tf.concat([tf.shape(ids), [dim]], 0))
        spread.set_shape(ids.shape.concatenate([dim]))
        return (spread, wrapper) if return_trainable else spread


def embedding_lookup_sparse(
    params: Variable,
    sp_ids: Any,
    sp_weights: Any = None,
    partition_strategy: str | None = None,
    name: str | None = "embedding_lookup_sparse",
    combiner: str = "mean",
    max_norm: float | None = None,
    return_trainable: bool = False,
) -> Any:
    """Looks up the ids of each row of `sp_ids` and combines their embeddings into one.

    Args:
      params: a table.
      sp_ids: `tf.SparseTensor` or `tf.RaggedTensor` of keys with at least one id in each row.
      sp_weights: None (all 1), or weights of the same kind and shape.
      partition_strategy: unused.
      name: of the operation.
      combiner: "sum", "mean" (the weighted sum over the sum of the weights) or "sqrtn" (over the
        root of the sum of their squares).
      max_norm: embeddings of a larger L2 norm are scaled down to it before they are combined.
      return_trainable: also give a `TrainableWrapper`, see `embedding_lookup`.

    Returns:
      Tensor (rows, dim); with `return_trainable` a pair.

    Raises:
      TypeError: `sp_ids` or `sp_weights` is of another kind.
      ValueError: no such combiner.
    """
    if combiner not in ("mean", "sqrtn", "sum"):
        raise ValueError(f"combiner must be one of 'mean', 'sqrtn' or 'sum', not {combiner!r}")
    kinds = (tf.SparseTensor, tf.RaggedTensor)
    if not isinstance(sp_ids, kinds):
        raise TypeError(f"sp_ids must be SparseTensor or RaggedTensor, not {type(sp_ids)}")
    if sp_weights is not None and not isinstance(sp_weights, type(sp_ids)):
        raise TypeError(f"sp_weights must be None or of the kind of sp_ids: {type(sp_ids)}")
    with tf_ops.name_scope(name, "embedding_lookup_sparse"):
        segments = (
            tf.cast(sp_ids.indices[:, 0], tf.int32)
            if isinstance(sp_ids, tf.SparseTensor)
            else tf.cast(sp_ids.value_rowids(), tf.int32)
        )
        distinct, positions = tf.unique(sp_ids.values)
        rows = embedding_lookup(
            params, distinct, name=name, max_norm=max_norm, return_trainable=return_trainable
        )
        rows, wrapper = rows if return_trainable else (rows, None)
        if rows.dtype in (tf.float16, tf.bfloat16):
            rows = tf.cast(rows, tf.float32)
        if sp_weights is None:
            combine = {
                "sum": tf.sparse.segment_sum,
                "mean": tf.sparse.segment_mean,
                "sqrtn": tf.sparse.segment_sqrt_n,
            }[combiner]
            combined = combine(rows, positions, segments)
        else:
            weights = tf.cast(sp_weights.values, rows.dtype)
            combined = _weighted(tf.gather(rows, positions), weights, segments, combiner)
        return (combined, wrapper) if return_trainable else combined


def safe_embedding_lookup_sparse(
    embedding_weights: Variable,
    sparse_ids: tf.SparseTensor | tf.RaggedTensor,
    sparse_weights: tf.SparseTensor | tf.RaggedTensor | None = None,
    combiner: str = "mean",
    default_id: int | None = None,
    name: str | None = "safe_embedding_lookup_sparse",
    partition_strategy: str | None = None,
    max_norm: float | None = None,
    return_trainable: bool = False,
) -> Any:
    """As `embedding_lookup_sparse` for rows that may have no ids, of any rank.

    Every id is valid, negative ones too. Entries with a weight of 0 or less are left out, unless
    the combiner is "sum".

    Args:
      embedding_weights: a table.
      sparse_ids: (d_0, ..., d_n) keys; combined along the last axis.
      sparse_weights: weights of the same shape and of the table's value type, or None.
      combiner: as of `embedding_lookup_sparse`.
      default_id: the id whose embedding a row without ids has; None: zeros.
      name: of the operation.
      partition_strategy: unused.
      max_norm: as of `embedding_lookup_sparse`.
      return_trainable: also give a `TrainableWrapper`.

    Returns:
      Tensor (d_0, ..., d_{n-1}, dim); with `return_trainable` a pair.

    Raises:
      TypeError: ids or weights are not of the table's types.
      ValueError: no table is given, or no such combiner.
    """
    if embedding_weights is None:
        raise ValueError("Missing embedding_weights.")
    table = _table(embedding_weights)
    if isinstance(sparse_ids, (tf.SparseTensor, tf.RaggedTensor)):
        sparse_ids = sparse_ids.with_values(bits_as_keys(sparse_ids.values, table.key_dtype))
    if sparse_ids.dtype != table.key_dtype:
        raise TypeError(
            f"sparse_ids are {sparse_ids.dtype.name}, and the keys of table '{table.name}' are "
            f"{table.key_dtype.name}: they should be the same"
        )
    if sparse_weights is not None and sparse_weights.dtype != table.value_dtype:
        raise TypeError(
            f"sparse_weights are {sparse_weights.dtype.name}, and the values of table "
            f"'{table.name}' are {table.value_dtype.name}: they should be the same"
        )
    with tf_ops.name_scope(name, "safe_embedding_lookup_sparse"):
        if isinstance(sparse_ids, tf.RaggedTensor):
            sparse_ids = sparse_ids.to_sparse()
        if isinstance(sparse_weights, tf.RaggedTensor):
            sparse_weights = sparse_weights.to_sparse()
        shape = sparse_ids.dense_shape
        leading = shape[:-1]
        ids = tf.sparse.reshape(sparse_ids, tf.stack([tf.reduce_prod(leading), shape[-1]]))
        weights = None
        if sparse_weights is not None:
            weights = tf.SparseTensor(ids.indices, sparse_weights.values, ids.dense_shape)
            if combiner != "sum":
                kept = weights.values > 0
                ids = tf.sparse.retain(ids, kept)
                weights = tf.sparse.retain(weights, kept)
        ids, is_empty = tf.sparse.fill_empty_rows(ids, tf.cast(default_id or 0, ids.dtype))
        if weights is not None:
            one = tf.ones([], weights.dtype)
            weights, _ = tf.sparse.fill_empty_rows(weights, one)
        rows = embedding_lookup_sparse(
            table,
            ids,
            weights,
            partition_strategy,
            name=f"{name}/embedding_lookup_sparse",
            combiner=combiner,
            max_norm=max_norm,
            return_trainable=return_trainable,
        )
        rows, wrapper = rows if return_trainable else (rows, None)
        if default_id is None:
            rows = tf.where(is_empty[:, tf.newaxis], tf.zeros_like(rows), rows)
        result = tf.reshape(rows, tf.concat([leading, [table.dim]], 0))
        rank = sparse_ids.shape.rank
        if rank is not None:
            result.set_shape(tf.TensorShape([None] * (rank - 1) + [table.dim]))
        return (result, wrapper) if return_trainable else result


def _table(params: Any) -> Variable:
    if isinstance(params, (list, tuple)):
        if len(params) != 1:
            raise ValueError("Only one params is allowed.")
        params = params[0]
    if not isinstance(params, Variable):
        raise TypeError(f"params should be a Variable instance, not {type(params).__name__}")
    return params


def _clip(rows: tf.Tensor, max_norm: Any) -> tf.Tensor:
    if max_norm is None:
        return rows
    if isinstance(max_norm, bool) or not (
        tf.is_tensor(max_norm) or isinstance(max_norm, numbers.Real)
    ):
        raise TypeError(f"max_norm must be a number or None, and is {max_norm!r}")
    return tf.clip_by_norm(rows, max_norm, axes=[-1])


def _weighted(rows: tf.Tensor, weights: tf.Tensor, segments: tf.Tensor, combiner: str) -> tf.Tensor:
    weights = weights[:, tf.newaxis]
    total = tf.math.segment_sum(rows * weights, segments)
    if combiner == "sum":
        return total
    if combiner == "mean":
        return total / tf.math.segment_sum(weights, segments)
    return total / tf.sqrt(tf.math.segment_sum(tf.square(weights), segments))
