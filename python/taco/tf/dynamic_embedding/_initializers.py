"""From what users pass as `initializer` to what a table computes.

A table draws the first value of a row from (seed, table, key) alone, for the distributions it knows
(`Native`). Whatever else is asked for is drawn by TensorFlow, each time an absent key is looked up,
and written when a gradient first reaches the key (`Drawn`).
"""

from __future__ import annotations

import dataclasses
import math
import random
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import random_seed

_TRUNCATED_STDDEV = 0.87962566103423978  # of a unit normal cut at two deviations


@dataclasses.dataclass(frozen=True)
class Native:
    """An initialiser that the table itself computes: `spec` is the op's `initializer` attribute."""

    spec: str


@dataclasses.dataclass(frozen=True)
class Drawn:
    """An initialiser that TensorFlow computes: `rows(n)` gives a tensor of shape (n, dim)."""

    rows: Callable[[tf.Tensor], tf.Tensor]


def resolve(initializer: Any, dim: int, dtype: tf.DType, name: str) -> Native | Drawn:
    """What `initializer` means for rows of `dim` values of `dtype`.

    Args:
      initializer: None (zeros), a number, an array, a name that Keras knows, an initializer of
        tf.keras, tf or tf.compat.v1, or a callable `f(shape)` or `f()`.
      dim: length of a row.
      dtype: type of its values.
      name: of the table; a random initializer without a seed is given one that depends on it
        where `tf.random.set_seed` was called, and a fresh one where not.

    Raises:
      TypeError: not an initializer at all.
      ValueError: an array that is neither one value nor one row, or that holds what is no finite
        `dtype`.
    """
    if initializer is None:
        return Native("zeros")
    initializer = _instance(initializer)
    if not callable(initializer):
        return _constant(initializer, dim, dtype)
    native = _native(initializer, dim, name)
    return native if native is not None else _drawn(initializer, dim, dtype)


def _instance(initializer: Any) -> Any:
    """The initializer that a name or a class stands for."""
    if isinstance(initializer, str):
        import keras

        initializer = keras.initializers.get(initializer)
    return initializer() if isinstance(initializer, type) else initializer


def _constant(value: Any, dim: int, dtype: tf.DType) -> Native | Drawn:
    if tf.is_tensor(value):
        value = tf.get_static_value(value) if tf.get_static_value(value) is not None else value
    if tf.is_tensor(value):
        return Drawn(lambda n: tf.tile(tf.reshape(tf.cast(value, dtype), [1, dim]), [n, 1]))
    try:
        flat = np.asarray(value, np.float64).reshape(-1)
    except (TypeError, ValueError):
        raise TypeError(
            "initializer must be None, a number, one row, the name of a Keras initializer, or an "
            f"initializer of tf.keras, tf or tf.compat.v1, and is {value!r}"
        ) from None
    if flat.size not in (1, dim):
        raise ValueError(
            f"initializer has {flat.size} values; give 1, or one for each of the {dim} of a row"
        )
    finite = np.isfinite(_as_type(flat, dtype))
    if not finite.all():
        raise ValueError(
            f"initializer holds {flat[~finite][0]}, which is no finite {dtype.name}: every new row "
            "would start from it"
        )
    if (flat == flat[0]).all():
        return Native(f"constant:{np.float32(flat[0])!s}" if flat[0] else "zeros")
    row = flat.reshape(1, dim)
    return Drawn(lambda n: tf.tile(tf.cast(tf.constant(row), dtype), [n, 1]))


def _as_type(values: np.ndarray, dtype: tf.DType) -> np.ndarray:
    with np.errstate(over="ignore"):
        return values.astype(dtype.as_numpy_dtype)


def _native(initializer: Any, dim: int, name: str) -> Native | None:
    """The table's own form of a known initializer. The classes of Keras, tf and tf.compat.v1 share
    their names and the names of their parameters, which is all that is looked at."""
    kind = type(initializer).__name__
    module = type(initializer).__module__
    if not module.startswith(("keras.", "tensorflow.", "tf_keras.")):
        return None

    def get(parameter: str, default: float = 0.0) -> float:
        value = getattr(initializer, parameter, default)
        return default if value is None else float(value)

    if kind.startswith("Zeros"):
        return Native("zeros")
    if kind.startswith("Ones"):
        return Native("constant:1")
    if kind.startswith("Constant"):
        value = np.asarray(initializer.value)
        return Native(f"constant:{float(value.reshape(-1)[0])!r}") if value.size == 1 else None
    if kind.startswith("VarianceScaling") or kind.startswith(("Glorot", "He", "Lecun")):
        return _variance_scaling(initializer, dim, name)
    forms = {
        "RandomUniform": ("uniform", get("minval"), get("maxval", 1.0)),
        "RandomNormal": ("normal", get("mean"), get("stddev", 1.0)),
        "TruncatedNormal": ("truncated_normal", get("mean"), get("stddev", 1.0)),
    }
    if kind not in forms:
        return None
    distribution, a, b = forms[kind]
    return Native(f"{distribution}:{a!r},{b!r};seed={_seed(initializer, name)}")


def _variance_scaling(initializer: Any, dim: int, name: str) -> Native:
    """Glorot, He and Lecun on a row drawn alone: fan_in 1, fan_out dim."""
    fan = {"fan_in": 1.0, "fan_out": float(dim)}.get(initializer.mode, (1.0 + dim) / 2.0)
    variance = float(initializer.scale) / max(1.0, fan)
    seed = _seed(initializer, name)
    distribution = initializer.distribution
    if distribution == "uniform":
        limit = math.sqrt(3.0 * variance)
        return Native(f"uniform:{-limit!r},{limit!r};seed={seed}")
    if distribution == "untruncated_normal":
        return Native(f"normal:0.0,{math.sqrt(variance)!r};seed={seed}")
    stddev = math.sqrt(variance) / _TRUNCATED_STDDEV
    return Native(f"truncated_normal:0.0,{stddev!r};seed={seed}")


def describe(initializer: Any, dim: int, dtype: tf.DType, name: str) -> str | None:
    """What a user asked for, as text: equal for two initializers that mean the same, None where
    that cannot be told. A seed that an initializer has drawn for itself does not count.

    Args, Raises: as of `resolve`.
    """
    initializer = _instance(initializer)
    resolved = resolve(initializer, dim, dtype, name)
    if isinstance(resolved, Native):
        distribution, _, drawn = resolved.spec.partition(";seed=")
        if not drawn:
            return distribution
        return f"{distribution} with seed {initializer.get_config().get('seed')}"
    row = tf.get_static_value(initializer) if tf.is_tensor(initializer) else initializer
    if row is None or callable(row):
        return None
    return str(np.asarray(row, np.float64).reshape(-1).tolist())


def _seed(initializer: Any, name: str) -> int:
    """The seed that the initializer was given, else one from TensorFlow's global seed and `name`,
    else a fresh one."""
    seed = getattr(initializer, "seed", None)
    if isinstance(seed, (int, np.integer)):
        return int(seed) & (2**63 - 1)
    graph_seed = random_seed.get_seed(None)[0]
    if graph_seed is not None:
        return (int(graph_seed) << 32 ^ zlib.crc32(name.encode())) & (2**63 - 1)
    return random.SystemRandom().getrandbits(63)


def _drawn(initializer: Callable[..., Any], dim: int, dtype: tf.DType) -> Drawn:
    def rows(n: tf.Tensor) -> tf.Tensor:
        try:
            values = initializer(tf.stack([n, dim]))
        except (TypeError, ValueError):
            values = _one_row(initializer, dim)
        values = _numbers(values, initializer, dim)
        values = tf.reshape(tf.cast(values, dtype), [-1])
        return tf.reshape(
            tf.broadcast_to(values, [n * dim]) if values.shape[0] == 1 else values, [-1, dim]
        ) + tf.zeros([n, dim], dtype)

    return Drawn(rows)


def _numbers(values: Any, initializer: Any, dim: int) -> tf.Tensor:
    """What an initializer gave, as a tensor of numbers.

    Raises:
      TypeError, ValueError: it gave no numbers, or not as many as rows have.
    """
    try:
        values = tf.convert_to_tensor(values)
    except (TypeError, ValueError):
        kind = type(values).__name__
    else:
        kind = values.dtype.name
    if not (tf.is_tensor(values) and (values.dtype.is_floating or values.dtype.is_integer)):
        raise TypeError(f"initializer {initializer!r} must give numbers, and gave {kind}")
    count = values.shape.num_elements()
    if count is not None and count != 1 and count % dim:
        raise ValueError(
            f"initializer {initializer!r} gave values of shape {values.shape}, where rows of "
            f"{dim} are wanted: give (n, {dim}), ({dim},) or one value"
        )
    return values


def _one_row(initializer: Callable[..., Any], dim: int) -> Any:
    """One row of an initializer that wants a static shape, or none."""
    for arguments in (([dim],), ()):
        try:
            return initializer(*arguments)
        except (TypeError, ValueError):
            continue
    raise ValueError(
        f"initializer {initializer!r} can be called neither as f([n, {dim}]), f([{dim}]) nor f()"
    )
