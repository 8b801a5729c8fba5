"""The raw operations of libtaco_tf.so, loaded at their first use.

`ops().taco_table_gather(...)` and its sisters are what `tf.load_op_library` makes of the library;
the table in docs/embedding_ops.md describes each. The environment variable `TACO_TF_LIBRARY`
names another file to load.
"""

from __future__ import annotations

import functools
from types import ModuleType

import tensorflow as tf
from tensorflow.python.framework import auto_control_deps_utils as acd
from tensorflow.python.framework import ops as tf_ops

_READ_ONLY = (
    "TacoTableGather",
    "TacoTableFind",
    "TacoTableSize",
    "TacoTableStats",
    "TacoTableExportKeys",
    "TacoTableExport",
    "TacoTableExportSlots",
)


@functools.cache
def ops() -> ModuleType:
    """The module of raw operations.

    Raises:
      taco._loader.LibraryNotFoundError: the file is in none of the places looked at.
      tf.errors.OpError: the file was built for another TensorFlow; the message says which.
    """
    from taco import _loader

    module = _loader.load_tf_ops()
    for name in _READ_ONLY:
        acd.register_read_only_resource_op(name)
    return module


def _gather_gradient(op: tf_ops.Operation, grad: tf.Tensor) -> list[object]:
    """Gradient of TacoTableGather: rows of `grad` under their keys, and none for the keys."""
    return [_slices(op, grad), None]


def _slices(op: tf_ops.Operation, grad: tf.Tensor) -> tf.IndexedSlices:
    keys = tf.reshape(op.inputs[1], [-1])
    dim = op.get_attr("dim")
    # A table has no number of rows. The shape below is that of the key space, which is never
    # materialised: whatever would densify this gradient fails at once instead of being wrong.
    dense_shape = tf.constant([keys.dtype.max, dim], tf.int64)
    return tf.IndexedSlices(tf.reshape(grad, [-1, dim]), keys, dense_shape)


tf_ops.RegisterGradient("TacoTableGather")(_gather_gradient)
for _name in (
    "TacoTableFind",
    "TacoTableSize",
    "TacoTableStats",
    "TacoTableExportKeys",
    "TacoTableExport",
    "TacoTableExportSlots",
):
    tf_ops.NotDifferentiable(_name)
