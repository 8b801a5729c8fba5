"""`Variable`: a dynamic hash table of embedding rows that TensorFlow takes for a variable.

It is a resource variable of shape (None, dim) whose first axis is the key space. What reads rows by
key works unchanged: `tf.nn.embedding_lookup`, `tf.nn.embedding_lookup_sparse`,
`tf.nn.safe_embedding_lookup_sparse`, `tf.gather`; gradients reach it as `tf.IndexedSlices`. What
reads or writes it whole (`read_value`, `assign`, `numpy`) has no meaning for a table and says so.
"""

from __future__ import annotations

import contextlib
import functools
import uuid
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.framework import ops as tf_ops
from tensorflow.python.ops import control_flow_util, resource_variable_ops

from taco.tf import _ops
from taco.tf.checkpoint import CheckpointMixin
from taco.tf.dynamic_embedding import _initializers, _sparse_hook
from taco.tf.dynamic_embedding._creators import CuckooHashTableCreator, KVCreator
from taco.tf.dynamic_embedding._deleter import TableDeleter
from taco.tf.dynamic_embedding._keys import bits_as_keys
from taco.tf.dynamic_embedding._partition import PartitionFn, default_partition_fn
from taco.tf.dynamic_embedding._restrict import RestrictPolicy
from taco.tf.dynamic_embedding._rows import Rows
from taco.tf.dynamic_embedding._trace_type import TableTraceType
from taco.tf.dynamic_embedding._whole import WholeValueRefusals

_KEY_DTYPES = (tf.int32, tf.int64)
_VALUE_DTYPES = (tf.float32, tf.bfloat16, tf.float16)
MAX_DIM = 4096
# What TFRA's get_variable passes when the user names none.
_NO_SHARED_NAME = (None, "", "get_variable")
# The names of the tables in each tf.compat.v1 graph.
_names: weakref.WeakKeyDictionary[tf.Graph, set[str]] = weakref.WeakKeyDictionary()


class GraphKeys:
    """Names of collections that TFRA's programs use. Tables enter TensorFlow's own collections;
    these stay empty unless a program fills them."""

    DYNAMIC_EMBEDDING_VARIABLES = "dynamic_embedding_variables"
    TRAINABLE_DYNAMIC_EMBEDDING_VARIABLES = "trainable_dynamic_embedding_variables"


class Variable(
    CheckpointMixin, Rows, WholeValueRefusals, resource_variable_ops.BaseResourceVariable
):
    """A table from integer keys to rows of `dim` values, usable wherever a variable is.

    In eager mode the table lives as long as this object. In a `tf.compat.v1` graph it belongs to
    the session (or to the parameter server its device names), under the variable's name.

    Attributes:
      key_dtype, value_dtype, dim: as given.
      devices: one entry for each table.
      handles: their resource tensors; `handle` is the first.
      partition_fn: (keys, number of tables) -> the table of each key, int32.
      checkpoint: whether checkpoints hold this table.
      initializer_spec: what the tables compute for absent keys, as text.

    Example:

    >>> table = Variable(name="items", dim=2, initializer=0.5)
    >>> tf.nn.embedding_lookup(table, tf.constant([3, -7], tf.int64)).numpy().tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    >>> int(table.size())
    0
    """

    def __init__(
        self,
        key_dtype: tf.DType = tf.int64,
        value_dtype: tf.DType = tf.float32,
        dim: int = 1,
        devices: str | list[str] | None = None,
        partitioner: PartitionFn | None = default_partition_fn,
        shared_name: str | None = None,
        name: str = "DynamicEmbedding_Variable",
        initializer: Any = None,
        trainable: bool = True,
        checkpoint: bool = True,
        init_size: int = 0,
        kv_creator: KVCreator | None = None,
        restrict_policy: type[RestrictPolicy] | None = None,
        bp_v2: bool = False,
        short_file_name: bool = False,
    ):
        """Creates the tables, empty.

        Args:
          key_dtype: tf.int64 or tf.int32. Every value of it is a legal key.
          value_dtype: tf.float32, tf.bfloat16 or tf.float16.
          dim: values in a row, 1 to 4096.
          devices: one table is made on each; None: one table, where the current device scope says.
            TensorFlow places them as it places variables: eagerly, a device that is not there
            gives way to the CPU, on which all tables live.
          partitioner: how keys are spread over the tables, see `partition_fn` above.
          shared_name: the name of the table in its session or server, where it must differ from
            the variable's.
          name: with the initializer's seed, what the initial rows depend on. In a tf.compat.v1
            graph that has a table of this name the new one is called name_1, then name_2.
          initializer: first value of a row: None (zeros), a number, an array of one row, or an
            initializer of tf.keras, tf or tf.compat.v1. The known distributions are drawn from
            (seed, name, key) alone. Another callable is called as `f([n, dim])` at each lookup for
            the absent keys, and a row is written when a gradient first reaches it.
          trainable: True or False: whether gradient tapes and optimizers see it.
          checkpoint: True or False: whether checkpoints hold it.
          init_size: rows expected, over all devices.
          kv_creator: accepted for TFRA's programs; chooses nothing.
          restrict_policy: class of the policy behind `restrict`.
          bp_v2: accepted for TFRA's programs. Updates here are always applied to the row as it is
            at that moment, so none of two workers' is lost.
          short_file_name: accepted for TFRA's programs; chooses nothing.

        Raises:
          TypeError: types that no table has, a `name` that is no string, a `dim` or `init_size`
            that is no integer, a `trainable` or `checkpoint` that is no bool, a partitioner that
            cannot be called, or a policy that is not a `RestrictPolicy` class.
          ValueError: an empty name; `dim`, `init_size` or the initializer out of range.
        """
        check_name(name)
        self.key_dtype = tf.as_dtype(key_dtype)
        self.value_dtype = tf.as_dtype(value_dtype)
        if self.key_dtype not in _KEY_DTYPES or self.value_dtype not in _VALUE_DTYPES:
            raise TypeError(
                f"a table from {self.key_dtype.name} to {self.value_dtype.name} is not supported: "
                "keys are int64 or int32, values float32, bfloat16 or float16"
            )
        trainable, checkpoint = _flag(trainable, "trainable"), _flag(checkpoint, "checkpoint")
        dim, init_size = _integer(dim, "dim"), _integer(init_size, "init_size")
        if not 1 <= dim <= MAX_DIM:
            raise ValueError(f"dim must be between 1 and {MAX_DIM}, and is {dim}")
        if init_size < 0:
            raise ValueError(f"init_size must not be negative, and is {init_size}")
        if partitioner is not None and not callable(partitioner):
            raise TypeError(
                "partitioner must be a function (keys, number of tables) -> the table of each key, "
                f"not {type(partitioner).__name__}"
            )
        if kv_creator is not None and not isinstance(kv_creator, KVCreator):
            raise TypeError(f"kv_creator must be a KVCreator, not {type(kv_creator).__name__}")
        name = _unused_name(name)
        self.dim = dim
        self.devices = [devices] if isinstance(devices, str) else list(devices or [""])
        self.partition_fn = partitioner or default_partition_fn
        self.shared_name = name if shared_name in _NO_SHARED_NAME else shared_name
        self.checkpoint = checkpoint
        self.init_size = init_size
        self.kv_creator = kv_creator or CuckooHashTableCreator()
        self.bp_v2 = bp_v2
        self.short_file_name = short_file_name
        self._table_name = name
        self._initializer_given = initializer
        self._first_rows = _initializers.resolve(initializer, self.dim, self.value_dtype, name)
        self._deleter: TableDeleter | None = None
        self._trained_by: weakref.ref[Any] | None = (
            None  # the Keras optimizer whose slots these are
        )
        self._sizes = {}
        with tf_ops.init_scope():
            in_graph_mode = not context.executing_eagerly()
            handles = self._create_tables(in_graph_mode)
            super().__init__(
                trainable=trainable,
                shape=(None, self.dim),
                dtype=self.value_dtype,
                handle=handles[0],
                name=name,
                unique_id=name if in_graph_mode else f"{name}_{tf_ops.uid()}",
                handle_name=name,
                initializer_op=None,
                in_graph_mode=in_graph_mode,
            )
            self.handles = handles
            if in_graph_mode:
                self._join_graph()
            else:
                self._deleter = TableDeleter(handles)
            self.restrict_policy = self._make_policy(restrict_policy)
        _install_hooks()

    # Creation.

    @property
    def initializer_spec(self) -> str:
        native = self._first_rows
        return native.spec if isinstance(native, _initializers.Native) else "zeros"

    def _create_tables(self, in_graph_mode: bool) -> list[tf.Tensor]:
        count = len(self.devices)
        # Tables made eagerly follow their object: two of one name are two tables.
        prefix = "" if in_graph_mode else f"{uuid.uuid4()}/"
        handles = []
        for index, device in enumerate(self.devices):
            part = "" if count == 1 else f"/part_{index}_of_{count}"
            with tf_ops.name_scope(None), _device(device):
                handles.append(
                    _ops.ops().taco_table(
                        shared_name=f"{prefix}{self.shared_name}{part}",
                        table_name=self._table_name,
                        key_dtype=self.key_dtype,
                        value_dtype=self.value_dtype,
                        dim=self.dim,
                        initializer=self.initializer_spec,
                        init_size=-(-self.init_size // count),
                        name=self._table_name + part,
                    )
                )
        return handles

    def _join_graph(self) -> None:
        """Makes the initializer operation and enters the collections of a tf.compat.v1 graph."""
        _names.setdefault(tf_ops.get_default_graph(), set()).add(self._table_name)
        # It makes the tables, and leaves rows that they may have alone, as TFRA does.
        with tf_ops.control_dependencies(self.handles), tf_ops.name_scope(None):
            self._initializer_op = tf.no_op(name=f"{self.handle.op.name}/Initializer")
        collections = [tf.compat.v1.GraphKeys.GLOBAL_VARIABLES]
        if self.trainable:
            collections.append(tf.compat.v1.GraphKeys.TRAINABLE_VARIABLES)
        tf_ops.add_to_collections(collections, self)

    def _make_policy(self, policy: type[RestrictPolicy] | None) -> RestrictPolicy | None:
        if policy is None:
            return None
        if not (isinstance(policy, type) and issubclass(policy, RestrictPolicy)):
            raise TypeError("restrict_policy must be a subclass of RestrictPolicy")
        made = policy(self)
        self._track_trackable(made.status, "restrict_status")
        return made

    # Being a variable.

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name as given (in a graph made unique among tables), which is also that of the
        table's operation in a graph."""
        return self._table_name

    @property
    def _shared_name(self) -> str:
        return self._table_name

    @property
    def shard_num(self) -> int:
        """How many tables there are: one for each device."""
        return len(self.devices)

    def is_initialized(self, name: str | None = None) -> tf.Tensor:
        """True: a table is ready as soon as it exists."""
        return tf.constant(True, name=name or "is_initialized")

    def sparse_read(self, indices: Any, name: str | None = None) -> tf.Tensor:
        """The rows of `indices`, which is what `tf.gather` and the lookups of `tf.nn` call.

        Args:
          indices: keys, integer, of any shape; for an int64 table int32 is widened, and uint64
            keeps its bits.
          name: of the operation.

        Returns:
          Tensor of value_dtype, shape `indices.shape + (dim,)`. Absent keys have their initial
          value; nothing is inserted.

        Raises:
          TypeError: int64 keys for an int32 table.
          NotImplementedError: inside what XLA compiles, which has no hash tables.
        """
        keys = bits_as_keys(tf.convert_to_tensor(indices), self.key_dtype)
        if keys.dtype == tf.int32 and self.key_dtype == tf.int64:
            keys = tf.cast(keys, tf.int64)
        if keys.dtype != self.key_dtype:
            raise TypeError(
                f"table '{self.name}' has {self.key_dtype.name} keys, and was asked for "
                f"{keys.dtype.name}: cast them"
            )
        _refuse_xla(self.name)
        with tf_ops.name_scope(name, "Gather"):
            resource_variable_ops.variable_accessed(self)
            return self._gather(keys)

    def __tf_tracing_type__(self, _: Any) -> Any:
        return TableTraceType(self)

    def __repr__(self) -> str:
        return (
            f"<taco Variable '{self.name}' {self.key_dtype.name} -> "
            f"{self.value_dtype.name}[{self.dim}], tables={self.shard_num}>"
        )

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __deepcopy__(self, memo: dict[int, Any]) -> Variable:
        """Another table with the same name and rows and, at first, no optimizer slots."""
        if not context.executing_eagerly():
            raise NotImplementedError("copying a table needs eager execution")
        copied = type(self)(**self._arguments())
        memo[id(self)] = copied
        copied.upsert(*self.export())
        return copied

    def __reduce__(self) -> Any:
        raise TypeError(
            f"table '{self.name}' cannot be pickled: save it with tf.train.Checkpoint, or take "
            "its rows with var.export()"
        )

    def _arguments(self) -> dict[str, Any]:
        policy = self.restrict_policy
        return {
            "key_dtype": self.key_dtype,
            "value_dtype": self.value_dtype,
            "dim": self.dim,
            "devices": None if self.devices == [""] else list(self.devices),
            "partitioner": self.partition_fn,
            "name": self.name,
            "initializer": self._initializer_given,
            "trainable": self.trainable,
            "checkpoint": self.checkpoint,
            "init_size": self.init_size,
            "kv_creator": self.kv_creator,
            "restrict_policy": None if policy is None else type(policy),
            "bp_v2": self.bp_v2,
            "short_file_name": self.short_file_name,
        }


@contextlib.contextmanager
def _device(name: str) -> Iterator[None]:
    if not name:
        yield
        return
    with tf.device(name):
        yield


def _unused_name(name: str) -> str:
    """`name`, or in a graph where a table has it the first of name_1, name_2... that is free."""
    with tf_ops.init_scope():
        if context.executing_eagerly():
            return name
        taken = _names.get(tf_ops.get_default_graph(), set())
    unused, number = name, 0
    while unused in taken:
        number += 1
        unused = f"{name}_{number}"
    return unused


def _refuse_xla(name: str) -> None:
    if context.executing_eagerly():
        return
    if control_flow_util.GraphOrParentsInXlaContext(tf_ops.get_default_graph()):
        raise NotImplementedError(
            f"table '{name}' cannot be read in code that XLA compiles: use jit_compile=False in "
            "tf.function or model.compile, or read the rows outside of that function"
        )


@functools.cache
def _install_hooks() -> None:
    """Teaches TensorFlow's sparse lookups and savers, and its and Keras's optimizers, about tables:
    once, when the first table is made. A program without tables runs all of them untouched."""
    from taco.tf import checkpoint_hooks
    from taco.tf.optimizers import hooks

    _sparse_hook.install(Variable)
    checkpoint_hooks.install()
    hooks.install()


def check_name(name: Any) -> None:
    """Raises TypeError unless `name` is a string, ValueError if it is empty."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a table must be a string, and is {name!r}")
    if not name:
        raise ValueError(
            "the name of a table must not be empty: files and initial rows depend on it"
        )


def _flag(value: Any, what: str) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{what} must be True or False, and is {value!r}")
    return bool(value)


def _integer(value: Any, what: str) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{what} must be an integer, and is {value!r}")
    return int(value)


__all__ = ["GraphKeys", "Variable", "check_name"]
