"""`DynamicEmbeddingOptimizer`, for programs that were written with TFRA's wrapper."""

from __future__ import annotations

from typing import Any, TypeVar

Optimizer = TypeVar("Optimizer")


def DynamicEmbeddingOptimizer(optimizer: Optimizer, bp_v2: bool = False, **_: Any) -> Optimizer:
    """Gives back `optimizer`, which trains tables as it is.

    Args:
      optimizer: of `tf.keras.optimizers` or `tf.compat.v1.train`.
      bp_v2: accepted for TFRA's programs, see `Variable`.

    Raises:
      TypeError: another kind of object, or an optimizer for which tables have no update.
    """
    del bp_v2
    from taco.tf.optimizers import hooks

    hooks.install()
    hooks.check_supported(optimizer)
    return optimizer
