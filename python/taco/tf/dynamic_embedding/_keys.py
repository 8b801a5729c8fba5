"""From what users pass as keys to a tensor of a table's key type, without changing a key."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf


def to_keys(keys: Any, dtype: tf.DType, table_name: str) -> tf.Tensor:
    """`keys` as a tensor of `dtype`.

    Args:
      keys: a tensor of `dtype`, or integers of Python or numpy, of any shape. For int64, tensors
        and arrays of uint64 as well: a key keeps its 64 bits, so that 2**64 - 1 is key -1.
      dtype: tf.int64 or tf.int32.
      table_name: named in errors.

    Raises:
      TypeError: a tensor of another type, or values that are no integers.
      ValueError: integers that `dtype` does not hold.
    """
    if isinstance(keys, tf.Tensor) and keys.dtype == dtype:
        return keys
    if not tf.is_tensor(keys):
        given_bits = getattr(keys, "dtype", None) == np.uint64
        try:
            array = np.asarray(keys)
        except NotImplementedError:  # a list with tensors of a graph in it
            keys = tf.convert_to_tensor(keys)
        else:
            if given_bits and dtype == tf.int64:
                array = array.view(np.int64)
            _check(array, dtype, table_name)
            return tf.convert_to_tensor(array.astype(dtype.as_numpy_dtype), name="keys")
    keys = bits_as_keys(tf.convert_to_tensor(keys, name="keys"), dtype)
    if keys.dtype != dtype:
        raise _wrong_type(table_name, dtype, keys.dtype.name)
    return keys


def bits_as_keys(keys: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """`keys`; where they are uint64 and `dtype` int64, with the same bits as int64. Hashes often
    come as uint64, and every pattern of 64 bits is a key."""
    if keys.dtype == tf.uint64 and dtype == tf.int64:
        return tf.bitcast(keys, tf.int64)
    return keys


def _check(array: np.ndarray, dtype: tf.DType, table_name: str) -> None:
    """Raises if `array` holds what is no key. Nothing is wrong in one that holds nothing."""
    if array.size == 0 or (array.dtype.kind == "i" and array.itemsize <= dtype.size):
        return
    if array.dtype.kind == "O" and all(type(each) is int for each in array.flat):
        pass  # Python's integers, beyond those of numpy
    elif array.dtype.kind not in "iu":
        kind = "string" if array.dtype.kind in "SU" else array.dtype.name
        raise _wrong_type(table_name, dtype, kind)
    for extreme in (int(array.min()), int(array.max())):
        if not dtype.min <= extreme <= dtype.max:
            raise ValueError(
                f"table '{table_name}' has {dtype.name} keys, and was asked for {extreme}, which "
                f"is not between {dtype.min} and {dtype.max}"
            )


def _wrong_type(table_name: str, dtype: tf.DType, asked: str) -> TypeError:
    return TypeError(
        f"table '{table_name}' has {dtype.name} keys, and was asked for {asked}: cast them"
    )
