"""TacoTableApply and TacoTableSetOptimizer. The rules themselves are tested in the core."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tf_ops._ops import (
    apply,
    gather,
    hyper,
    make_table,
    ops,
    rows_by_key,
    size,
    stats,
    upsert,
)
from tests.tf_ops._reference import Reference

InvalidArgument = tf.errors.InvalidArgumentError
FailedPrecondition = tf.errors.FailedPreconditionError

SLOTS = {
    "sgd": 0,
    "momentum": 1,
    "adagrad": 1,
    "adam": 2,
    "sparse_adam": 2,
    "rmsprop": 1,
    "adadelta": 2,
    "ftrl": 2,
    "lamb": 2,
    "proximal_gradient_descent": 0,
    "proximal_adagrad": 1,
    "adagrad_da": 2,
}
SLOT_INIT = {
    "adagrad": [0.1],
    "ftrl": [0.1],
    "proximal_adagrad": [0.1],
    "adagrad_da": [0.0, 0.1],
}
REGULARIZED = ["proximal_gradient_descent", "proximal_adagrad", "adagrad_da"]


@pytest.mark.parametrize(
    ("optimizer", "penalties"),
    [(name, {}) for name in SLOTS] + [(name, {"l1": 0.02, "l2": 0.3}) for name in REGULARIZED],
)
def test_ten_steps_agree_with_numpy(optimizer, penalties):
    dim = 5
    rates = {"learning_rate": 0.05, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-6, **penalties}
    slot_init = SLOT_INIT.get(optimizer, [])
    padded = (slot_init + [0.0] * 3)[:3]
    reference = Reference(optimizer, dim, slot_init=padded, **rates)
    table = make_table(dim=dim)
    random = np.random.default_rng(7)
    for step in range(1, 11):
        keys = random.integers(-6, 6, 9)  # with duplicates, and gaps between a key's steps
        grads = random.normal(size=(9, dim)).astype(np.float32)
        apply(table, keys, grads, step=step, optimizer=optimizer, slot_init=slot_init, **rates)
        reference.apply(keys, grads, step)
    found = rows_by_key(table, dim)
    assert found.keys() == reference.rows.keys()
    for key, row in reference.rows.items():
        np.testing.assert_allclose(found[key], row, rtol=3e-5, atol=3e-6)
    assert len(stats(table)["slots"]) == SLOTS[optimizer]


def test_an_absent_row_starts_from_its_initial_value():
    table = make_table(initializer="uniform:-1,1;seed=9")
    before = gather(table, [1, 2])
    apply(table, [1], tf.ones([1, 4]), learning_rate=0.5)
    np.testing.assert_allclose(gather(table, [1]), before[:1] - 0.5)
    np.testing.assert_array_equal(gather(table, [2]), before[1:])
    assert size(table) == 1


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.float16])
def test_gradients_may_be_of_another_dtype_than_rows(dtype):
    table = make_table(value_dtype=dtype)
    for grad_dtype in (tf.float32, tf.bfloat16, tf.float16):
        apply(table, [1], tf.ones([1, 4], grad_dtype), learning_rate=1.0)
    np.testing.assert_array_equal(gather(table, [1], dtype=dtype), [[-3] * 4])


def test_int32_keys():
    table = make_table(key_dtype=tf.int32)
    apply(table, np.array([-5, -5], np.int32), tf.ones([2, 4]), learning_rate=1.0)
    np.testing.assert_array_equal(gather(table, np.array([-5], np.int32)), [[-2] * 4])


def test_hyperparameters_in_double_are_rounded_after_the_subtraction():
    def first_v(values):
        table = make_table(dim=1)
        ops().taco_table_apply(
            table, np.array([1], np.int64), tf.ones([1, 1]), 1, values, optimizer="adam"
        )
        return ops().taco_table_export_slots(table, dim=1).slots.numpy()[0, 1, 0]

    assert first_v(hyper()) == np.float32(0.001)
    assert first_v(hyper().astype(np.float32)) == np.float32(1) - np.float32(0.999)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": float("nan")}, "learning_rate|learning rate"),
        ({"beta1": 1.0}, "beta1"),
        ({"beta2": -0.1}, "beta2"),
    ],
)
def test_hyperparameters_out_of_range_are_refused(changes, message):
    table = make_table()
    with pytest.raises(InvalidArgument, match=message):
        apply(table, [1], tf.ones([1, 4]), optimizer="adam", **changes)
    assert size(table) == 0


@pytest.mark.parametrize("optimizer", ["adam", "adagrad_da"])
def test_a_step_below_one_is_refused(optimizer):
    with pytest.raises(InvalidArgument, match="step"):
        apply(make_table(), [1], tf.ones([1, 4]), step=0, optimizer=optimizer)


@pytest.mark.parametrize("optimizer", REGULARIZED)
@pytest.mark.parametrize("name", ["l1", "l2"])
def test_a_negative_penalty_is_refused(optimizer, name):
    table = make_table()
    with pytest.raises(InvalidArgument, match=f"{name} = -0.5.*may not be negative"):
        apply(table, [1], tf.ones([1, 4]), optimizer=optimizer, **{name: -0.5})
    assert size(table) == 0


def test_adagrad_da_computes_with_the_step_it_is_given():
    def after(step):
        table = make_table()
        rates = {"learning_rate": 0.1, "l1": 0.01, "epsilon": 0.0}
        apply(table, [1], tf.ones([1, 4]), step=step, optimizer="adagrad_da", **rates)
        return gather(table, [1])

    np.testing.assert_allclose(after(1), [[-0.1 * 0.99] * 4], rtol=1e-6)
    np.testing.assert_allclose(after(70), [[-0.1 * 0.3] * 4], rtol=1e-6)
    np.testing.assert_array_equal(after(101), np.zeros([1, 4]))


@pytest.mark.parametrize("length", [0, 8, 10])
def test_hyper_of_another_length_is_refused(length):
    with pytest.raises(InvalidArgument, match=r"hyper must have shape \[9\]: learning_rate"):
        ops().taco_table_apply(
            make_table(),
            np.array([1], np.int64),
            tf.ones([1, 4]),
            1,
            np.zeros(length, np.float32),
            optimizer="sgd",
        )


def test_grads_of_another_shape_are_refused():
    with pytest.raises(InvalidArgument, match=r"grads has shape \[2,3\].*needs \[2,4\]"):
        apply(make_table(), [1, 2], tf.ones([2, 3]))


@pytest.mark.parametrize(
    ("optimizer", "option"),
    [
        ("adam", "nesterov"),
        ("sgd", "amsgrad"),
        ("ftrl", "centered"),
        ("lamb", "has_momentum"),
        ("adam", "decay_in_direction"),
    ],
)
def test_an_option_that_the_optimizer_lacks_is_refused(optimizer, option):
    with pytest.raises(InvalidArgument, match=f"'{optimizer}' has no option '{option}'"):
        apply(make_table(), [1], tf.ones([1, 4]), optimizer=optimizer, **{option: True})


def test_slot_init_is_checked():
    with pytest.raises(InvalidArgument, match="slot_init has 2 values.*'adagrad' has 1 slot"):
        apply(make_table(), [1], tf.ones([1, 4]), optimizer="adagrad", slot_init=[0.1, 0.1])
    with pytest.raises(InvalidArgument, match=r"slot_init\[0\] is inf"):
        apply(make_table(), [1], tf.ones([1, 4]), optimizer="adagrad", slot_init=[float("inf")])


def test_lamb_decays_in_the_direction_or_before_it():
    def after(**options):
        table = make_table()
        upsert(table, [1], np.ones((1, 4)))
        options = {"learning_rate": 0.1, "weight_decay": 0.5, "epsilon": 0.0, **options}
        apply(table, [1], tf.ones([1, 4]), optimizer="lamb", **options)
        return gather(table, [1])

    # In it: direction 1 + 0.5, scaled to the weights' norm. Before it: 1 - 0.05, then minus 0.1
    # times itself, as the direction of ones is scaled to that norm.
    np.testing.assert_allclose(after(decay_in_direction=True), [[0.9] * 4], rtol=1e-6)
    np.testing.assert_allclose(after(), [[0.95 * 0.9] * 4], rtol=1e-6)


def test_an_unknown_optimizer_is_refused():
    with pytest.raises((InvalidArgument, ValueError), match="adamax"):
        apply(make_table(), [1], tf.ones([1, 4]), optimizer="adamax")


def test_slots_of_another_optimizer_are_not_overwritten():
    table = make_table()
    apply(table, [1], tf.ones([1, 4]), optimizer="adam")
    before = rows_by_key(table)
    with pytest.raises(FailedPrecondition, match="(?i)adam"):
        apply(table, [1], tf.ones([1, 4]), optimizer="adagrad")
    assert rows_by_key(table) == before


def test_set_optimizer_drops_slots_only_when_told():
    table = make_table()
    upsert(table, [1, 2], np.ones((2, 4)))
    ops().taco_table_set_optimizer(table, optimizer="adam")
    assert stats(table)["slots"] == ["m", "v"]
    with pytest.raises(FailedPrecondition, match="drop_slots"):
        ops().taco_table_set_optimizer(table, optimizer="ftrl", slot_init=[0.5])
    ops().taco_table_set_optimizer(table, optimizer="ftrl", slot_init=[0.5], drop_slots=True)
    out = ops().taco_table_export_slots(table, dim=4)
    np.testing.assert_array_equal(out.slots[:, 0], np.full((2, 4), 0.5))
    np.testing.assert_array_equal(out.values, np.ones((2, 4)))
    ops().taco_table_set_optimizer(table, optimizer="none", drop_slots=True)
    assert stats(table)["slots"] == []


@pytest.mark.parametrize(
    ("optimizer", "options", "slots"),
    [
        ("adam", {"amsgrad": True}, 3),
        ("rmsprop", {"centered": True}, 2),
        ("rmsprop", {"centered": True, "has_momentum": True}, 3),
        ("momentum", {"nesterov": True}, 1),
        ("momentum", {"lr_outside_momentum": True}, 1),
    ],
)
def test_options_that_add_slots(optimizer, options, slots):
    table = make_table()
    apply(table, [1], tf.ones([1, 4]), optimizer=optimizer, **options)
    assert len(stats(table)["slots"]) == slots
