"""Installs the hooks into TensorFlow's and Keras's optimizers, once, when the first table is made.

A program without tables runs TensorFlow and Keras untouched.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

from taco.tf.optimizers import v1_hooks


@functools.cache
def install() -> None:
    """Teaches the optimizers about tables. Keras is left out where it is not installed, or runs on
    another backend than TensorFlow."""
    v1_hooks.install()
    keras_hooks = _keras_hooks()
    if keras_hooks is not None:
        keras_hooks.install()


def check_supported(optimizer: Any) -> None:
    """Raises TypeError, naming what is supported, for an optimizer that cannot train tables."""
    from tensorflow.python.training import optimizer as v1_optimizer

    if isinstance(optimizer, v1_optimizer.Optimizer):
        v1_hooks.check_supported(optimizer)
        return
    keras_hooks = _keras_hooks()
    if keras_hooks is None or not hasattr(optimizer, "update_step"):
        raise TypeError(
            "expected an optimizer of tf.keras.optimizers (Keras 3) or tf.compat.v1.train, not "
            f"{type(optimizer).__module__}.{type(optimizer).__name__}"
        )
    keras_hooks.check_supported(optimizer)


@functools.cache
def _keras_hooks() -> Any:
    if importlib.util.find_spec("keras") is None:
        return None
    import keras

    if keras.backend.backend() != "tensorflow":
        return None
    from taco.tf.optimizers import keras_hooks

    return keras_hooks
