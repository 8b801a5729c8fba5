"""`TableWeight`: a table as one of the weights of a Keras layer.

Keras counts as weights only what is a `keras.Variable`. This is one, whose `value` is the table.
Optimizers see the table through it and update rows in the table, slots included; they make no slot
variables for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from keras.src import backend
from tensorflow.core.protobuf import saved_object_graph_pb2

from taco.tf.dynamic_embedding import Variable
from taco.tf.keras import weights_file


class TableShape(tf.TensorShape):
    """(rows now, dim). Equal to any shape of two axes with that dim: rows come and go."""

    def __eq__(self, other: object) -> bool:
        try:
            dims = tf.TensorShape(other).as_list()
        except (TypeError, ValueError):
            return False
        return len(dims) == 2 and dims[1] == self.as_list()[1]

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(tuple(self.as_list()))


class TableSnapshot(np.ndarray):
    """What `get_weights` gives for a table: its rows (n, dim), in the order of `keys`.

    `set_weights` takes it back, with the optimizer's slots, which makes
    `keras.callbacks.EarlyStopping(restore_best_weights=True)` work.

    Attributes:
      keys: the key of each row, int64 (n,).
      file: the table's file in memory, uint8; None in a view or the result of arithmetic.
      manifest: of the file.
    """

    keys: np.ndarray | None
    file: np.ndarray | None
    manifest: bytes | None

    def __array_finalize__(self, source: Any) -> None:
        # What is derived from a snapshot by arithmetic or slicing is rows, not a snapshot.
        self.keys = self.file = self.manifest = None


class TableWeight(backend.Variable):
    """A `keras.Variable` whose value is a table.

    Attributes:
      value: the `taco.tf.dynamic_embedding.Variable`.
      shape: (rows now, dim).
    """

    def __init__(self, table: Variable, name: str, trainable: bool = True):
        """Wraps `table`, which this then owns."""
        self._table = table
        super().__init__(
            initializer=lambda shape, dtype: None,  # for Keras to see that there is a shape
            shape=(0, table.dim),
            dtype=table.value_dtype.name,
            trainable=trainable,
            autocast=False,
            name=name,
        )
        self._value = table
        self._track_trackable(table, name="table")

    def _initialize_with_initializer(self, initializer: Any) -> None:
        del initializer
        self._value = self._table

    def _deferred_initialize(self) -> None:
        """Nothing: a table is there as soon as it is made."""

    @property
    def value(self) -> Variable:
        return self._table

    @property
    def handle(self) -> tf.Tensor:
        return self._table.handle

    @property
    def shape(self) -> TableShape:
        with tf.init_scope():
            rows = int(self._table.size()) if tf.executing_eagerly() else 0
        return TableShape((rows, self._table.dim))

    def numpy(self) -> TableSnapshot:
        """All rows, copied, with all that `assign` needs to bring them back."""
        manifest, chunks = weights_file.read_table(self._table)
        file = np.concatenate(list(chunks))
        keys, values = (part.numpy() for part in self._table.export())
        order = np.argsort(keys, kind="stable")
        snapshot = values[order].view(TableSnapshot)
        snapshot.keys, snapshot.file, snapshot.manifest = keys[order], file, manifest
        return snapshot

    def assign(self, value: Any) -> None:
        """Replaces all rows and slots by those of a `TableSnapshot`.

        Raises:
          TypeError: anything else.
        """
        if not isinstance(value, TableSnapshot) or value.file is None:
            raise TypeError(
                f"weight '{self.path}' is a dynamic table: it can be assigned only what "
                f"get_weights() gave for it, not {type(value).__name__}. To set rows by key use "
                "layer.table.upsert(keys, rows)"
            )
        weights_file.write_table(self._table, value.manifest, [value.file])

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        del copy
        rows = np.asarray(self.numpy())
        return rows if dtype is None else rows.astype(dtype)

    def __tf_tensor__(self, dtype: Any = None, name: Any = None) -> tf.Tensor:
        return tf.convert_to_tensor(self._table, dtype=dtype, name=name)  # says why not

    def __repr__(self) -> str:
        return f"<TableWeight path={self.path}, dtype={self._dtype}, table={self._table!r}>"

    # In checkpoints and SavedModels the table, a child of this object, is what is saved.

    def _serialize_to_tensors(self) -> dict[str, tf.Tensor]:
        return {}

    def _restore_from_tensors(self, restored_tensors: dict[str, tf.Tensor]) -> None:
        del restored_tensors

    def _copy_trackable_to_cpu(self, object_map: dict[Any, Any]) -> None:
        self._table._copy_trackable_to_cpu(object_map)

    def _export_to_saved_model_graph(
        self, object_map: Any, tensor_map: Any, options: Any, **kwargs: Any
    ) -> list[tf.Tensor]:
        del object_map, tensor_map, options, kwargs
        return []

    def _write_object_proto(
        self, proto: saved_object_graph_pb2.SavedObject, options: Any = None
    ) -> None:
        self._table._write_object_proto(proto, options)


def has_table(model: Any) -> bool:
    """Whether there is a table among the weights of `model`."""
    return any(isinstance(each, TableWeight) for each in getattr(model, "weights", ()))
