"""Tables in `tf.compat.v1.train.Saver`.

The Saver asks each variable for a tensor to write, in the midst of building its own operations.
What a variable gives is its manifests, an output of an operation that writes the tables' files. As
the Saver goes on to the next variable, that operation is replaced by one that writes both: so that
in the end one operation, one consistent cut, writes all tables of the Saver on each machine. Of a
variable whose tables lie on several machines, each of these operations gives a part.
"""

from __future__ import annotations

import dataclasses
import weakref
from typing import TYPE_CHECKING

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.training.saving import saveable_object

from taco.tf import checkpoint_files, checkpoint_folder

if TYPE_CHECKING:
    from taco.tf.dynamic_embedding._table import Table
    from taco.tf.dynamic_embedding.variable import Variable


@dataclasses.dataclass
class _Cut:
    """The tables that one Saver writes on one machine, as far as it has come.

    Attributes:
      members: the tables of each variable, as their handles.
      manifests: what the Saver was given for each: an identity operation, whose input is replaced.
    """

    members: list[list[tf.Tensor]] = dataclasses.field(default_factory=list)
    manifests: list[tf.Operation] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class _Save:
    """One Saver under construction.

    Attributes:
      cuts: by machine.
      given: the variables that it has asked, and what they gave.
    """

    cuts: dict[str, _Cut] = dataclasses.field(default_factory=dict)
    given: list[tuple[Variable | Table, tf.Tensor]] = dataclasses.field(default_factory=list)


# For each graph: the Savers by the name of their filename tensor.
_saves: weakref.WeakKeyDictionary[tf.Graph, dict[str, _Save]] = weakref.WeakKeyDictionary()


def manifest_spec(variable: Variable | Table) -> saveable_object.SaveSpec:
    """What the Saver is to write for `variable`."""
    return saveable_object.SaveSpec(
        lambda: _manifests(variable),
        slice_spec="",
        name=variable.name + checkpoint_folder.V1_SUFFIX,
        dtype=tf.string,
        device=checkpoint_files.machine_of(variable.handles[0]),
    )


def restore(variable: Variable, manifests: tf.Tensor) -> tf.Operation | None:
    """The operation that restores `variable`, for the Saver under construction."""
    return checkpoint_files.restore(variable, _filename(variable), manifests)


def restore_table(table: Table, manifests: tf.Tensor) -> tf.Operation | None:
    """The operation that restores one table, for the Saver under construction."""
    filename = _filename(table)
    return checkpoint_files.restore_one(table.resource_handle, filename, manifests[0])


def _manifests(variable: Variable | Table) -> tf.Tensor:
    filename = _filename(variable)
    save = _saves.setdefault(filename.graph, {}).setdefault(filename.name, _Save())
    for member, given in save.given:
        if member is variable:
            return given
    places = checkpoint_files.by_machine(variable.handles)
    parts = [
        _join(
            save.cuts.setdefault(machine, _Cut()),
            [variable.handles[number] for number in numbers],
            machine,
            filename,
        )
        for machine, numbers in places.items()
    ]
    with tf.device(checkpoint_files.machine_of(variable.handles[0])):
        manifests = checkpoint_files.in_order(parts, places)
    save.given.append((variable, manifests))
    return manifests


def _join(cut: _Cut, handles: list[tf.Tensor], machine: str, filename: tf.Tensor) -> tf.Tensor:
    """Takes the tables of one more variable into a cut, and gives their manifests."""
    cut.members.append(handles)
    with tf.device(machine):
        parts = tf.split(
            checkpoint_files.save([h for member in cut.members for h in member], filename),
            [len(member) for member in cut.members],
        )
        given = tf.identity(parts[-1], name="taco_manifests").op
    for earlier, part in zip(cut.manifests, parts[:-1], strict=True):
        earlier._update_input(0, part)
    cut.manifests.append(given)
    return given.outputs[0]


def _filename(variable: Variable | Table) -> tf.Tensor:
    """The filename tensor of the Saver under construction: "Const" in its name scope."""
    if context.executing_eagerly():
        raise ValueError(
            f"table '{variable.name}': tf.compat.v1.train.Saver saves tables in a graph only. With "
            "eager execution use tf.train.Checkpoint"
        )
    graph = tf.compat.v1.get_default_graph()
    scope = graph.get_name_scope()
    while scope:
        try:
            return graph.get_tensor_by_name(f"{scope}/Const:0")
        except KeyError:
            scope = scope.rpartition("/")[0]
    raise ValueError(
        f"table '{variable.name}' was asked for its tensors outside of a tf.compat.v1.train.Saver"
    )
