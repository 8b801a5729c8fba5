"""SparseAdam in the style of tf.compat.v1.train."""

from __future__ import annotations

import tensorflow as tf


class SparseAdamOptimizer(tf.compat.v1.train.AdamOptimizer):
    """Adam that makes up, at a row's next update, for the steps in which it had no gradient.

    The moments of a table's row are decayed by the number of steps since the row was last touched,
    where plain Adam decays them once. Variables that are no tables are trained by Adam.
    """

    _taco_rule = "sparse_adam"

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        use_locking: bool = False,
        name: str = "SparseAdam",
    ):
        """The arguments are those of `tf.compat.v1.train.AdamOptimizer`."""
        super().__init__(learning_rate, beta1, beta2, epsilon, use_locking, name)
