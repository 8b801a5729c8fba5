"""What each optimizer of tf.compat.v1.train does to a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from taco.tf.optimizers.update import Update

_v1 = tf.compat.v1.train


def _number(value: Any) -> Any:
    return value() if callable(value) and not tf.is_tensor(value) else value


def _gradient_descent(o: Any) -> Update:
    return Update("sgd", _number(o._learning_rate))


def _momentum(o: Any) -> Update:
    return Update(
        "momentum",
        _number(o._learning_rate),
        beta1=_number(o._momentum),
        nesterov=bool(o._use_nesterov),
        lr_outside_momentum=True,
    )


def _adagrad(o: Any) -> Update:
    return Update(
        "adagrad",
        _number(o._learning_rate),
        slot_init=(float(o._initial_accumulator_value),),
    )


def _adam_like(rule: str) -> Callable[[Any], Update]:
    def make(o: Any) -> Update:
        return Update(
            rule,
            _number(o._lr),
            beta1=_number(o._beta1),
            beta2=_number(o._beta2),
            epsilon=_number(o._epsilon),
            weight_decay=_number(getattr(o, "_weight_decay", 0.0)),
            decay_in_direction=rule == "lamb",
        )

    return make


def _rmsprop(o: Any) -> Update:
    # The stock optimizer always has a momentum slot, and starts its mean square at 1.
    slots = (1.0, 0.0, 0.0) if o._centered else (1.0, 0.0)
    return Update(
        "rmsprop",
        _number(o._learning_rate),
        beta1=_number(o._momentum),
        beta2=_number(o._decay),
        epsilon=_number(o._epsilon),
        centered=bool(o._centered),
        has_momentum=True,
        slot_init=slots,
    )


def _ftrl(o: Any) -> Update:
    rate = _number(o._learning_rate)
    return Update(
        "ftrl",
        rate,
        l1=o._l1_regularization_strength,
        l2=o._l2_regularization_strength + o._beta / (2.0 * rate),
        l2_shrinkage=o._l2_shrinkage_regularization_strength,
        lr_power=o._learning_rate_power,
        slot_init=(float(o._initial_accumulator_value), 0.0),
    )


def _adadelta(o: Any) -> Update:
    return Update("adadelta", _number(o._lr), beta2=_number(o._rho), epsilon=_number(o._epsilon))


def _proximal(rule: str, slot_init: tuple[float, ...], o: Any) -> Update:
    return Update(
        rule,
        _number(o._learning_rate),
        l1=o._l1_regularization_strength,
        l2=o._l2_regularization_strength,
        slot_init=slot_init,
    )


def _proximal_gradient_descent(o: Any) -> Update:
    return _proximal("proximal_gradient_descent", (), o)


def _proximal_adagrad(o: Any) -> Update:
    return _proximal("proximal_adagrad", (float(o._initial_accumulator_value),), o)


def _adagrad_da(o: Any) -> Update:
    squares = float(o._initial_gradient_squared_accumulator_value)
    update = _proximal("adagrad_da", (0.0, squares), o)
    return dataclasses.replace(update, step=tf.cast(o._global_step, tf.int64) + 1)


_RULES: dict[type, Callable[[Any], Update]] = {
    _v1.GradientDescentOptimizer: _gradient_descent,
    _v1.MomentumOptimizer: _momentum,
    _v1.AdagradOptimizer: _adagrad,
    _v1.AdamOptimizer: _adam_like("adam"),
    _v1.RMSPropOptimizer: _rmsprop,
    _v1.FtrlOptimizer: _ftrl,
    _v1.AdadeltaOptimizer: _adadelta,
    _v1.ProximalGradientDescentOptimizer: _proximal_gradient_descent,
    _v1.ProximalAdagradOptimizer: _proximal_adagrad,
    _v1.AdagradDAOptimizer: _adagrad_da,
}


def supports(optimizer: Any) -> bool:
    """Whether tables have a rule for `optimizer`. Makes no operation."""
    return _rule_of(optimizer) is not None


def update_of(optimizer: Any) -> Update:
    """What a step of `optimizer`, which must be supported, does to a table.

    In a graph this may make operations, on the numbers that are tensors.
    """
    make = _rule_of(optimizer)
    assert make is not None, "check_supported comes first"
    return dataclasses.replace(make(optimizer), precision=tf.float32)


def _rule_of(optimizer: Any) -> Callable[[Any], Update] | None:
    """What makes the update, None where tables have no such rule.

    `optimizer._taco_rule` names the rule of an Adam-like optimizer of TACO's own. A subclass of a
    stock one counts as it, unless it changes how sparse gradients are applied.
    """
    kind = type(optimizer)
    rule = getattr(optimizer, "_taco_rule", None)
    if rule is not None:
        return _adam_like(rule)
    for known, make in _RULES.items():
        if issubclass(kind, known) and _same_method(kind, known, "_resource_apply_sparse"):
            return make
    return None


def _same_method(kind: type, known: type, name: str) -> bool:
    return getattr(kind, name) is getattr(known, name)


def names() -> str:
    """The supported optimizers, for messages."""
    return ", ".join(sorted(kind.__name__ for kind in _RULES)) + ", and those of taco.tf.train"
