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

    pairs = all_of(optimizer, kind)
    for has, companion in pairs:
        if has is table:
            return companion
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
    optimizer._track_trackable(companion, _name(kind, len(pairs)))
    owned = optimizer.__dict__.setdefault(_ATTRIBUTE, {})  # set so that Keras does not track it
    owned.setdefault(kind, []).append((table, companion))
    return companion


def all_of(optimizer: Any, kind: str) -> list[tuple[Any, Any]]:
    """The pairs (table, companion) of one kind, in the order in which they were made."""
    return list(optimizer.__dict__.get(_ATTRIBUTE, {}).get(kind, ()))


def named(optimizer: Any) -> dict[str, Any]:
    """All companions of an optimizer, under names that tell them apart in a file."""
    return {
        _name(kind, number): companion
        for kind, pairs in optimizer.__dict__.get(_ATTRIBUTE, {}).items()
        for number, (_, companion) in enumerate(pairs)
    }


def _name(kind: str, number: int) -> str:
    return f"taco_{kind}_{number}"
