"""The files of tables beside a checkpoint: writing, finding and reading them.

A checkpoint at `prefix` owns the table files `prefix + ".data-?????-of-taco?"`. TensorFlow's
checkpoint managers delete what matches `prefix + ".data-?????-of-?????"`, so they go with it.
A file's name is never used twice: while a save overwrites a checkpoint of the same prefix, the old
files stay until the new checkpoint names the new ones. `checkpoint_folder` then deletes them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.eager import context

from taco.tf import _ops, checkpoint_folder

if TYPE_CHECKING:
    from taco.tf.dynamic_embedding.variable import Variable

# tensorflow::ResourceHandle::ANONYMOUS_NAME: a table that lives as long as its handle.
_ANONYMOUS = "cd2c89b7-88b7-44c8-ad83-06c2a9158347"


def save(handles: Sequence[tf.Tensor], prefix: str | tf.Tensor) -> tf.Tensor:
    """Writes tables to files of `prefix`, those of one machine all as they are at one moment.

    Args:
      handles: resource tensors of the tables.
      prefix: scalar string.

    Returns:
      The manifests, string tensor (len(handles),).

    Raises:
      tf.errors.OpError: a file cannot be written; the message names it. Earlier files are intact.
    """
    checkpoint_folder.hold()
    nothing = tf.zeros([0], tf.string)
    places = by_machine(handles)
    parts = []
    for machine, numbers in places.items():
        with tf.device(machine) if len(places) > 1 else contextlib.nullcontext():
            there = [handles[number] for number in numbers]
            parts.append(_ops.ops().taco_tables_save(there, prefix, nothing, delete_orphans=False))
    return in_order(parts, places)


def machine_of(handle: tf.Tensor) -> str:
    """Where the file of a table is written: the CPU of the machine that has it."""
    spec = tf.compat.v1.DeviceSpec.from_string(str(handle.device))
    return spec.replace(device_type="CPU", device_index=0).to_string()


def by_machine(handles: Sequence[tf.Tensor]) -> dict[str, list[int]]:
    """The tables on each machine, by their number."""
    places: dict[str, list[int]] = {}
    for number, handle in enumerate(handles):
        places.setdefault(machine_of(handle), []).append(number)
    return places


def in_order(parts: Sequence[tf.Tensor], places: dict[str, list[int]]) -> tf.Tensor:
    """The manifests of all tables in order, from those of each machine."""
    if len(parts) == 1:
        return parts[0]
    order = [number for numbers in places.values() for number in numbers]
    return tf.gather(tf.concat(parts, 0), [order.index(n) for n in range(len(order))])


def restore(
    variable: Variable, prefix: str | tf.Tensor, manifests: Any, vectors_only: bool = False
) -> tf.Operation | None:
    """Replaces the rows of `variable` by those of the files that `manifests` describes.

    Args: as of `CheckpointMixin.restore`.
    """
    manifests = tf.reshape(tf.convert_to_tensor(manifests, tf.string), [-1])
    same_number = tf.equal(tf.size(manifests), len(variable.handles))
    if context.executing_eagerly():
        how = _restore_each if same_number else _reshard
        how(variable, prefix, manifests, vectors_only)
        return None
    # In a graph the number of manifests is known only as it runs.
    return tf.cond(
        same_number,
        lambda: _done(_restore_each(variable, prefix, manifests, vectors_only)),
        lambda: _done(_reshard(variable, prefix, manifests, vectors_only)),
    ).op


def restore_one(handle: tf.Tensor, prefix: str | tf.Tensor, manifest: tf.Tensor) -> Any:
    """Replaces the rows of one table by those of one file."""
    return _ops.ops().taco_table_restore(handle, prefix, manifest)


def _done(operations: Sequence[tf.Operation]) -> tf.Tensor:
    with tf.control_dependencies(operations):
        return tf.constant(True)


def _restore_each(
    variable: Variable, prefix: str | tf.Tensor, manifests: tf.Tensor, vectors_only: bool
) -> list[tf.Operation]:
    """Restores a file into each table."""
    restore_table = _ops.ops().taco_table_restore
    return [
        restore_table(handle, prefix, manifests[index], vectors_only=vectors_only)
        for index, handle in enumerate(variable.handles)
    ]


def _reshard(
    variable: Variable, prefix: str | tf.Tensor, manifests: tf.Tensor, vectors_only: bool
) -> list[tf.Operation]:
    """Restores N files into M tables: each table takes a file and drops the rows of the others,
    so that no more than one file's rows are held beyond what stays."""
    ops = _ops.ops()
    after = [_verify(variable, prefix, manifests)]
    for index, handle in enumerate(variable.handles):

        def take(
            number: Any, merge: bool, index: int = index, handle: tf.Tensor = handle
        ) -> list[tf.Operation]:
            restored = ops.taco_table_restore(
                handle, prefix, manifests[number], vectors_only=vectors_only, merge=merge
            )
            with tf.control_dependencies(_given(restored)):
                keys, _ = ops.taco_table_export(
                    handle, K=variable.key_dtype, V=variable.value_dtype, dim=variable.dim
                )
            owner = tf.cast(variable.partition_fn(keys, variable.shard_num), tf.int32)
            others = tf.boolean_mask(keys, tf.not_equal(owner, index))
            return _given(ops.taco_table_remove(handle, others))

        with tf.control_dependencies(_given(*after)):
            first = take(0, merge=False)
        with tf.control_dependencies(first):
            others = _for_each(manifests, take, start=1)
        with tf.control_dependencies(_given(others)):
            after = _given(ops.taco_table_shrink(handle))
    return after


def _for_each(
    manifests: tf.Tensor, act: Callable[..., list[tf.Operation]], start: int = 0
) -> tf.Tensor:
    """Calls `act(number, merge=True)` for the manifests from `start` on, one after the other."""

    def body(number: tf.Tensor) -> list[tf.Tensor]:
        with tf.control_dependencies(act(number, merge=True)):
            return [number + 1]

    return tf.while_loop(
        lambda number: number < tf.size(manifests),
        body,
        [tf.constant(start)],
        parallel_iterations=1,
    )[0]


def _given(*operations: Any) -> list[Any]:
    """What operations gave in a graph; eagerly those without an output give None."""
    return [each for each in operations if each is not None]


def _verify(variable: Variable, prefix: str | tf.Tensor, manifests: tf.Tensor) -> Any:
    """Fails if any of the files is absent or corrupt, before a table is touched: restores each
    into a table that is then dropped."""
    ops = _ops.ops()
    scratch = ops.taco_table(
        shared_name=_ANONYMOUS,
        table_name=variable.name,
        key_dtype=variable.key_dtype,
        value_dtype=variable.value_dtype,
        dim=variable.dim,
    )

    def read(number: tf.Tensor, merge: bool) -> list[Any]:
        del merge
        return _given(ops.taco_table_restore(scratch, prefix, manifests[number], vectors_only=True))

    with tf.control_dependencies(_given(_for_each(manifests, read))):
        return ops.taco_table_clear(scratch)
