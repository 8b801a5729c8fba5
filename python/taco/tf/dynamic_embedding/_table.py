"""One table of a variable: the part of its rows that lies on one device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.training.saving import saveable_object

from taco.tf import _ops, checkpoint_v1

if TYPE_CHECKING:
    from taco.tf.dynamic_embedding._rows import Rows


class Table(saveable_object.SaveableObject):
    """What `Variable.tables` holds for each device. It takes only keys that the variable's
    partitioner gives to it; `Variable`'s own methods see to that.

    `tf.compat.v1.train.Saver(var.tables)` saves each of them by itself, slots included, and
    restores it into the table of the same number.

    Attributes:
      resource_handle: scalar resource tensor.
    """

    def __init__(self, variable: Rows, number: int):
        self._variable = variable
        self._number = number
        self.resource_handle = variable.handles[number]

    @property
    def name(self) -> str:
        """The variable's, and which of its tables this is where there are several."""
        count = len(self._variable.handles)
        return self._variable.name + ("" if count == 1 else f"/part_{self._number}_of_{count}")

    @property
    def handles(self) -> list[tf.Tensor]:
        """The one resource tensor, in a list, as a `Variable` has them."""
        return [self.resource_handle]

    # tf.compat.v1.train.Saver.

    @property
    def op(self) -> tf.Operation:
        return self.resource_handle.op

    @property
    def specs(self) -> list[saveable_object.SaveSpec]:
        return [checkpoint_v1.manifest_spec(self)]

    def restore(self, restored_tensors: Any, restored_shapes: Any = None) -> tf.Operation | None:
        """The operation that replaces the rows by those of a save, for the Saver."""
        return checkpoint_v1.restore_table(self, restored_tensors[0])

    # Rows.

    @property
    def device(self) -> str:
        """Where the table is."""
        return str(self.resource_handle.device)

    def size(self) -> tf.Tensor:
        """Rows: int64 scalar."""
        return _ops.ops().taco_table_size(self.resource_handle)

    def lookup(self, keys: Any) -> tf.Tensor:
        """As `Variable.lookup`, in this table."""
        keys = self._variable._keys(keys)
        return self._variable.find_in(self.resource_handle, keys)[0]

    def insert(self, keys: Any, values: Any) -> tf.Operation | None:
        """As `Variable.upsert`, in this table."""
        keys = self._variable._keys(keys)
        values = tf.convert_to_tensor(values, self._variable.value_dtype)
        return _ops.ops().taco_table_upsert(self.resource_handle, keys, values)

    def remove(self, keys: Any) -> tf.Operation | None:
        """As `Variable.remove`, in this table."""
        keys = self._variable._keys(keys)
        return tf.group(_ops.ops().taco_table_remove(self.resource_handle, keys))

    def export(self) -> tuple[tf.Tensor, tf.Tensor]:
        """All keys (n,) and their rows (n, dim)."""
        return _ops.ops().taco_table_export(
            self.resource_handle,
            K=self._variable.key_dtype,
            V=self._variable.value_dtype,
            dim=self._variable.dim,
        )
