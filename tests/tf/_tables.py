"""What the tests of tables share."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import tensorflow as tf
from taco.tf import dynamic_embedding as de

_numbers = itertools.count()


def table(dim: int = 4, **kwargs: Any) -> de.Variable:
    """A table of its own name."""
    kwargs.setdefault("name", f"table_{next(_numbers)}")
    return de.Variable(dim=dim, **kwargs)


def filled(keys: Any, rows: Any, **kwargs: Any) -> de.Variable:
    """A table with these rows."""
    rows = np.asarray(rows, np.float32)
    made = table(dim=rows.shape[1], **kwargs)
    made.upsert(keys, tf.cast(rows, made.value_dtype))
    return made


def rows_of(made: de.Variable, keys: Any) -> np.ndarray:
    """The rows of `keys`, float32."""
    return tf.cast(made.lookup(keys), tf.float32).numpy()


def random_rows(count: int, dim: int, seed: int = 0) -> np.ndarray:
    """Normal float32 numbers (count, dim)."""
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
