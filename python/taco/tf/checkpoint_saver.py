"""Tables in `tf.train.Checkpoint`, through TensorFlow's registry of checkpoint savers.

The registry hands over all tables of a checkpoint at once. They are written by one operation, which
is one consistent cut, into files of the checkpoint's own prefix; their manifests go into a small
bundle that TensorFlow then merges into the checkpoint.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.framework import func_graph
from tensorflow.python.ops import io_ops
from tensorflow.python.saved_model import registration

from taco.tf import checkpoint_files, checkpoint_folder

if TYPE_CHECKING:
    from taco.tf.dynamic_embedding.variable import Variable


def register(table_class: Any) -> None:
    """Makes every checkpoint save objects of `table_class` with the functions below."""
    registration.register_checkpoint_saver(
        package=checkpoint_folder.PACKAGE,
        name=checkpoint_folder.NAME,
        predicate=lambda trackable: isinstance(trackable, table_class) and trackable.checkpoint,
        save_fn=_save,
        restore_fn=_restore,
        # A SavedModel is loaded into stock objects, which restore their tables themselves.
        strict_predicate_restore=False,
    )


def key_of(object_name: str) -> str:
    """The key of a variable's manifests in a checkpoint, by its path in the object graph."""
    return f"{checkpoint_folder.KEY_PREFIX}{object_name}"


def key_of_identity(variable: Variable) -> str:
    """A key of the same manifests that stays the same wherever the variable hangs: what a
    SavedModel's resources look for."""
    identity = variable.__dict__.setdefault("_checkpoint_identity", uuid.uuid4().hex)
    return f"{checkpoint_folder.KEY_PREFIX}id-{identity}"


def _save(trackables: Mapping[str, Variable], file_prefix: tf.Tensor) -> tf.Tensor:
    """Writes the tables and the bundle of manifests.

    Args:
      trackables: variables by path in the object graph.
      file_prefix: scalar string: the checkpoint's prefix + BUNDLE_SUFFIX.

    Returns:
      file_prefix, for TensorFlow to merge.
    """
    length = tf.strings.length(file_prefix) - len(checkpoint_folder.BUNDLE_SUFFIX)
    prefix = tf.strings.substr(file_prefix, 0, length)
    variables = list({id(each): each for each in trackables.values()}.values())
    manifests = _split(
        checkpoint_files.save([handle for each in variables for handle in each.handles], prefix),
        variables,
    )
    named = {key_of_identity(each): manifests[id(each)] for each in variables}
    named.update((key_of(name), manifests[id(each)]) for name, each in trackables.items())
    with tf.device("CPU"):
        saved = io_ops.save_v2(file_prefix, list(named), [""] * len(named), list(named.values()))
    with tf.control_dependencies([saved] if saved is not None else []):
        return tf.identity(file_prefix)


def _split(manifests: tf.Tensor, variables: list[Variable]) -> dict[int, tf.Tensor]:
    parts = tf.split(manifests, [len(each.handles) for each in variables])
    return {id(each): part for each, part in zip(variables, parts, strict=True)}


def _restore(trackables: Mapping[str, Variable], merged_prefix: tf.Tensor) -> None:
    """Restores the tables of a checkpoint.

    Raises:
      tf.errors.NotFoundError: the checkpoint holds no manifests under a variable's path.
      NotImplementedError: in a tf.compat.v1 graph, where TensorFlow drops what a registered saver
        builds.
    """
    if not context.executing_eagerly() and not isinstance(
        tf.compat.v1.get_default_graph(), func_graph.FuncGraph
    ):
        raise NotImplementedError(
            "tf.train.Checkpoint cannot restore tables in a tf.compat.v1 graph: use "
            "tf.compat.v1.train.Saver, or eager execution"
        )
    for name, variable in trackables.items():
        variable.restore(merged_prefix, read(merged_prefix, key_of(name)))


def read(prefix: Any, key: str) -> tf.Tensor:
    """The manifests under `key` of the checkpoint at `prefix`: string tensor (tables,)."""
    with tf.device("CPU"):
        return io_ops.restore_v2(prefix, [key], [""], [tf.string])[0]
