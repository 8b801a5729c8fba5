"""What an optimizer keeps of a table's rows, read from Python.

Slots lie in the rows. `slots_of` gives views of them, for a look at what training has done and for
programs of TensorFlow Recommenders Addons, where each slot is a variable of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from taco.tf import _ops

if TYPE_CHECKING:
    from taco.tf.dynamic_embedding.variable import Variable
    from taco.tf.optimizers.update import Update

_NAMES = {
    "momentum": ("momentum",),
    "adagrad": ("accumulator",),
    "adam": ("m", "v"),
    "sparse_adam": ("m", "v"),
    "lamb": ("m", "v"),
    "rmsprop": ("velocity",),
    "adadelta": ("accumulated_grad", "accumulated_delta_var"),
    "ftrl": ("accumulator", "linear"),
    "proximal_adagrad": ("accumulator",),
    "adagrad_da": ("gradient_accumulator", "gradient_squared_accumulator"),
}


class Slot:
    """One slot of an optimizer in the rows of a variable: read-only.

    Attributes:
      params: the variable.
      name: the variable's, and the slot's: "items/m".
    """

    def __init__(self, params: Variable, slot_name: str, index: int):
        self.params = params
        self.name = f"{params.name}/{slot_name}"
        self._index = index

    @property
    def tables(self) -> list[Any]:
        """None of its own: slots are saved with the rows."""
        return []

    def export(self, name: str | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """All keys (n,) and this slot of their rows (n, dim), float32; n is 0 before the first
        step of the optimizer. The rows of the whole table are in memory meanwhile."""
        var = self.params
        with tf.name_scope(name or "SlotExport"):
            parts = [
                _ops.ops().taco_table_export_slots(
                    handle, K=var.key_dtype, V=var.value_dtype, dim=var.dim
                )
                for handle in var.handles
            ]
            slots = tf.concat([part.slots[:, self._index : self._index + 1] for part in parts], 0)
            rows = tf.reshape(slots, [-1, var.dim])  # none, where the rows have no such slot
            return tf.concat([part.keys for part in parts], 0)[: tf.shape(rows)[0]], rows

    def size(self, name: str | None = None) -> tf.Tensor:
        """Rows that have the slot: int64 scalar."""
        return tf.cast(tf.shape(self.export(name)[0])[0], tf.int64)

    def __repr__(self) -> str:
        return f"<taco Slot '{self.name}'>"


def slots_of(params: Variable, optimizer: Any) -> list[Slot]:
    """The slots that `optimizer` keeps in the rows of `params`, in the order of their names.

    Raises:
      TypeError: an optimizer for which tables have no update.
    """
    names = _names_of(_update_of(params, optimizer))
    return sorted((Slot(params, n, i) for i, n in enumerate(names)), key=lambda slot: slot.name)


def _names_of(update: Update) -> tuple[str, ...]:
    names = _NAMES.get(update.rule, ())
    if update.amsgrad:
        names += ("vhat",)
    if update.has_momentum:
        names += ("momentum",)
    if update.centered:
        names += ("average_gradient",)
    return names


def _update_of(params: Variable, optimizer: Any) -> Update:
    from tensorflow.python.training import optimizer as v1_optimizer

    from taco.tf.optimizers import hooks, v1_rules

    hooks.install()
    hooks.check_supported(optimizer)
    if isinstance(optimizer, v1_optimizer.Optimizer):
        return v1_rules.update_of(optimizer)
    from taco.tf.optimizers import keras_rules

    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    rule = keras_rules.rule_of(optimizer)
    if rule is None:
        raise TypeError(
            f"{type(optimizer).__name__} hands variables on to other optimizers: ask for the slots "
            "of the one that trains the table"
        )
    return rule(optimizer)
