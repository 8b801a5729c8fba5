"""What each Keras optimizer does to a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from taco.tf.optimizers.sparse_adam import SparseAdam
from taco.tf.optimizers.update import Update


def _sgd(o: Any) -> Update:
    if not o.momentum:
        return Update("sgd", 0.0)
    return Update("momentum", 0.0, beta1=o.momentum, nesterov=bool(o.nesterov))


def _adagrad(o: Any) -> Update:
    return Update(
        "adagrad", 0.0, epsilon=o.epsilon, slot_init=(float(o.initial_accumulator_value),)
    )


def _adam(o: Any) -> Update:
    return Update(
        "adam",
        0.0,
        beta1=o.beta_1,
        beta2=o.beta_2,
        epsilon=o.epsilon,
        amsgrad=bool(o.amsgrad),
    )


def _sparse_adam(o: Any) -> Update:
    if o.amsgrad:
        raise ValueError("SparseAdam has no amsgrad form for tables")
    return Update("sparse_adam", 0.0, beta1=o.beta_1, beta2=o.beta_2, epsilon=o.epsilon)


def _rmsprop(o: Any) -> Update:
    return Update(
        "rmsprop",
        0.0,
        beta1=o.momentum,
        beta2=o.rho,
        epsilon=o.epsilon,
        centered=bool(o.centered),
        has_momentum=o.momentum > 0,
    )


def _adadelta(o: Any) -> Update:
    return Update("adadelta", 0.0, beta2=o.rho, epsilon=o.epsilon)


def _ftrl(o: Any) -> Update:
    return Update(
        "ftrl",
        0.0,
        l1=o.l1_regularization_strength,
        l2=o.l2_regularization_strength,
        l2_shrinkage=o.l2_shrinkage_regularization_strength,
        lr_power=o.learning_rate_power,
        slot_init=(float(o.initial_accumulator_value),),
    )


def _lamb(o: Any) -> Update:
    return Update("lamb", 0.0, beta1=o.beta_1, beta2=o.beta_2, epsilon=o.epsilon)


_RULES: dict[type, Callable[[Any], Update]] = {
    SparseAdam: _sparse_adam,
    keras.optimizers.SGD: _sgd,
    keras.optimizers.Adagrad: _adagrad,
    keras.optimizers.AdamW: _adam,
    keras.optimizers.Adam: _adam,
    keras.optimizers.RMSprop: _rmsprop,
    keras.optimizers.Adadelta: _adadelta,
    keras.optimizers.Ftrl: _ftrl,
    keras.optimizers.Lamb: _lamb,
}


def rule_of(optimizer: Any) -> Callable[[Any], Update] | None:
    """What makes the `Update` of an optimizer; None where tables have none.

    A subclass of a known optimizer counts as it, unless it has an `update_step` of its own.
    """
    kind = type(optimizer)
    for known, rule in _RULES.items():
        if issubclass(kind, known) and _same_method(kind, known, "update_step"):
            return rule
    return None


def _same_method(kind: type, known: type, name: str) -> bool:
    return getattr(kind, name) is getattr(known, name)


def update_of(optimizer: Any, table: Any, learning_rate: Any) -> Update:
    """What a step of a supported optimizer does to `table`, with its present settings."""
    rule = rule_of(optimizer)
    assert rule is not None, "check_supported comes first"
    update = rule(optimizer)
    l2 = update.l2
    if update.rule == "ftrl" and optimizer.beta:
        l2 = l2 + optimizer.beta / (2.0 * tf.cast(learning_rate, tf.float32))
    decays = optimizer.weight_decay and optimizer._use_weight_decay(table)
    return dataclasses.replace(
        update,
        learning_rate=learning_rate,
        l2=l2,
        weight_decay=optimizer.weight_decay if decays else 0.0,
    )


def names() -> str:
    """The supported optimizers, for messages."""
    return ", ".join(sorted(kind.__name__ for kind in _RULES))
