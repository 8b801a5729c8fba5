"""Tells TensorFlow's two savers, from outside, when a save begins and ends.

What a table does within a save (`checkpoint_saver`, `checkpoint_v1`) comes before the checkpoint's
index is written; what the index no longer names can be deleted only after it.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import tensorflow as tf
from tensorflow.python.checkpoint import checkpoint
from tensorflow.python.eager import context
from tensorflow.python.training import saver, training_util
from tensorflow.python.util import compat

from taco.tf import checkpoint_folder


@functools.cache
def install() -> None:
    """Wraps the two methods. Saves without tables pass straight through."""
    checkpoint.TrackableSaver.save = _checkpoint_save(checkpoint.TrackableSaver.save)
    saver.Saver.save = _saver_save(saver.Saver.save)


def _checkpoint_save(stock: Any) -> Any:
    """That of tf.train.Checkpoint, its manager, and tf.saved_model."""

    @functools.wraps(stock)
    def save(
        self: Any, file_prefix: Any, checkpoint_number: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        if not context.executing_eagerly():
            return stock(self, file_prefix, checkpoint_number, *args, **kwargs)
        prefix = file_prefix.numpy() if tf.is_tensor(file_prefix) else os.fspath(file_prefix)
        prefix = compat.as_str(prefix)
        if checkpoint_number:
            prefix = f"{prefix}-{int(checkpoint_number)}"
        with checkpoint_folder.saving(prefix):
            saved = stock(self, file_prefix, checkpoint_number, *args, **kwargs)
            context.async_wait()
            return saved

    return save


def _saver_save(stock: Any) -> Any:
    """That of tf.compat.v1.train.Saver."""

    @functools.wraps(stock)
    def save(
        self: Any, sess: Any, save_path: Any, global_step: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        if context.executing_eagerly() or not _writes_tables(getattr(sess, "graph", None)):
            return stock(self, sess, save_path, global_step, *args, **kwargs)
        prefix = compat.as_str(save_path)
        if global_step is not None:
            if not isinstance(global_step, compat.integral_types):
                global_step = training_util.global_step(sess, global_step)
            padded = getattr(self, "_pad_step_number", False)
            prefix += f"-{global_step:08d}" if padded else f"-{global_step:d}"
        with checkpoint_folder.saving(prefix):
            checkpoint_folder.hold()
            return stock(self, sess, save_path, global_step, *args, **kwargs)

    return save


def _writes_tables(graph: tf.Graph | None) -> bool:
    """Whether a Saver of `graph` may write tables: that of a meta graph too."""
    operations = [] if graph is None else graph.get_operations()
    return any(operation.type == "TacoTablesSave" for operation in operations)
