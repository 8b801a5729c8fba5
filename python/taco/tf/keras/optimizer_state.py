"""The optimizer's step count and dense slots in `model.load_weights`.

A table brings its slots back with its rows. Of the optimizer's own variables Keras loads none, with
a warning, as long as the optimizer is not built, which it is by the first step of training: Adam
would go on with the old moments and a step count of 0. So for models with a table it is built when
the file has more than it, as Keras itself does it in `keras.models.load_model`.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from keras.src.optimizers import optimizer as keras_optimizer
from keras.src.saving import saving_lib

from taco.tf.keras.weight import has_table

_local = threading.local()


def install() -> None:
    """Wraps Keras's function that loads weights and the optimizers' part in it, once."""
    for owner, name, wrapped in (
        (saving_lib, "load_weights_only", _load_weights),
        (keras_optimizer.Optimizer, "load_own_variables", _load_own_variables),
    ):
        stock = getattr(owner, name)
        if not hasattr(stock, "_taco_stock"):
            hook = functools.wraps(stock)(wrapped(stock))
            hook._taco_stock = stock  # type: ignore[attr-defined]
            setattr(owner, name, hook)


def _load_weights(stock: Callable[..., None]) -> Callable[..., None]:
    def load(model: Any, *args: Any, **kwargs: Any) -> None:
        outer = getattr(_local, "model", None)
        _local.model = model if has_table(model) else None
        try:
            stock(model, *args, **kwargs)
        finally:
            _local.model = outer

    return load


def _load_own_variables(stock: Callable[..., None]) -> Callable[..., None]:
    def load(self: Any, store: Any) -> None:
        model = getattr(_local, "model", None)
        if model is not None and not self.built and len(store.keys()) > len(self.variables):
            model.optimizer.build(model.trainable_variables)  # this one, or one around it
        stock(self, store)

    return load
