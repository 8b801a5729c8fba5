"""Tables in `tf.compat.v1.train.Saver`.

The Saver asks each variable for a tensor to write, in the midst of building its own operations.
What a variable gives is its manifests, an output of an operation that writes the tables' files. As
the Saver goes on to the next variable, that operation is replaced by one that writes both: so that
in the end one operation, one consistent cut, writes all tables of the Saver (on each machine).
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
    from taco.tf.dynamic_embedding.variable import Variable


@dataclasses.dataclass
class _Cut:
    """The tables that one Saver writes on one machine, as far as it has come.

    Attributes:
      filename: the Saver's filename tensor.
      members: the variables.
      manifests: what the Saver was given for each: an identity operation, whose input is replaced.
    """

    filename: tf.Tensor
    members: list[Variable] = dataclasses.field(default_factory=list)
    manifests: list[tf.Operation] = dataclasses.field(default_factory=list)


# For each graph: (filename tensor's name, machine) -> cut.
_cuts: weakref.WeakKeyDictionary[tf.Graph, dict[tuple[str, str], _Cut]] = (
    weakref.WeakKeyDictionary()
)


def manifest_spec(variable: Variable) -> saveable_object.SaveSpec:
    """What the Saver is to write for `variable`."""
    return saveable_object.SaveSpec(
        lambda: _manifests(variable),
        slice_spec="",
        name=variable.name + checkpoint_folder.V1_SUFFIX,
        dtype=tf.string,
        device=_machine(variable),
    )


def restore(variable: Variable, manifests: tf.Tensor) -> tf.Operation | None:
    """The operation that restores `variable`, for the Saver under construction."""
    return checkpoint_files.restore(variable, _filename(variable), manifests)


def _machine(variable: Variable) -> str:
    """Where the files are written: the CPU of the machine that has the tables."""
    spec = tf.compat.v1.DeviceSpec.from_string(variable.device)
    return spec.replace(device_type="CPU", device_index=0).to_string()


def _manifests(variable: Variable) -> tf.Tensor:
    filename = _filename(variable)
    machine = _machine(variable)
    cuts = _cuts.setdefault(filename.graph, {})
    cut = cuts.setdefault((filename.name, machine), _Cut(filename))
    for member, given in zip(cut.members, cut.manifests, strict=True):
        if member is variable:
            return given.outputs[0]
    cut.members.append(variable)
    with tf.device(machine):
        handles = [handle for member in cut.members for handle in member.handles]
        parts = tf.split(
            checkpoint_files.save(handles, filename),
            [len(member.handles) for member in cut.members],
        )
        given = tf.identity(parts[-1], name="taco_manifests").op
    for earlier, part in zip(cut.manifests, parts[:-1], strict=True):
        earlier._update_input(0, part)
    cut.manifests.append(given)
    return given.outputs[0]


def _filename(variable: Variable) -> tf.Tensor:
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
