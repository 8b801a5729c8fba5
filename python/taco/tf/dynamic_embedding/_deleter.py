"""Frees a table that was created eagerly when the last Python reference to it goes."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.eager import context

from taco.tf import _ops


class TableDeleter:
    """Destroys the tables behind `handles` when it is itself collected.

    Held by one Python object only, so that a reference cycle through that object stays collectable.
    """

    __slots__ = ("_context", "_destroy", "_handles")

    def __init__(self, handles: list[tf.Tensor]):
        self._handles = handles
        self._context = context.context()  # outlives this object, as running an op needs it
        self._destroy = _ops.ops().taco_table_destroy

    def __del__(self) -> None:
        try:
            with context.eager_mode():
                for handle in self._handles:
                    self._destroy(handle)
        except Exception:
            # The interpreter or TensorFlow is shutting down: the process frees the memory.
            pass
