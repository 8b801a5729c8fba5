"""A table as an argument of a `tf.function`."""

from __future__ import annotations

import weakref
from typing import Any

import tensorflow as tf
from tensorflow.core.function import trace_type
from tensorflow.python.ops import resource_variable_ops


class TableTraceType(trace_type.default_types.Weakref):
    """Traces a function once for each table that it is given.

    The table's handle is an input of the function, as that of a stock variable is; within, the
    argument is the table itself.
    """

    def __init__(self, table: Any):
        super().__init__(weakref.ref(table))

    def placeholder_value(self, placeholder_context: Any) -> Any:
        table = super().placeholder_value(placeholder_context)
        placeholder_context.context_graph.capture(
            table.handle, name=placeholder_context.naming_scope
        )
        return table

    def to_tensors(self, value: Any) -> list[tf.Tensor]:
        resource_variable_ops.variable_accessed(value)
        return [value.handle]

    def flatten(self) -> list[Any]:
        return [tf.TensorSpec([], tf.resource)]
