"""Makes the tables of a Keras model reachable for `tf.train.Checkpoint`.

Keras 3 shows TensorFlow only those layers that are attributes of a model: not the layers of a
functional or Sequential model, nor those in lists. Their dense weights are found through the
optimizer, which keeps a list of them; tables, which have no slots there, would be left out without
a word. So a model shows each of its table layers as one more child.
"""

from __future__ import annotations

import functools
from typing import Any

from keras.src.backend.tensorflow.layer import TFLayer

from taco.tf.keras.embedding import Embedding


def install() -> None:
    """Wraps Keras's `_trackable_children`, once."""
    stock = TFLayer._trackable_children
    if hasattr(stock, "_taco_stock"):
        return

    @functools.wraps(stock)
    def children(self: Any, save_type: str = "checkpoint", **kwargs: Any) -> dict[str, Any]:
        found = stock(self, save_type, **kwargs)
        if save_type == "checkpoint":
            found.update(_table_layers(self))
        return found

    children._taco_stock = stock  # type: ignore[attr-defined]
    TFLayer._trackable_children = children


def _table_layers(layer: Any) -> dict[str, Embedding]:
    """The table layers anywhere below `layer`, under names that depend on theirs alone."""
    named: dict[str, Embedding] = {}
    if not getattr(layer, "_layers", None):
        return named
    for below in layer._flatten_layers(include_self=False):
        if isinstance(below, Embedding):
            name = f"taco_table_{below.name}"
            while named.get(name, below) is not below:
                name += "_"
            named[name] = below
    return named
