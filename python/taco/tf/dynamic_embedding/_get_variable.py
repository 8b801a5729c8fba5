"""`get_variable`: tables by name, within variable scopes."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.ops import variable_scope

from taco.tf.dynamic_embedding._asked_again import check_same
from taco.tf.dynamic_embedding._creators import KVCreator
from taco.tf.dynamic_embedding._partition import PartitionFn, default_partition_fn
from taco.tf.dynamic_embedding._restrict import RestrictPolicy
from taco.tf.dynamic_embedding.variable import Variable, check_name

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

    Asked for again, a table must be what it was when it was made: its key and value types, its dim,
    and of the rest whatever is given and not left at its default. Initializers are compared by what
    they draw, as far as that can be told; `init_size` is a hint only.

    Args:
      name: unique in its scope.
      dim: values in a row. TFRA's default of 1 is kept; few tables want it.
      key_dtype, value_dtype, devices, partitioner, shared_name, initializer, trainable,
        checkpoint, init_size, kv_creator, restrict_policy, bp_v2: see `Variable`.
      short_file_name: leave the scope's name out of the table's.

    Returns:
      A `Variable`. The one that exists, in eager mode (as long as something holds it) and under
      `tf.compat.v1.variable_scope(..., reuse=True)` or `AUTO_REUSE`.

    Raises:
      TypeError: a name that is no string.
      ValueError: an empty name; the name is taken, and the scope of a graph does not reuse; or what
        has it is another table than this one would be.

    Example:

    >>> users = get_variable("users", dim=8, initializer=tf.keras.initializers.RandomNormal(0, 1))
    >>> tf.nn.embedding_lookup(users, tf.constant([2**62, -1], tf.int64)).shape
    TensorShape([2, 8])
    """
    check_name(name)
    scope = variable_scope.get_variable_scope()
    full_name = f"{scope.name}/{name}" if scope.name and not short_file_name else name
    existing = _find(full_name)
    if existing is not None:
        if not (context.executing_eagerly() or scope.reuse):
            raise ValueError(
                f"Variable {full_name} already exists. Set reuse=True or "
                "tf.compat.v1.AUTO_REUSE in its variable_scope, or give another name"
            )
        if not isinstance(existing, Variable):
            raise ValueError(
                f"Variable {full_name} already exists, and is no dynamic embedding table"
            )
        check_same(
            existing,
            {
                "key_dtype": tf.as_dtype(key_dtype).name,
                "value_dtype": tf.as_dtype(value_dtype).name,
                "dim": dim,
                "initializer": initializer,
                "devices": devices,
                "trainable": trainable,
                "checkpoint": checkpoint,
                "restrict_policy": restrict_policy,
            },
        )
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


def _find(full_name: str) -> Any:
    if not context.executing_eagerly():
        return _graph_variables().get(full_name)
    if full_name in _eager_tables:
        gc.collect()  # a dropped table may still hang in a reference cycle
    return _eager_tables.get(full_name)
