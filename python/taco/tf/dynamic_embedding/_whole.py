"""What a variable offers for its whole value, which a table does not have.

Each refusal names the call to use instead.
"""

from __future__ import annotations

from typing import Any, NoReturn

_REMEDIES = {
    "read": "read rows with tf.nn.embedding_lookup(var, ids), or all of them with var.export()",
    "convert": "look rows up with tf.nn.embedding_lookup(var, ids) or tf.gather(var, ids), with "
    "axis=0 and without batch_dims; or read all of them with var.export()",
    "write": "write rows with var.upsert(keys, values), or all of them with "
    "var.import_(keys, values)",
    "add": "add to rows with var.accum(keys, old_values, new_values, exists), or train the table "
    "with an optimizer",
    "proto": "build the graph again and restore it from a checkpoint",
}


def _refuse(name: str, what: str) -> NoReturn:
    raise NotImplementedError(
        f"{name}() is not defined for a dynamic embedding table, whose rows have no order and no "
        f"fixed number: {_REMEDIES[what]}"
    )


class WholeValueRefusals:
    """Mixed in before TensorFlow's variable class, whose methods it hides."""

    def read_value(self) -> NoReturn:
        _refuse("read_value", "read")

    def read_value_no_copy(self) -> NoReturn:
        _refuse("read_value_no_copy", "read")

    def value(self) -> NoReturn:
        _refuse("value", "read")

    def numpy(self) -> NoReturn:
        _refuse("numpy", "read")

    def eval(self, session: Any = None) -> NoReturn:
        _refuse("eval", "read")

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        _refuse("__array__", "convert")

    def _dense_var_to_tensor(
        self, dtype: Any = None, name: Any = None, as_ref: bool = False
    ) -> NoReturn:
        _refuse("convert_to_tensor", "convert")

    def __tf_tensor__(self, dtype: Any = None, name: Any = None) -> NoReturn:
        _refuse("convert_to_tensor", "convert")

    def gather_nd(self, indices: Any, name: str | None = None) -> NoReturn:
        _refuse("gather_nd", "read")

    def assign(self, value: Any, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("assign", "write")

    def assign_add(self, delta: Any, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("assign_add", "add")

    def assign_sub(self, delta: Any, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("assign_sub", "add")

    def scatter_update(self, sparse_delta: Any, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("scatter_update", "write")

    def scatter_add(self, sparse_delta: Any, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("scatter_add", "add")

    def scatter_sub(self, sparse_delta: Any, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("scatter_sub", "add")

    def load(self, value: Any, session: Any = None) -> NoReturn:
        _refuse("load", "write")

    def count_up_to(self, limit: int) -> NoReturn:
        _refuse("count_up_to", "read")
