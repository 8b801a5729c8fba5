"""One table of a variable: the part of its rows that lies on one device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from taco.tf import _ops

if TYPE_CHECKING:
    from taco.tf.dynamic_embedding._rows import Rows


class Table:
    """What `Variable.tables` holds for each device. It takes only keys that the variable's
    partitioner gives to it; `Variable`'s own methods see to that.

    Attributes:
      resource_handle: scalar resource tensor.
    """

    def __init__(self, variable: Rows, resource_handle: tf.Tensor):
        self._variable = variable
        self.resource_handle = resource_handle

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
