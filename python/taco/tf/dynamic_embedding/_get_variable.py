"""`get_variable`: tables by name, within variable scopes."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.ops import variable_scope

from taco.tf.dynamic_embedding._creators import KVCreator
from taco.tf.dynamic_embedding._partition import PartitionFn, default_partition_fn
from taco.tf.dynamic_embedding._restrict import RestrictPolicy
from taco.tf.dynamic_embedding.variable import Variable

# Tables made eagerly, by full name, as long as someone else holds them.
_eager_tables: weakref.WeakValueDictionary[str, Variable] = weakref.WeakValueDictionary()


def get_variable(
    name: str,
    key_dtype: tf.DType = tf.int64,
    value_dtype: tf.DType = tf.float32,
    dim: int = 1,
    devices: str | list[str] | None = None,
    partitioner: PartitionFn | None = default_partition_fn,
    shared_name: str | None = None,
    initializer: Any = None,
    trainable: bool = True,
    checkpoint: bool = True,
    init_size: int = 0,
    kv_creator: KVCreator | None = None,
    restrict_policy: type[RestrictPolicy] | None = None,
    bp_v2: bool = False,
    short_file_name: bool = False,
) -> Variable:
    """The table of this name in the current variable scope; made, if there is none.

    Args:
      name: unique in its scope.
      key_dtype, value_dtype, dim, devices, partitioner, shared_name, initializer, trainable,
        checkpoint, init_size, kv_creator, restrict_policy, bp_v2: see `Variable`.
      short_file_name: leave the scope's name out of the table's.

    Returns:
      A `Variable`. The one that exists, in eager mode (as long as something holds it) and under
      `tf.compat.v1.variable_scope(..., reuse=True)` or `AUTO_REUSE`.

    Raises:
      ValueError: the name is taken, and the scope of a graph does not reuse; or what has it is of
        other types or another dim.

    Example:

    >>> users = get_variable("users", dim=8, initializer=tf.keras.initializers.RandomNormal(0, 1))
    >>> tf.nn.embedding_lookup(users, tf.constant([2**62, -1], tf.int64)).shape
    TensorShape([2, 8])
    """
    scope = variable_scope.get_variable_scope()
    full_name = f"{scope.name}/{name}" if scope.name and not short_file_name else name
    existing = _find(full_name)
    if existing is not None:
        if not (context.executing_eagerly() or scope.reuse):
            raise ValueError(
                f"Variable {full_name} already exists. Set reuse=True or "
                "tf.compat.v1.AUTO_REUSE in its variable_scope, or give another name"
            )
        _check_same(existing, full_name, key_dtype, value_dtype, dim)
        return existing
    made = Variable(
        key_dtype=key_dtype,
        value_dtype=value_dtype,
        dim=dim,
        devices=devices,
        partitioner=partitioner,
        shared_name=shared_name,
        name=full_name,
        initializer=initializer,
        trainable=trainable,
        checkpoint=checkpoint,
        init_size=init_size,
        kv_creator=kv_creator,
        restrict_policy=restrict_policy,
        bp_v2=bp_v2,
        short_file_name=short_file_name,
    )
    if context.executing_eagerly():
        _eager_tables[full_name] = made
    else:
        _graph_variables()[full_name] = made
    return made


def _graph_variables() -> dict[str, Any]:
    """The names that tf.compat.v1.get_variable knows in the current graph."""
    return variable_scope._get_default_variable_store()._vars


def _check_same(
    existing: Any, name: str, key_dtype: tf.DType, value_dtype: tf.DType, dim: int
) -> None:
    asked = (tf.as_dtype(key_dtype).name, tf.as_dtype(value_dtype).name, dim)
    if not isinstance(existing, Variable):
        raise ValueError(f"Variable {name} already exists, and is no dynamic embedding table")
    has = (existing.key_dtype.name, existing.value_dtype.name, existing.dim)
    if asked != has:
        raise ValueError(
            f"Variable {name} already exists with key_dtype, value_dtype, dim = {has}, and is now "
            f"asked for with {asked}: give another name, or drop the first one (del)"
        )


def _find(full_name: str) -> Any:
    if not context.executing_eagerly():
        return _graph_variables().get(full_name)
    if full_name in _eager_tables:
        gc.collect()  # a dropped table may still hang in a reference cycle
    return _eager_tables.get(full_name)
