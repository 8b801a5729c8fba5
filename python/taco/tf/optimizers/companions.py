"""Tables that a Keras optimizer keeps for itself beside those that it trains.

A dense variable has another of its shape for the gradients that accumulate, or for its moving
average. A table has another table, with rows for those keys alone that need one. It is a child of
the optimizer, so that `tf.train.Checkpoint` holds it; `keras/optimizer_state.py` takes it into
Keras's files.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_ATTRIBUTE = "_taco_companions"


def of(optimizer: Any, table: Any, kind: str, more: int = 0) -> Any:
    """The optimizer's companion of `table`, made at the first call.

    Args:
      optimizer: of Keras.
      table: a `taco.tf.dynamic_embedding.Variable`.
      kind: what it holds; names it.
      more: float32 values in a row beside the table's own `dim`.

    Returns:
      A table of float32 rows of `dim + more` zeros, on the devices of `table`, with its keys.
    """
    from taco.tf.dynamic_embedding.variable import Variable

    owned = optimizer.__dict__.get(_ATTRIBUTE)
    if owned is None:
        owned = {}
        object.__setattr__(optimizer, _ATTRIBUTE, owned)  # Keras would track the dict
    if (kind, id(table)) not in owned:
        companion = Variable(
            name=f"{table.name}/{kind}",
            key_dtype=table.key_dtype,
            value_dtype=tf.float32,
            dim=table.dim + more,
            devices=table.devices,
            partitioner=table.partition_fn,
            trainable=False,
            checkpoint=table.checkpoint,
        )
        number = sum(has == kind for has, _ in owned)
        optimizer._track_trackable(companion, f"taco_{kind}_{number}")
        owned[kind, id(table)] = (table, companion)
    return owned[kind, id(table)][1]


def all_of(optimizer: Any, kind: str) -> list[tuple[Any, Any]]:
    """The pairs (table, companion) of one kind, in the order in which they were made."""
    owned = optimizer.__dict__.get(_ATTRIBUTE, {})
    return [pair for (has, _), pair in owned.items() if has == kind]


def named(optimizer: Any) -> dict[str, Any]:
    """All companions of an optimizer, under names that tell them apart in a file."""
    found: dict[str, Any] = {}
    kinds: dict[str, int] = {}
    for (kind, _), (_, companion) in optimizer.__dict__.get(_ATTRIBUTE, {}).items():
        number = kinds.setdefault(kind, 0)
        kinds[kind] += 1
        found[f"taco_{kind}_{number}"] = companion
    return found
