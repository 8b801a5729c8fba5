"""Tables in SavedModels, which any process with libtaco_tf.so loaded can serve.

Each table is written as a resource object, TensorFlow's own kind for hash tables: with a function
that creates it and one that fills it. The latter needs to know where the SavedModel lies as it is
loaded. TensorFlow tells that of assets only, so a marker file is added as one; the tables' files
are in `variables/`, beside the checkpoint that holds their manifests.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
import uuid
from typing import TYPE_CHECKING

import tensorflow as tf
from tensorflow.python.trackable import asset, resource

from taco.tf import _ops, checkpoint_saver

if TYPE_CHECKING:
    from taco.tf.dynamic_embedding.variable import Variable

_MARKER = "taco_tables"
# .../assets/taco_tables -> .../variables/variables
_MARKER_PATTERN = r"assets/[^/]*$"
_PREFIX = "variables/variables"


def resources(variable: Variable) -> dict[str, resource.TrackableResource]:
    """The objects that stand for the tables of `variable` in a SavedModel, by name."""
    cached = variable.__dict__.get("_saved_model_resources")
    if cached is None:
        cached = {
            f"table_{index}": _TableResource(variable, index)
            for index in range(len(variable.handles))
        }
        variable.__dict__["_saved_model_resources"] = cached
    return cached


class _TableResource(resource.TrackableResource):
    """Table number `index` of a variable, for a SavedModel."""

    def __init__(self, variable: Variable, index: int):
        super().__init__(device=variable.handles[index].device)
        self._key = checkpoint_saver.key_of_identity(variable)
        self._index = index
        self._attributes = {
            "table_name": variable.name,
            "key_dtype": variable.key_dtype,
            "value_dtype": variable.value_dtype,
            "dim": variable.dim,
            "initializer": variable.initializer_spec,
        }
        # Loaded beside the model that it was saved from, it is another table.
        self._shared_name = f"{variable.name}/saved_model/{uuid.uuid4()}"
        self._resource_handle = variable.handles[index]
        with tf.init_scope():
            self._marker = asset.Asset(_marker_file())
        self._track_trackable(self._marker, "marker")

    def _create_resource(self) -> tf.Tensor:
        # TensorFlow adds a suffix to the name at each load.
        return _ops.ops().taco_table(shared_name=self._shared_name, **self._attributes)

    def _initialize(self) -> None:
        prefix = tf.strings.regex_replace(self._marker.asset_path, _MARKER_PATTERN, _PREFIX)
        handle = self.resource_handle

        def fill() -> tf.Tensor:
            manifest = checkpoint_saver.read(prefix, self._key)[self._index]
            restored = _ops.ops().taco_table_restore(handle, prefix, manifest)
            with tf.control_dependencies([restored]):
                return tf.constant(True)

        # A C++ server may have run the checkpoint's own restore before.
        tf.cond(_ops.ops().taco_table_size(handle) > 0, lambda: tf.constant(True), fill)

    def _destroy_resource(self) -> None:
        _ops.ops().taco_table_destroy(self.resource_handle)

    def __del__(self) -> None:
        """Nothing: the table is the variable's."""


@functools.cache
def _marker_file() -> str:
    """A file that stays for the life of the process, as a save copies it at its end."""
    folder = tempfile.mkdtemp(prefix="taco-saved-model-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = os.path.join(folder, _MARKER)
    with open(path, "w", encoding="utf-8") as file:
        file.write("The tables' files are in ../variables.\n")
    return path
