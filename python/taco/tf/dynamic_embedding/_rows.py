"""The rows of a variable by key: what TFRA's variable offers beside being a variable."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.framework import ops as tf_ops

from taco.tf import _ops
from taco.tf.dynamic_embedding import _initializers
from taco.tf.dynamic_embedding._keys import to_keys
from taco.tf.dynamic_embedding._partition import Partition, PartitionFn
from taco.tf.dynamic_embedding._table import Table


@functools.cache
def _nothing(dtype: tf.DType) -> tf.Tensor:
    """An eager tensor of shape (0,), made once: making it takes as long as a small lookup."""
    with tf.device("/CPU:0"):
        return tf.zeros([0], dtype)


class Rows:
    """Row access for a class that has the attributes named below."""

    handles: list[tf.Tensor]
    key_dtype: tf.DType
    value_dtype: tf.DType
    dim: int
    name: str
    partition_fn: PartitionFn
    restrict_policy: Any
    _sizes: dict[int | None, tf.Tensor]  # of a graph, as last made
    _first_rows: _initializers.Native | _initializers.Drawn

    @property
    def tables(self) -> list[Table]:
        """The tables that the rows are spread over, one for each device."""
        return [Table(self, number) for number in range(len(self.handles))]

    # Reading.

    def lookup(
        self, keys: Any, return_exists: bool = False, name: str | None = None
    ) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
        """Reads rows; absent keys read as their initial value, and stay absent.

        No gradient tape is told: to train, use `tf.nn.embedding_lookup` or `de.embedding_lookup`.

        Args:
          keys: integer keys of any shape.
          return_exists: also say which keys are in the table.
          name: of the operation.

        Returns:
          values: (keys.shape + (dim,)), value_dtype; with `return_exists` also a bool tensor of
          the shape of `keys`.

        Raises:
          TypeError: keys that are no integers, or a tensor of another type than the table's keys.
          ValueError: integers beyond the table's keys.
        """
        with tf_ops.name_scope(name, "TableLookup"):
            keys = self._keys(keys)
            values, exists = self._find(keys)
            return (values, exists) if return_exists else values

    def _gather(self, keys: tf.Tensor, handle: tf.Tensor | None = None) -> tf.Tensor:
        """Rows of `keys`, with the gradient for `handle`: the first one's, or a copy of it."""
        handle = self.handles[0] if handle is None else handle
        if len(self.handles) > 1 or isinstance(self._first_rows, _initializers.Drawn):
            return self._gather_parts(keys, handle)
        return _ops.ops().taco_table_gather(handle, keys, V=self.value_dtype, dim=self.dim)

    def _gather_parts(self, keys: tf.Tensor, handle: tf.Tensor) -> tf.Tensor:
        """As `_gather` over several tables. The gradient for all of them is given to the first
        handle, which stands for the variable; an optimizer spreads it again."""

        @tf.custom_gradient
        def gather(_: tf.Tensor) -> tuple[tf.Tensor, Callable[..., tf.IndexedSlices]]:
            values, _ = self._find(keys)

            def gradient(upstream: tf.Tensor) -> tf.IndexedSlices:
                return tf.IndexedSlices(
                    tf.reshape(upstream, [-1, self.dim]),
                    tf.reshape(keys, [-1]),
                    tf.constant([keys.dtype.max, self.dim], tf.int64),
                )

            return values, gradient

        return gather(handle)

    def _find(self, keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """values (keys.shape + (dim,)) and exists (keys.shape)."""
        flat = keys if len(self.handles) == 1 else tf.reshape(keys, [-1])
        partition = self._partition(flat)
        values, exists = [], []
        for handle, part in zip(self.handles, partition.split(flat), strict=True):
            rows, found = self.find_in(handle, part)
            values.append(rows)
            exists.append(found)
        values, exists = partition.join(values), partition.join(exists)
        if len(self.handles) > 1:
            values = tf.reshape(values, tf.concat([tf.shape(keys), [self.dim]], 0))
            exists = tf.reshape(exists, tf.shape(keys))
        if not context.executing_eagerly():
            values.set_shape(keys.shape.concatenate([self.dim]))
        return values, exists

    def find_in(self, handle: tf.Tensor, keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """values (keys.shape + (dim,)) and exists (keys.shape) in one table."""
        return _ops.ops().taco_table_find(handle, keys, self._default(keys), dim=self.dim)

    def _default(self, keys: tf.Tensor) -> tf.Tensor:
        """What absent keys read as: nothing, for the table's own initializer, or rows."""
        if isinstance(self._first_rows, _initializers.Native):
            if context.executing_eagerly():
                return _nothing(self.value_dtype)
            return tf.zeros([0], self.value_dtype)
        rows = self._first_rows.rows(tf.size(keys))
        return tf.reshape(rows, tf.concat([tf.shape(keys), [self.dim]], 0))

    def export(self, name: str | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """All keys (n,) and their rows (n, dim), each table as it was at one moment."""
        with tf_ops.name_scope(name, "TableExport"):
            parts = [table.export() for table in self.tables]
            return tf.concat([p[0] for p in parts], 0), tf.concat([p[1] for p in parts], 0)

    def size(self, index: int | None = None, name: str | None = None) -> tf.Tensor:
        """Rows in all tables, or in table `index`: int64 scalar.

        Raises:
          TypeError, IndexError: `index` is no integer, or there is no such table.
        """
        index = self._table_index(index)
        graph = None if context.executing_eagerly() else tf.compat.v1.get_default_graph()
        if graph is not None and graph.finalized and index in self._sizes:
            return self._sizes[index]  # a MonitoredSession's graph takes no new operation
        with tf_ops.name_scope(name, "TableSize"):
            sizes = [table.size() for table in self.tables]
            size = sizes[index] if index is not None else tf.add_n(sizes)
        if graph is not None and not graph.building_function:
            self._sizes[index] = size
        return size

    def stats(self, name: str | None = None) -> Any:
        """What the tables know of themselves: rows, bytes, load, hit rate, probe lengths, growths.

        `hit_rate` is `hits / lookups`: of the keys looked up since the table was made, in training
        or not, the part that was there. `clear` does not reset it.

        Returns:
          Eagerly: a dict for one table, a list of dicts for several. In a graph: a string tensor
          (tables,) of JSON.
        """
        with tf_ops.name_scope(name, "TableStats"):
            texts = [_ops.ops().taco_table_stats(handle) for handle in self.handles]
        if not context.executing_eagerly():
            return tf.stack(texts)
        parsed = [json.loads(text.numpy()) for text in texts]
        return parsed[0] if len(parsed) == 1 else parsed

    # Writing. Each gives the operation in a graph, and None eagerly.

    def upsert(self, keys: Any, values: Any, name: str | None = None) -> tf.Operation | None:
        """Sets the rows of `keys`, inserting those that are absent; the last duplicate counts.

        Args:
          keys: integer keys of any shape.
          values: (keys.shape + (dim,)), value_dtype. Kept as they are, NaN and infinity too, as
            `tf.Variable.assign` does.
          name: of the operation.

        Raises:
          TypeError, ValueError: types or shapes do not match the table's.
        """
        op = _ops.ops().taco_table_upsert
        with tf_ops.name_scope(name, "TableUpsert"):
            keys = self._keys(keys)
            values = self._values(values)
            return self._scatter(op, keys, values)

    def accum(
        self, keys: Any, old_values: Any, new_values: Any, exists: Any, name: str | None = None
    ) -> tf.Operation | None:
        """Adds `new_values - old_values` to rows that exist, and inserts `new_values` for the rest.

        A row that has come or gone since `exists` was read is left alone.

        Args:
          keys: integer keys of any shape.
          old_values, new_values: (keys.shape + (dim,)), value_dtype.
          exists: bool, of the shape of `keys`, from `lookup(keys, return_exists=True)`.
          name: of the operation.
        """
        op = _ops.ops().taco_table_accum
        with tf_ops.name_scope(name, "TableAccum"):
            keys = self._keys(keys)
            old, new = self._values(old_values), self._values(new_values)
            exists = tf.reshape(tf.convert_to_tensor(exists, tf.bool), tf.shape(keys))
            change = tf.where(exists[..., tf.newaxis], new - old, new)
            return self._scatter(op, keys, change, exists)

    def remove(self, keys: Any, name: str | None = None) -> tf.Operation | None:
        """Removes rows with their slots; absent keys are ignored."""
        op = _ops.ops().taco_table_remove
        with tf_ops.name_scope(name, "TableRemove"):
            return self._scatter(op, self._keys(keys))

    def clear(self, name: str | None = None) -> tf.Operation | None:
        """Removes every row and gives the memory back."""
        return tf.group(
            *[_ops.ops().taco_table_clear(handle) for handle in self.handles], name=name
        )

    def import_(self, keys: Any, values: Any, name: str | None = None) -> tf.Operation | None:
        """Replaces the contents by these rows: `import_(*export())` changes no vector.

        Args:
          keys: (n,) integer keys.
          values: (n, dim), value_dtype.
          name: of the operation.

        Raises:
          ValueError: shapes do not match, and nothing is changed.
          tf.errors.InvalidArgumentError: the same, where shapes are known only as a graph runs.
        """
        with tf_ops.name_scope(name, "TableImport"):
            keys = self._keys(keys)
            values = self._values(values)
            if not values.shape.is_compatible_with(keys.shape.concatenate([self.dim])):
                raise ValueError(
                    f"keys of shape {keys.shape} need values of shape "
                    f"{keys.shape.concatenate([self.dim])}, not {values.shape}"
                )
            with tf.control_dependencies(self._shape_checks(keys, values)):
                cleared = self.clear()
            with tf.control_dependencies([] if cleared is None else [cleared]):
                return self.upsert(keys, values)

    def get_slot_variables(self, optimizer: Any) -> list[Any]:
        """What `optimizer` keeps of each row, read-only.

        Args:
          optimizer: of `tf.keras.optimizers` or `tf.compat.v1.train`.

        Returns:
          A list of objects with `name`, `export() -> (keys, values)` and `size()`, one for each
          slot; an empty one for an optimizer without slots.

        Raises:
          TypeError: an optimizer that cannot train tables.
        """
        from taco.tf.optimizers import slots

        return list(slots.slots_of(self, optimizer))  # type: ignore[arg-type]

    def drop_slots(self, name: str | None = None) -> tf.Operation | None:
        """Forgets what optimizers keep of the rows, which stay: the next one, of whatever kind,
        begins afresh."""
        op = _ops.ops().taco_table_set_optimizer
        done = [op(handle, optimizer="none", drop_slots=True) for handle in self.handles]
        return tf.group(*done, name=name)

    def restrict(self, num_reserved: int, **kwargs: Any) -> Any:
        """Removes rows until `num_reserved` are left, as `restrict_policy` ranks them.

        Raises:
          ValueError: the variable was made without a policy.
        """
        if self.restrict_policy is None:
            raise ValueError(
                f"table '{self.name}' has no restrict_policy: give one to get_variable"
            )
        return self.restrict_policy.apply_restriction(num_reserved, **kwargs)

    def _insert_drawn(self, keys: tf.Tensor) -> tf.Operation | None:
        """Inserts the absent ones of `keys` (n,), where TensorFlow draws their first value.

        The table does that by itself for the distributions it knows."""
        if isinstance(self._first_rows, _initializers.Native):
            return None
        distinct = tf.unique(keys)[0]
        values, exists = self._find(distinct)
        absent = tf.logical_not(exists)
        return self.accum(
            tf.boolean_mask(distinct, absent),
            tf.boolean_mask(values, absent),
            tf.boolean_mask(values, absent),
            tf.boolean_mask(exists, absent),
        )

    def _shape_checks(self, keys: tf.Tensor, values: tf.Tensor) -> list[tf.Operation]:
        """Operations that fail unless there is a row for each key; none where that is known."""
        if keys.shape.is_fully_defined() and values.shape.is_fully_defined():
            return []
        message = f"table '{self.name}': keys (n,) need values (n, {self.dim})"
        expected = tf.concat([tf.shape(keys), [self.dim]], 0)
        same_rank = tf.debugging.assert_equal(tf.rank(values), tf.size(expected), message)
        with tf.control_dependencies([same_rank]):
            return [tf.debugging.assert_equal(tf.shape(values), expected, message)]

    def _table_index(self, index: Any) -> int | None:
        if index is None:
            return None
        count = len(self.handles)
        if isinstance(index, bool) or not hasattr(index, "__index__"):
            raise TypeError(f"the index of a table is an integer, not {index!r}")
        if not -count <= int(index) < count:
            raise IndexError(
                f"variable '{self.name}' has {count} tables, one for each device, and none of "
                f"index {int(index)}: give one from 0 to {count - 1}, or none for the rows of all"
            )
        return int(index)

    def _keys(self, keys: Any) -> tf.Tensor:
        return to_keys(keys, self.key_dtype, self.name)

    def _values(self, values: Any) -> tf.Tensor:
        """`values` as a tensor of value_dtype; numbers of Python and numpy are converted."""
        if not tf.is_tensor(values) or values.dtype == self.value_dtype:
            try:
                return tf.convert_to_tensor(values, self.value_dtype)
            except (TypeError, ValueError) as error:
                raise type(error)(
                    f"table '{self.name}' has rows of {self.value_dtype.name}, and was given what "
                    f"does not convert to it: {error}"
                ) from None
        raise TypeError(
            f"table '{self.name}' has rows of {self.value_dtype.name}, and was given "
            f"{values.dtype.name}: tf.cast(values, tf.{self.value_dtype.name})"
        )

    def _partition(self, flat_keys: tf.Tensor) -> Partition:
        return Partition(flat_keys, len(self.handles), self.partition_fn, self.name)

    def _scatter(
        self, op: Callable[..., Any], keys: tf.Tensor, *data: tf.Tensor
    ) -> tf.Operation | None:
        """Runs `op(handle, keys, *data)` on each table with its part of keys and data."""
        if len(self.handles) == 1:
            return tf.group(op(self.handles[0], keys, *data))
        rank = tf.rank(keys) if keys.shape.rank is None else keys.shape.rank
        flat = tf.reshape(keys, [-1])
        flat_data = [tf.reshape(d, tf.concat([[-1], tf.shape(d)[rank:]], 0)) for d in data]
        partition = self._partition(flat)
        parts = [partition.split(d) for d in (flat, *flat_data)]
        done = [op(h, *part) for h, *part in zip(self.handles, *parts, strict=True)]
        return tf.group(*done)
