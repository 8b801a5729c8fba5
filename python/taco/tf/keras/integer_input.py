"""Integer inputs for Sequential models that begin with an `Embedding`.

A Sequential model without an `Input` is given one by Keras at its first call, of the first layer's
compute dtype: float32, or half of that under mixed precision. Ids pass through it and are rounded:
from 2**24 on in float32, from 257 on in bfloat16. So the missing `Input` is added here, of the
ids' dtype.

An integer `Input` would cast floats in its turn, and drop their fractions without a word. So the
model refuses what the layer by itself refuses.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras

from taco.tf.keras.embedding import Embedding


def install() -> None:
    """Wraps two methods of `keras.Sequential`, once."""
    stock = keras.Sequential.build
    if hasattr(stock, "_taco_stock"):
        return

    @functools.wraps(stock)
    def build(self: keras.Sequential, input_shape: Any = None) -> None:
        layers = self._layers
        if layers and isinstance(layers[0], Embedding) and _is_shape(input_shape):
            shape = tuple(input_shape)
            ids = keras.layers.InputLayer(batch_shape=shape, dtype=layers[0].key_dtype)
            self._layers = [ids, *layers]
        stock(self, input_shape)

    build._taco_stock = stock  # type: ignore[attr-defined]
    keras.Sequential.build = build
    keras.Sequential.__call__ = _refusing(keras.Sequential.__call__)


def _refusing(stock: Callable[..., Any]) -> Callable[..., Any]:
    """`stock`, which casts to the model's input, for integers only if an `Embedding` is first."""

    @functools.wraps(stock)
    def call(self: keras.Sequential, *args: Any, **kwargs: Any) -> Any:
        layers = self.layers  # without an `Input`
        inputs = args[0] if args else kwargs.get("inputs")
        dtype = getattr(inputs, "dtype", None)
        if layers and isinstance(layers[0], Embedding) and dtype is not None:
            layers[0]._refuse_unless_integer(dtype)
        return stock(self, *args, **kwargs)

    return call


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, (tuple, list)) and all(n is None or isinstance(n, int) for n in shape)
