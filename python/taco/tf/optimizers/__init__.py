"""Training of tables: the stock optimizers as they are, and SparseAdam for Keras.

Nothing here needs to be called: once a table exists, `keras.optimizers.*` and
`tf.compat.v1.train.*Optimizer` train it. `hooks` holds how.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taco.tf.optimizers.sparse_adam import SparseAdam

__all__ = ["SparseAdam"]


def __getattr__(name: str) -> Any:
    """Imports Keras only for who asks for a Keras optimizer."""
    if name == "SparseAdam":
        from taco.tf.optimizers.sparse_adam import SparseAdam

        return SparseAdam
    raise AttributeError(f"module 'taco.tf.optimizers' has no attribute '{name}'")
