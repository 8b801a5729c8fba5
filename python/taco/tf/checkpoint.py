"""How tables get into checkpoints and SavedModels. START HERE for everything that saves.

`CheckpointMixin` is the half of `dynamic_embedding.Variable` that TensorFlow's savers talk to:

| who saves | how it reaches the table | where |
|---|---|---|
| `tf.train.Checkpoint` and its manager | a registered saver | `checkpoint_saver.py` |
| `tf.compat.v1.train.Saver` | it is its own `SaveableObject` | `checkpoint_v1.py` |
| `tf.saved_model.save`, `model.export` | one resource object a table | `saved_model.py` |
| `model.save`, `model.save_weights` | the layer's `save_own_variables` | `keras/weights_file.py` |

All of them call `checkpoint_files.save`, one operation for all tables, which is one consistent cut.
What a checkpoint itself holds is a manifest for each table: the name, size and digest of its file.
Which of these files are still of use, and who may save where, is the matter of
`checkpoint_folder.py`; `checkpoint_hooks.py` tells it when a save begins and ends.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_object_graph_pb2
from tensorflow.python.training.saving import saveable_object

from taco.tf import checkpoint_files, checkpoint_v1


class CheckpointMixin(saveable_object.SaveableObject):
    """Saving and restoring, for a class with the attributes named below.

    It is a `SaveableObject` so that `tf.compat.v1.train.Saver` accepts the variable wherever it
    accepts a stock one: found among the global variables, in a list, or in a dictionary.
    """

    handles: list[tf.Tensor]
    name: str
    checkpoint: bool
    _in_graph_mode: bool

    def __init__(self, *args: Any, **kwargs: Any):
        # Past SaveableObject's, whose attributes are properties here.
        super(saveable_object.SaveableObject, self).__init__(*args, **kwargs)

    @property
    def handle(self) -> tf.Tensor:
        """The first table's; in a thread that exports it as stock operations, their stand-in's."""
        stand_in = self.__dict__.get("_handle_here")
        if stand_in is not None and stand_in[0] == threading.get_ident():
            return stand_in[1]
        return super().handle

    # tf.compat.v1.train.Saver.

    @property
    def specs(self) -> list[saveable_object.SaveSpec]:
        """What the Saver writes for this variable: its manifests, a string tensor (tables,)."""
        return [checkpoint_v1.manifest_spec(self)]

    @property
    def op(self) -> tf.Operation | None:
        """The operation that makes the first table; None eagerly."""
        return self.handles[0].op if self._in_graph_mode else None

    @property
    def device(self) -> str:
        """The device of the first table."""
        return str(self.handles[0].device)

    def restore(
        self,
        prefix: str | tf.Tensor | Sequence[tf.Tensor],
        manifest: Any = None,
        vectors_only: bool = False,
    ) -> tf.Operation | None:
        """Replaces all rows by those of a save.

        Every file is verified before any row is touched. The number of tables may differ from the
        number at the save.

        Args:
          prefix: path as it was given to the save, or where the files have been moved to. (A list
            of one tensor is what `tf.compat.v1.train.Saver` gives, to be restored under the file
            name of the Saver.)
          manifest: manifests of the save: a string for one table, a sequence or a string tensor
            (tables,) for several.
          vectors_only: leave the optimizer's slots out and set them fresh.

        Returns:
          In a graph the operation; eagerly None.

        Raises:
          tf.errors.NotFoundError, tf.errors.DataLossError: a file is absent or corrupt; the
            message names it, and no row has been touched.
          tf.errors.FailedPreconditionError: the file has the slots of another optimizer.
        """
        if isinstance(prefix, (list, tuple)):
            return checkpoint_v1.restore(self, prefix[0])
        return checkpoint_files.restore(self, prefix, manifest, vectors_only=vectors_only)

    def to_proto(self, export_scope: str | None = None) -> None:
        """None: a meta graph holds a table as operations, not as an entry of its variables."""
        del export_scope

    # tf.train.Checkpoint: a registered saver does the work, see `checkpoint_saver`.

    def _serialize_to_tensors(self) -> dict[str, tf.Tensor]:
        return {}

    def _restore_from_tensors(self, restored_tensors: dict[str, tf.Tensor]) -> None:
        del restored_tensors

    def _gather_saveables_for_checkpoint(self) -> dict[str, Any]:
        return {"taco_table": self} if self.checkpoint else {}

    def _copy_trackable_to_cpu(self, object_map: dict[Any, Any]) -> None:
        del object_map
        raise ValueError(
            f"table '{self.name}' cannot be saved by an asynchronous checkpoint, which writes "
            "later than it copies the other variables: the two would not belong together. Save "
            "without enable_async; other threads can go on training while the table is written."
        )

    # tf.saved_model.

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> dict[str, Any]:
        children = super()._trackable_children(save_type, **kwargs)
        if save_type == "savedmodel":
            from taco.tf import saved_model

            children.update(saved_model.resources(self))
        return children

    def _export_to_saved_model_graph(
        self, object_map: Any = None, tensor_map: Any = None, options: Any = None, **kwargs: Any
    ) -> list[tf.Tensor]:
        # The resources among the children stand for the tables.
        del object_map, tensor_map, options, kwargs
        return []

    def _write_object_proto(
        self, proto: saved_object_graph_pb2.SavedObject, options: Any = None
    ) -> None:
        del options
        proto.user_object.identifier = "_generic_user_object"
        proto.user_object.version.producer = 1
        proto.user_object.version.min_consumer = 1


from taco.tf import checkpoint_saver  # noqa: E402

checkpoint_saver.register(CheckpointMixin)
