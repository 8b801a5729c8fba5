"""The files of tables beside a checkpoint: writing, finding and reading them.

A checkpoint at `prefix` owns the table files `prefix + ".data-?????-of-taco?"`. TensorFlow's
checkpoint managers delete what matches `prefix + ".data-?????-of-?????"`, so they go with it.
A file's name is never used twice: while a save overwrites a checkpoint of the same prefix, the old
files stay until the new checkpoint names the new ones. `checkpoint_folder` then deletes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.eager import context

from taco.tf import _ops, checkpoint_folder

if TYPE_CHECKING:
    from taco.tf.dynamic_embedding.variable import Variable

# tensorflow::ResourceHandle::ANONYMOUS_NAME: a table that lives as long as its handle.
_ANONYMOUS = "cd2c89b7-88b7-44c8-ad83-06c2a9158347"


def save(handles: Sequence[tf.Tensor], prefix: str | tf.Tensor) -> tf.Tensor:
    """Writes tables to files of `prefix`, all as they are at one moment.

    Args:
      handles: resource tensors of the tables, on one machine.
      prefix: scalar string.

    Returns:
      The manifests, string tensor (len(handles),).

    Raises:
      tf.errors.OpError: a file cannot be written; the message names it. Earlier files are intact.
    """
    checkpoint_folder.hold()
    nothing = tf.zeros([0], tf.string)
    return _ops.ops().taco_tables_save(list(handles), prefix, nothing, delete_orphans=False)


def restore(
    variable: Variable, prefix: str | tf.Tensor, manifests: Any, vectors_only: bool = False
) -> tf.Operation | None:
    """Replaces the rows of `variable` by those of the files that `manifests` describes.

    Args: as of `CheckpointMixin.restore`.
    """
    manifests = tf.reshape(tf.convert_to_tensor(manifests, tf.string), [-1])
    handles = variable.handles
    if context.executing_eagerly() and int(tf.size(manifests)) != len(handles):
        _reshard(variable, prefix, manifests, vectors_only)
        return None
    # In a graph the number of manifests is known only as it runs.
    same_number = tf.debugging.assert_equal(
        tf.size(manifests),
        len(handles),
        message=f"variable '{variable.name}' has {len(handles)} devices and was saved with another "
        "number, which a graph cannot restore. Build it with as many devices as it was saved with; "
        "or save it with tf.train.Checkpoint, which restores to any number",
    )
    with tf.control_dependencies([] if same_number is None else [same_number]):
        manifests = tf.identity(manifests)
    parts = [manifests[index] for index in range(len(handles))]
    restored = [
        _ops.ops().taco_table_restore(handle, prefix, part, vectors_only=vectors_only)
        for handle, part in zip(handles, parts, strict=True)
    ]
    return None if context.executing_eagerly() else tf.group(*restored)


def _reshard(
    variable: Variable, prefix: str | tf.Tensor, manifests: tf.Tensor, vectors_only: bool
) -> None:
    """Restores N files into M tables: each table takes a file and drops the rows of the others,
    so that no more than one file's rows are held beyond what stays."""
    ops = _ops.ops()
    _verify(variable, prefix, manifests)
    for index, handle in enumerate(variable.handles):
        for number, manifest in enumerate(manifests):
            ops.taco_table_restore(
                handle, prefix, manifest, vectors_only=vectors_only, merge=number > 0
            )
            keys, _ = ops.taco_table_export(
                handle, K=variable.key_dtype, V=variable.value_dtype, dim=variable.dim
            )
            owner = tf.cast(variable.partition_fn(keys, variable.shard_num), tf.int32)
            ops.taco_table_remove(handle, tf.boolean_mask(keys, owner != index))
        ops.taco_table_shrink(handle)


def _verify(variable: Variable, prefix: str | tf.Tensor, manifests: tf.Tensor) -> None:
    """Raises if any of the files is absent or corrupt, before a table is touched: restores each
    into a table that is then dropped."""
    ops = _ops.ops()
    scratch = ops.taco_table(
        shared_name=_ANONYMOUS,
        table_name=variable.name,
        key_dtype=variable.key_dtype,
        value_dtype=variable.value_dtype,
        dim=variable.dim,
    )
    for manifest in manifests:
        ops.taco_table_restore(scratch, prefix, manifest, vectors_only=True)
    ops.taco_table_clear(scratch)
