"""TACO's tables in Keras 3: `Embedding`, and saves that a crash cannot spoil.

Example:

>>> import keras
>>> from taco.tf.keras import Embedding
>>> layers = [Embedding(16), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1)]
>>> model = keras.Sequential(layers)
>>> model.compile("adam", "mse")  # a stock optimizer; model.fit, model.save as ever
"""

from __future__ import annotations

import keras as _keras

if _keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"taco.tf.keras needs Keras with its TensorFlow backend, and this process uses "
        f"'{_keras.backend.backend()}': set KERAS_BACKEND=tensorflow before Keras is imported"
    )

from taco.tf.keras import atomic_saves as _atomic_saves
from taco.tf.keras import integer_input as _integer_input
from taco.tf.keras import object_graph as _object_graph
from taco.tf.keras import optimizer_state as _optimizer_state
from taco.tf.keras.embedding import Embedding
from taco.tf.keras.weight import TableSnapshot, TableWeight

__all__ = ["Embedding", "TableSnapshot", "TableWeight", "save_atomically"]

save_atomically = _atomic_saves.save_atomically
_atomic_saves.install()
_integer_input.install()
_object_graph.install()
_optimizer_state.install()
