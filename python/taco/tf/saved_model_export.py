"""`export_for_serving`: a SavedModel of stock TensorFlow operations only.

Each table becomes two dense variables, its keys in ascending order and their rows, and each lookup
a binary search and a gather. Whatever serves TensorFlow serves it, without libtaco_tf.so. It is a
copy for inference: it does not train and has no optimizer slots.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from taco.tf.dynamic_embedding.variable import Variable


def export_for_serving(
    model_or_fn: Any,
    path: str,
    input_signature: Any = None,
    tables: Iterable[Variable] | None = None,
    missing: float | Mapping[str, Any] | None = None,
) -> None:
    """Writes a SavedModel that stock TensorFlow loads and serves.

    Ids that a table holds give what the model gives. An id that it does not hold gives what
    `missing` says; by default the mean of the table's initializer, which is the initial row itself
    for zeros and constants, and 0 for the symmetric distributions that embeddings usually start
    from. (The model itself gives such an id its own random initial row, which nothing has trained.)

    Memory: two copies of the rows of one table at a time beside the table.

    Args:
      model_or_fn: a built Keras model, or a function of tensors. The signature "serving_default"
        calls it; so does `loaded.serve`.
      path: folder to write.
      input_signature: of the function: a sequence of tf.TensorSpec. For a Keras model, left out, it
        is taken from the model's inputs.
      tables: the tables that the function uses. For a Keras model they are found.
      missing: value of the rows of absent ids: a number, or by table name a number or a row.

    Raises:
      ValueError: a function without `input_signature`; or a table that it uses is not in `tables`.

    Example:

    >>> import tempfile
    >>> from taco.tf import dynamic_embedding as de
    >>> table = de.Variable(name="t", dim=2)
    >>> table.upsert(tf.constant([7], tf.int64), tf.ones([1, 2]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_for_serving(lambda ids: tf.nn.embedding_lookup(table, ids), folder,
    ...                        [tf.TensorSpec([None], tf.int64)], tables=[table])
    ...     tf.saved_model.load(folder).serve(tf.constant([7, 8], tf.int64)).numpy().tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """
    fn, input_signature, tables = _what_to_trace(model_or_fn, input_signature, tables)
    module = tf.Module()
    module.tables = [_DenseTable(table, _missing_row(table, missing)) for table in tables]
    with contextlib.ExitStack() as stack:
        for table, dense in zip(tables, module.tables, strict=True):
            stack.enter_context(_replaced(table, dense))
        module.serve = tf.function(fn, input_signature=input_signature, autograph=False)
        concrete = module.serve.get_concrete_function()
        _check_stock(concrete)
        module.dense = [v for v in concrete.graph.variables if not hasattr(v, "handles")]
        # Inside, as TensorFlow traces functions once more while it saves them.
        tf.saved_model.save(module, path, signatures={"serving_default": module.serve})


class _DenseTable(tf.Module):
    """The rows of a table at one moment, as dense variables."""

    def __init__(self, table: Variable, missing: np.ndarray):
        super().__init__()
        keys, rows = table.export()
        order = tf.argsort(keys)
        self._dim = table.dim
        self._missing = tf.constant(missing, table.value_dtype)
        self._keys = tf.Variable(tf.gather(keys, order), trainable=False, name="keys")
        self._rows = tf.Variable(tf.gather(rows, order), trainable=False, name="rows")

    @property
    def handle(self) -> tf.Tensor:
        """That of the rows."""
        return self._rows.handle

    def lookup(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Rows (ids.shape + (dim,)), and whether each id was in the table."""
        flat = tf.reshape(ids, [-1])
        count = self._keys.shape[0]
        if count == 0:
            found = tf.zeros_like(flat, tf.bool)
            rows = tf.tile(self._missing[tf.newaxis], [tf.size(flat), 1])
        else:
            place = tf.searchsorted(self._keys, flat, out_type=tf.int64)
            place = tf.minimum(place, count - 1)
            found = tf.equal(tf.gather(self._keys, place), flat)
            rows = tf.where(found[:, tf.newaxis], tf.gather(self._rows, place), self._missing)
        rows = tf.reshape(rows, tf.concat([tf.shape(ids), [self._dim]], 0))
        rows.set_shape(ids.shape.concatenate([self._dim]))
        return rows, tf.reshape(found, tf.shape(ids))


@contextlib.contextmanager
def _replaced(table: Variable, dense: _DenseTable) -> Iterator[None]:
    """Makes this thread's lookups in `table` read `dense`; other threads go on with the table."""
    here = threading.get_ident()
    stock = {name: getattr(table, name) for name in ("sparse_read", "_gather", "_find")}

    def only_here(name: str, replacement: Callable[..., Any]) -> Callable[..., Any]:
        def method(keys: Any, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != here:
                return stock[name](keys, *args, **kwargs)
            return replacement(tf.cast(keys, table.key_dtype))

        return method

    def rows(keys: tf.Tensor) -> tf.Tensor:
        return dense.lookup(keys)[0]

    replacements = {"sparse_read": rows, "_gather": rows, "_find": dense.lookup}
    for name, replacement in replacements.items():
        setattr(table, name, only_here(name, replacement))
    # tf.nn.embedding_lookup places itself beside the variable's handle, and so captures it.
    table._handle_here = (here, dense.handle)
    try:
        yield
    finally:
        for name in (*replacements, "_handle_here"):
            delattr(table, name)


def _what_to_trace(
    model_or_fn: Any, input_signature: Any, tables: Iterable[Variable] | None
) -> tuple[Callable[..., Any], Any, list[Variable]]:
    if hasattr(model_or_fn, "weights") and hasattr(model_or_fn, "get_config"):
        return _keras_model(model_or_fn, input_signature)
    if input_signature is None:
        raise ValueError("input_signature is needed to export a function")
    # A tf.function may have been traced before, with the tables themselves.
    fn = getattr(model_or_fn, "python_function", model_or_fn)
    return fn, input_signature, list(tables or ())


def _keras_model(
    model: Any, input_signature: Any
) -> tuple[Callable[..., Any], Any, list[Variable]]:
    import keras
    from keras.src.export import export_utils

    from taco.tf.keras import TableWeight

    if not model.built:
        raise ValueError("the model has not been built yet: call it on some data first")
    if input_signature is None:
        input_signature = keras.tree.map_structure(
            export_utils.make_tf_tensor_spec, export_utils.get_input_signature(model)
        )
    tables = {id(w.value): w.value for w in model.weights if isinstance(w, TableWeight)}
    return model.__call__, input_signature, list(tables.values())


def _missing_row(table: Variable, missing: float | Mapping[str, Any] | None) -> np.ndarray:
    """The row (dim,) of ids that are not in `table`."""
    if isinstance(missing, Mapping):
        missing = missing.get(table.name)
    value = _mean(table.initializer_spec) if missing is None else missing
    row = np.asarray(value, np.float32)
    if row.shape not in ((), (table.dim,)):
        raise ValueError(
            f"missing: table '{table.name}' has rows of {table.dim} values, not {row.shape}"
        )
    return np.broadcast_to(row, [table.dim])


def _mean(initializer_spec: str) -> float:
    """The mean of an initializer in the form of the TacoTable operation."""
    kind, _, arguments = initializer_spec.partition(";")[0].partition(":")
    values = [float(value) for value in arguments.split(",")] if arguments else [0.0]
    return sum(values) / 2 if kind == "uniform" else values[0]


def _check_stock(concrete: tf.types.experimental.ConcreteFunction) -> None:
    graph = concrete.graph.as_graph_def()
    ops = {node.op for node in graph.node}
    ops.update(node.op for fn in graph.library.function for node in fn.node_def)
    ours = sorted(op for op in ops if op.startswith("Taco"))
    if ours:
        raise ValueError(
            f"the function uses a table that was not replaced (operations {', '.join(ours)}): name "
            "every table in `tables`, and pass functions that have not been wrapped in tf.function"
        )
