"""Optimizers in the style of tf.compat.v1.train, for tables and for ordinary variables."""

from taco.tf.train.lamb import LAMBOptimizer
from taco.tf.train.sparse_adam import SparseAdamOptimizer

__all__ = ["LAMBOptimizer", "SparseAdamOptimizer"]
