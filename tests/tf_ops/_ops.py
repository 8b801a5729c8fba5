"""What the tests of the raw ops share."""

from __future__ import annotations

import functools
import itertools
import json
from typing import Any

import numpy as np
import tensorflow as tf
from taco._loader import library_path

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
CORNER_KEYS = np.array([INT64_MIN, -1, 0, 1, INT64_MAX], np.int64)

_numbers = itertools.count()


@functools.cache
def ops() -> Any:
    """The module of raw ops, as `tf.load_op_library` alone gives it."""
    return tf.load_op_library(str(library_path("tf")))


def fresh_name(stem: str = "table") -> str:
    """A name that no other table has."""
    return f"{stem}_{next(_numbers)}"


def make_table(dim: int = 4, **kwargs: Any) -> tf.Tensor:
    """A handle to a new table: scalar, resource."""
    kwargs.setdefault("shared_name", fresh_name())
    return ops().taco_table(dim=dim, **kwargs)


def gather(table: tf.Tensor, keys: Any, dim: int = 4, dtype: Any = tf.float32) -> np.ndarray:
    """Rows of `keys` as float32: keys.shape + (dim,)."""
    rows = ops().taco_table_gather(table, as_keys(keys), dim=dim, V=dtype)
    return tf.cast(rows, tf.float32).numpy()


def upsert(table: tf.Tensor, keys: Any, rows: Any) -> None:
    """Sets float32 rows."""
    ops().taco_table_upsert(table, as_keys(keys), tf.constant(rows, tf.float32))


def size(table: tf.Tensor) -> int:
    """The number of rows."""
    return int(ops().taco_table_size(table))


def stats(table: tf.Tensor) -> dict[str, Any]:
    """TacoTableStats, parsed."""
    return json.loads(ops().taco_table_stats(table).numpy())


def rows_by_key(table: tf.Tensor, dim: int = 4) -> dict[int, list[float]]:
    """The whole table."""
    keys, values = ops().taco_table_export(table, dim=dim)
    return dict(zip(keys.numpy().tolist(), values.numpy().tolist(), strict=True))


def as_keys(keys: Any) -> Any:
    """int64, unless it is a tensor or array of a dtype of its own."""
    if isinstance(keys, (tf.Tensor, np.ndarray)):
        return keys
    return np.array(keys, np.int64)


def hyper(**changes: float) -> np.ndarray:
    """The input of TacoTableApply: (9,) float64."""
    values = {
        "learning_rate": 0.1,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-7,
        "weight_decay": 0.0,
        "l1": 0.0,
        "l2": 0.0,
        "l2_shrinkage": 0.0,
        "lr_power": -0.5,
    }
    assert set(changes) <= set(values)
    values.update(changes)
    return np.array(list(values.values()), np.float64)


def apply(
    table: tf.Tensor, keys: Any, grads: Any, *, step: int = 1, optimizer: str = "sgd", **kwargs: Any
) -> None:
    """One optimizer step; keywords that TacoTableApply's attributes do not have go to `hyper`."""
    attributes = {"nesterov", "lr_outside_momentum", "amsgrad", "centered", "has_momentum"}
    attributes |= {"decay_in_direction", "slot_init"}
    chosen = {name: kwargs.pop(name) for name in list(kwargs) if name in attributes}
    ops().taco_table_apply(
        table, as_keys(keys), grads, step, hyper(**kwargs), optimizer=optimizer, **chosen
    )


def save(tables: list[tf.Tensor], prefix: Any, keep: Any = (), **kwargs: Any) -> list[bytes]:
    """Saves, and gives the manifests."""
    keep = tf.constant(list(keep), tf.string, shape=[len(list(keep))])
    return list(ops().taco_tables_save(tables, str(prefix), keep, **kwargs).numpy())


def file_of(prefix: Any, manifest: bytes) -> str:
    """The path of the file that a manifest names."""
    return str(prefix) + json.loads(manifest)["suffix"]
