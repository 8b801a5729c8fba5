"""Whether a table that `get_variable` is asked for again is the one that it has made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from taco.tf.dynamic_embedding import _initializers
from taco.tf.dynamic_embedding.variable import Variable


def check_same(existing: Variable, asked: dict[str, Any]) -> None:
    """Raises ValueError if a table like `existing` was not what the arguments `asked` for."""
    has = _described(existing)
    differs = {what: value for what, value in _given(existing, asked).items() if value != has[what]}
    if differs:
        raise ValueError(
            f"Variable {existing.name} already exists with {_listed(has, differs)}, and is now "
            f"asked for with {_listed(differs, differs)}: ask for the one that exists, give "
            "another name, or drop the first one (del)"
        )


def _described(table: Variable) -> dict[str, Any]:
    policy = table.restrict_policy
    return {
        "key_dtype": table.key_dtype.name,
        "value_dtype": table.value_dtype.name,
        "dim": table.dim,
        "initializer": _initializer(table, table._initializer_given),
        "devices": table.devices,
        "trainable": table.trainable,
        "checkpoint": table.checkpoint,
        "restrict_policy": None if policy is None else type(policy),
    }


def _given(table: Variable, asked: dict[str, Any]) -> dict[str, Any]:
    """Those of the arguments `asked` that can be compared with `table`; of those after the dim none
    that is at its default."""
    given = {what: asked[what] for what in ("key_dtype", "value_dtype", "dim")}
    if asked["dim"] == table.dim and asked["initializer"] is not None:
        drawn = _initializer(table, asked["initializer"])
        if drawn is not None and _initializer(table, table._initializer_given) is not None:
            given["initializer"] = drawn
    if asked["devices"] is not None:
        devices = asked["devices"]
        given["devices"] = [devices] if isinstance(devices, str) else list(devices)
    given.update((flag, False) for flag in ("trainable", "checkpoint") if not asked[flag])
    if asked["restrict_policy"] is not None:
        given["restrict_policy"] = asked["restrict_policy"]
    return given


def _initializer(table: Variable, initializer: Any) -> str | None:
    return _initializers.describe(initializer, table.dim, table.value_dtype, table.name)


def _listed(values: dict[str, Any], which: Iterable[str]) -> str:
    return ", ".join(f"{what} = {values[what]}" for what in which)
