"""Keras's optimizers on a table against the same optimizer on a dense variable."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from taco.tf import dynamic_embedding as de
from taco.tf.keras import Embedding
from taco.tf.optimizers import SparseAdam
from tensorflow import keras

from tests.tf._tables import filled, random_rows, rows_of

opt = keras.optimizers
DIM = 5
KEYS = np.array([3, -8, 2**61, 0, 11, -1])
STEPS = 4
SCHEDULE = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5, staircase=True)

# All rows are touched at each step, so that even what decays in the stock optimizer is compared.
OPTIMIZERS = {
    "sgd": lambda **k: opt.SGD(0.1, **k),
    "momentum": lambda **k: opt.SGD(0.1, momentum=0.9, **k),
    "nesterov": lambda **k: opt.SGD(0.1, momentum=0.9, nesterov=True, **k),
    "adagrad": lambda **k: opt.Adagrad(0.1, **k),
    "adam": lambda **k: opt.Adam(0.1, **k),
    "amsgrad": lambda **k: opt.Adam(0.1, amsgrad=True, **k),
    "adamw": lambda **k: opt.AdamW(0.1, weight_decay=0.1, **k),
    "rmsprop": lambda **k: opt.RMSprop(0.1, **k),
    "rmsprop_all": lambda **k: opt.RMSprop(0.1, momentum=0.9, centered=True, **k),
    "adadelta": lambda **k: opt.Adadelta(0.1, **k),
    "ftrl": lambda **k: opt.Ftrl(
        0.1,
        l1_regularization_strength=0.01,
        l2_regularization_strength=0.01,
        l2_shrinkage_regularization_strength=0.01,
        beta=0.1,
        **k,
    ),
    "lamb": lambda **k: opt.Lamb(0.1, **k),
}
# Those whose stock update of a row without gradient is no update at all.
LAZY = {"sgd", "adagrad"}


class Case:
    """A table and a dense variable with the same rows, and a dense variable of the model beside
    each, trained by an optimizer each."""

    def __init__(self, make, in_function=False, devices=None):
        self.rows = random_rows(len(KEYS), DIM)
        self.table = filled(KEYS, self.rows, devices=devices)
        self.dense = tf.Variable(self.rows)
        self.beside = [tf.Variable([1.0, 2.0]), tf.Variable([1.0, 2.0])]
        self.optimizers = [make(), make()]
        self.in_function = in_function

    def step(self, seed, all_rows=True, scale=1.0):
        """One step with duplicates; the gradients are the same for both."""
        rng = np.random.default_rng(seed)
        which = np.arange(len(KEYS)) if all_rows else rng.choice(len(KEYS), 2, replace=False)
        which = rng.permutation(np.concatenate([which, which[:2]]))
        target = tf.constant(scale * rng.normal(size=(len(which), DIM)), tf.float32)
        for params, ids, beside, optimizer in (
            (self.table, tf.constant(KEYS[which]), self.beside[0], self.optimizers[0]),
            (self.dense, tf.constant(which), self.beside[1], self.optimizers[1]),
        ):
            self._run(params, ids, target, beside, optimizer)

    def _run(self, params, ids, target, beside, optimizer):
        def step():
            with tf.GradientTape() as tape:
                rows = tf.nn.embedding_lookup(params, ids)
                loss = tf.reduce_sum(rows * target) * beside[0] + tf.reduce_sum(beside)
                loss = optimizer.scale_loss(loss)
            gradients = tape.gradient(loss, [params, beside])
            if params is self.dense:
                gradients[0] = tf.convert_to_tensor(gradients[0])
            optimizer.apply_gradients(zip(gradients, [params, beside], strict=True))

        if not self.in_function:
            step()
            return
        optimizer.build([params, beside])
        tf.function(step)()

    def check(self, rtol=2e-5, atol=2e-6):
        np.testing.assert_allclose(self.beside[0], self.beside[1], rtol=rtol, atol=atol)
        np.testing.assert_allclose(rows_of(self.table, KEYS), self.dense, rtol=rtol, atol=atol)


def run(make, in_function=False, devices=None, all_rows=True, steps=STEPS):
    case = Case(make, in_function, devices)
    for seed in range(steps):
        case.step(seed, all_rows)
    case.check()
    return case


@pytest.mark.parametrize("in_function", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_is_the_stock_optimizer(name, in_function):
    case = run(OPTIMIZERS[name], in_function)
    assert not np.allclose(rows_of(case.table, KEYS), case.rows)


@pytest.mark.parametrize("name", sorted(LAZY))
def test_it_is_the_stock_optimizer_where_only_some_rows_are_touched(name):
    run(OPTIMIZERS[name], all_rows=False)


@pytest.mark.parametrize("name", ["adam", "adagrad", "ftrl"])
def test_several_tables_make_one_variable(name):
    run(OPTIMIZERS[name], devices=["/CPU:0"] * 3)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_no_dense_slot_is_made_for_a_table(name):
    case = run(OPTIMIZERS[name], steps=1)
    for variable in case.optimizers[0].variables:
        assert variable.shape in [(), (2,)], variable.path


@pytest.mark.parametrize("clip", [{"clipnorm": 0.7}, {"global_clipnorm": 0.7}, {"clipvalue": 0.2}])
@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("in_function", [False, True])
def test_clipping_is_over_summed_duplicates(name, clip, in_function):
    run(lambda: OPTIMIZERS[name](**clip), in_function)


@pytest.mark.parametrize("in_function", [False, True])
@pytest.mark.parametrize("make", [opt.Adam, opt.SGD])
def test_schedules(make, in_function):
    run(lambda: make(SCHEDULE), in_function)


def test_learning_rate_set_between_steps():
    case = Case(lambda: opt.SGD(0.1))
    case.step(0)
    for optimizer in case.optimizers:
        optimizer.learning_rate = 0.5
    case.step(1)
    case.check()


def test_a_static_loss_scale_is_undone():
    run(lambda: opt.Adam(0.1, loss_scale_factor=64.0))


@pytest.mark.parametrize("in_function", [False, True])
@pytest.mark.parametrize("clip", [{}, {"global_clipnorm": 0.5}])
def test_loss_scale_optimizer_skips_steps_that_are_not_finite(in_function, clip):
    case = Case(
        lambda: opt.LossScaleOptimizer(opt.Adam(0.1, **clip), initial_scale=8.0), in_function
    )
    case.step(0)
    before = rows_of(case.table, KEYS)
    case.step(1, scale=np.inf)
    np.testing.assert_array_equal(rows_of(case.table, KEYS), before)
    assert [int(o.inner_optimizer.iterations) for o in case.optimizers] == [1, 1]
    assert [float(o.dynamic_scale) for o in case.optimizers] == [4.0, 4.0]
    case.step(2)
    case.check()


@pytest.mark.parametrize("name", ["sgd", "adam", "lamb"])
def test_weight_decay(name):
    run(lambda: OPTIMIZERS[name](weight_decay=0.1))


def test_weight_decay_can_leave_a_table_out():
    decayed = run(lambda: opt.AdamW(0.1, weight_decay=0.5))

    def make():
        optimizer = opt.AdamW(0.1, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(var_names=["table", "Variable"])
        return optimizer

    left_out = run(make)
    assert not np.allclose(rows_of(decayed.table, KEYS), rows_of(left_out.table, KEYS))


@pytest.mark.parametrize(
    "optimizer",
    [opt.Nadam(), opt.Adamax(), opt.Lion(), opt.Adafactor()],
    ids=lambda o: type(o).__name__,
)
def test_other_optimizers_are_refused_and_the_supported_ones_named(optimizer):
    made = filled([1], [[1.0]])
    with pytest.raises(TypeError, match="Adadelta, Adagrad, Adam, AdamW, Ftrl, Lamb"):
        optimizer.build([made])
    with pytest.raises(TypeError, match=type(optimizer).__name__):
        de.DynamicEmbeddingOptimizer(optimizer)


def test_an_optimizer_with_an_update_of_its_own_is_refused():
    class Mine(opt.Adam):
        def update_step(self, gradient, variable, learning_rate):
            variable.assign_sub(gradient)

    with pytest.raises(TypeError, match="Mine"):
        Mine().build([filled([1], [[1.0]])])


def test_optimizers_without_tables_are_untouched():
    filled([1], [[1.0]])
    variable = tf.Variable([1.0])
    optimizer = opt.Nadam(0.1, use_ema=True)
    optimizer.apply([tf.constant([1.0])], [variable])
    assert float(variable[0]) == pytest.approx(0.9, abs=0.05)


def test_a_dense_gradient_for_a_table_is_refused():
    made = filled([1], [[1.0]])
    with pytest.raises(TypeError, match="IndexedSlices"):
        opt.SGD().apply([tf.constant([[1.0]])], [made])


def test_gradients_of_two_lookups_make_one_step():
    made = filled([1, 2], [[0.0], [0.0]])
    optimizer = opt.SGD(1.0)
    with tf.GradientTape() as tape:
        one, first = de.embedding_lookup(made, tf.constant([1, 2], tf.int64), return_trainable=True)
        two, second = de.embedding_lookup(made, tf.constant([2], tf.int64), return_trainable=True)
        loss = tf.reduce_sum(one) + 10.0 * tf.reduce_sum(two)
    wrappers = [first, second]
    optimizer.apply_gradients(zip(tape.gradient(loss, wrappers), wrappers, strict=True))
    assert rows_of(made, [1, 2]).tolist() == [[-1.0], [-11.0]]
    assert int(optimizer.iterations) == 1


def test_sparse_adam_decays_by_the_steps_since_the_last_update():
    made = filled([1, 2], [[0.0], [0.0]])
    optimizer = SparseAdam(0.1)
    reference = {1: [0.0, 0.0, 0.0, 0], 2: [0.0, 0.0, 0.0, 0]}  # w, m, v, step of last update
    for step, keys in enumerate([[1, 2], [1], [1], [1, 2], [2]], start=1):
        gradients = [float(step * key) for key in keys]
        slices = tf.IndexedSlices(tf.constant(gradients)[:, None], tf.constant(keys, tf.int64))
        optimizer.apply([slices], [made])
        for key, g in zip(keys, gradients, strict=True):
            w, m, v, last = reference[key]
            m = m * 0.9 ** (step - last) + 0.1 * g
            v = v * 0.999 ** (step - last) + 0.001 * g * g
            alpha = 0.1 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            reference[key] = [w - alpha * m / (np.sqrt(v) + 1e-7), m, v, step]
    np.testing.assert_allclose(
        rows_of(made, [1, 2])[:, 0], [reference[1][0], reference[2][0]], rtol=1e-4
    )


def test_sparse_adam_is_adam_for_other_variables():
    variables = [tf.Variable([1.0, 2.0]), tf.Variable([1.0, 2.0])]
    for optimizer, variable in zip([SparseAdam(0.1), opt.Adam(0.1)], variables, strict=True):
        for _ in range(3):
            optimizer.apply([variable * 2.0], [variable])
    np.testing.assert_array_equal(*variables)


def test_the_wrapper_gives_the_optimizer_back():
    optimizer = opt.Adam()
    assert de.DynamicEmbeddingOptimizer(optimizer) is optimizer
    with pytest.raises(TypeError, match="expected an optimizer"):
        de.DynamicEmbeddingOptimizer("adam")


def test_several_optimizers_behind_one():
    """A table by one optimizer and the rest by another, as MultiOptimizer shares them out."""

    def make():
        by_name = {"beside": opt.SGD(0.5)}
        return opt.MultiOptimizer(
            lambda v: by_name["beside"] if v.shape == (2,) else by_name.setdefault("t", opt.Adam())
        )

    run(make)
    run(make, in_function=True)


def test_several_optimizers_behind_one_in_fit():
    model = keras.Sequential(
        [Embedding(3), keras.layers.Flatten(), keras.layers.Dense(1, name="top")]
    )
    table_optimizer, top = opt.Adagrad(0.1), opt.Nadam(0.01)
    model.compile(opt.MultiOptimizer(opt.OptimizerMap(table_optimizer, {".*top.*": top})), "mse")
    ids = np.array([[1, 2], [3, 4]])
    model.fit(ids, np.ones((2, 1)), epochs=3, verbose=0)
    assert int(model.layers[0].table.size()) == 4
    assert int(model.layers[0].table.get_slot_variables(table_optimizer)[0].size()) == 4
    with pytest.raises(TypeError, match="Nadam cannot train"):
        model.compile(opt.MultiOptimizer(opt.OptimizerMap(opt.Nadam())), "mse")
        model.fit(ids, np.ones((2, 1)), verbose=0)
