"""TACO for TensorFlow: dynamic hash-table embeddings that TensorFlow's own calls accept.

import tensorflow as tf
from taco.tf import dynamic_embedding as de

table = de.get_variable("items", dim=16, initializer=tf.keras.initializers.RandomNormal(0, 0.05))
rows = tf.nn.embedding_lookup(table, tf.constant([7, -1, 2**60], tf.int64))  # (3, 16)
"""

from __future__ import annotations

import importlib
from typing import Any

from taco.tf import dynamic_embedding

__all__ = ["dynamic_embedding", "export_for_serving", "keras", "optimizers", "train"]

_LAZY = ("checkpoint", "keras", "optimizers", "train")


def __getattr__(name: str) -> Any:
    """Loads the parts that need Keras or more only when they are asked for."""
    if name in _LAZY:
        return importlib.import_module(f"taco.tf.{name}")
    if name == "export_for_serving":
        return importlib.import_module("taco.tf.saved_model_export").export_for_serving
    raise AttributeError(f"module 'taco.tf' has no attribute '{name}'")
