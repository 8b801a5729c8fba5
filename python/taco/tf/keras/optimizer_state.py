"""What an optimizer of a model with a table keeps in Keras's files.

Keras writes the optimizer's variables. What it keeps of tables (accumulated gradients, moving
averages) are tables of its own, and go beside them as `keras/weights_file.py` writes a table.

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

from taco.tf.keras import weights_file
from taco.tf.keras.weight import has_table
from taco.tf.optimizers import companions, keras_hooks

_local = threading.local()


def install() -> None:
    """Wraps Keras's function that loads weights and the optimizers' parts in files, once."""
    for owner, name, wrapped in (
        (saving_lib, "load_weights_only", _load_weights),
        (keras_optimizer.Optimizer, "save_own_variables", _save_own_variables),
        (keras_optimizer.Optimizer, "load_own_variables", _load_own_variables),
    ):
        stock = getattr(owner, name)
        if not hasattr(stock, "_taco_stock"):
            hook = functools.wraps(stock)(wrapped(stock))
            hook._taco_stock = stock  # type: ignore[attr-defined]
            setattr(owner, name, hook)


def goes_on() -> bool:
    """Whether weights are being loaded into a model that trains already, so that the slots of its
    tables are to be those of its optimizer."""
    model = getattr(_local, "model", None)
    return bool(model is not None and getattr(model, "optimizer", None) and model.optimizer.built)


def _load_weights(stock: Callable[..., None]) -> Callable[..., None]:
    def load(model: Any, *args: Any, **kwargs: Any) -> None:
        outer = getattr(_local, "model", None)
        _local.model = model if has_table(model) else None
        try:
            stock(model, *args, **kwargs)
        finally:
            _local.model = outer

    return load


def _save_own_variables(stock: Callable[..., None]) -> Callable[..., None]:
    def save(self: Any, store: Any) -> None:
        stock(self, store)
        for name, table in companions.named(self).items():
            weights_file.save(table, _Part(store, name))

    return save


def _load_own_variables(stock: Callable[..., None]) -> Callable[..., None]:
    def load(self: Any, store: Any) -> None:
        model = getattr(_local, "model", None)
        variables = _Variables(store)
        if model is not None and not self.built and len(variables.keys()) > len(self.variables):
            with keras_hooks.restoring():
                model.optimizer.build(model.trainable_variables)  # this one, or one around it
        stock(self, variables if len(variables.keys()) < len(store.keys()) else store)
        for name, table in companions.named(self).items():
            part = _Part(store, name)
            if part.keys():
                weights_file.load(table, part, what=f"optimizer '{self.name}'")

    return load


class _Part:
    """The entries of a store that belong to one table, under the names that the table gives."""

    def __init__(self, store: Any, name: str):
        self._store, self._prefix = store, f"{name}."

    def keys(self) -> list[str]:
        names = self._store.keys()
        return [n.removeprefix(self._prefix) for n in names if n.startswith(self._prefix)]

    def __contains__(self, key: str) -> bool:
        return key in self.keys()

    def __getitem__(self, key: str) -> Any:
        return self._store[self._prefix + key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._store[self._prefix + key] = value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)  # the file, for errors and temporary files


class _Variables:
    """The entries of a store that Keras knows: those of the variables, named by number."""

    def __init__(self, store: Any):
        self._store = store

    def keys(self) -> list[str]:
        names = self._store.keys()
        return [name for name in names if not name.startswith("taco_")]

    def __getitem__(self, key: str) -> Any:
        return self._store[key]
