"""gradient_accumulation_steps on a table against the same optimizer on a dense variable."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from taco.tf import dynamic_embedding as de
from tensorflow import keras

from tests.tf._tables import filled, random_rows, rows_of

opt = keras.optimizers
DIM = 5
KEYS = np.array([3, -8, 2**61, 0, 11, -1])
OPTIMIZERS = {
    "sgd": lambda **k: opt.SGD(0.1, **k),
    "momentum": lambda **k: opt.SGD(0.1, momentum=0.9, **k),
    "adagrad": lambda **k: opt.Adagrad(0.1, **k),
    "adam": lambda **k: opt.Adam(0.1, **k),
    "adamw": lambda **k: opt.AdamW(0.1, weight_decay=0.1, **k),
    "rmsprop": lambda **k: opt.RMSprop(0.1, momentum=0.9, **k),
    "adadelta": lambda **k: opt.Adadelta(0.1, **k),
    "ftrl": lambda **k: opt.Ftrl(0.1, l1_regularization_strength=0.01, **k),
    "lamb": lambda **k: opt.Lamb(0.1, **k),
}


class Pair:
    """A table and a dense variable of the same rows, each with a variable beside it and an
    optimizer of its own."""

    def __init__(self, make, in_function=False, devices=None):
        rows = random_rows(len(KEYS), DIM)
        self.table = filled(KEYS, rows, devices=devices)
        self.dense = tf.Variable(rows)
        self.beside = [tf.Variable([1.0, 2.0]), tf.Variable([1.0, 2.0])]
        self.optimizers = [make(), make()]
        self._in_function = in_function
        self.optimizers[0].build([self.table, self.beside[0]])
        self.optimizers[1].build([self.dense, self.beside[1]])
        signature = [
            tf.TensorSpec([None], tf.int64),
            tf.TensorSpec([None, DIM], tf.float32),
        ]
        self._steps = [
            tf.function(self._step_of(i), input_signature=signature)
            if in_function
            else self._step_of(i)
            for i in range(2)
        ]

    def _step_of(self, i):
        params, beside = (self.table, self.dense)[i], self.beside[i]
        optimizer = self.optimizers[i]

        def step(ids, target):
            with tf.GradientTape() as tape:
                rows = tf.nn.embedding_lookup(params, ids)
                loss = tf.reduce_sum(rows * target) * beside[0] + tf.reduce_sum(beside)
                loss = optimizer.scale_loss(loss)
            gradients = tape.gradient(loss, [params, beside])
            if params is self.dense:
                gradients[0] = tf.convert_to_tensor(gradients[0])
            optimizer.apply_gradients(zip(gradients, [params, beside], strict=True))

        return step

    def step(self, seed, which):
        rng = np.random.default_rng(seed)
        which = rng.permutation(np.concatenate([which, which[:1]]))
        target = tf.constant(rng.normal(size=(len(which), DIM)), tf.float32)
        self._steps[0](tf.constant(KEYS[which]), target)
        self._steps[1](tf.constant(which, tf.int64), target)

    def check(self, rows=slice(None)):
        close = {"rtol": 2e-5, "atol": 2e-6}
        np.testing.assert_allclose(self.beside[0], self.beside[1], **close)
        np.testing.assert_allclose(
            rows_of(self.table, KEYS)[rows], self.dense.numpy()[rows], **close
        )


# The batches of one cycle touch different rows, and all rows between them.
BATCHES = ([0, 1, 2], [2, 3, 4, 5], [0, 5])


def run(make, in_function=False, devices=None, cycles=3):
    pair = Pair(make, in_function, devices)
    for seed in range(cycles * len(BATCHES)):
        pair.step(seed, np.array(BATCHES[seed % len(BATCHES)]))
        pair.check()
    return pair


@pytest.mark.parametrize("in_function", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_is_the_stock_optimizer(name, in_function):
    run(lambda: OPTIMIZERS[name](gradient_accumulation_steps=3), in_function)


def test_rows_of_no_batch_stay_as_they_are():
    pair = Pair(lambda: opt.Adagrad(0.1, gradient_accumulation_steps=2), in_function=True)
    before = rows_of(pair.table, KEYS)
    for seed in range(4):
        pair.step(seed, np.array([[0, 1], [1, 2]][seed % 2]))
    pair.check()
    np.testing.assert_array_equal(rows_of(pair.table, KEYS)[3:], before[3:])


@pytest.mark.parametrize("clip", [{"clipnorm": 0.7}, {"global_clipnorm": 0.7}, {"clipvalue": 0.2}])
@pytest.mark.parametrize("in_function", [False, True])
def test_what_is_clipped_is_the_mean(clip, in_function):
    run(lambda: opt.Adam(0.1, gradient_accumulation_steps=3, **clip), in_function)


def test_schedules():
    schedule = opt.schedules.ExponentialDecay(0.1, 2, 0.5, staircase=True)
    run(lambda: opt.Adam(schedule, gradient_accumulation_steps=3), in_function=True)


def test_loss_scaling():
    run(lambda: opt.SGD(0.1, gradient_accumulation_steps=3, loss_scale_factor=64.0))
    run(
        lambda: opt.LossScaleOptimizer(
            opt.Adam(0.1, gradient_accumulation_steps=3), initial_scale=64.0
        ),
        in_function=True,
    )


def test_several_tables_make_one_variable():
    run(lambda: opt.Adam(0.1, gradient_accumulation_steps=3), devices=["/CPU:0"] * 3)


def test_a_batch_before_the_update_inserts_nothing():
    table = de.Variable(name="waiting", dim=2)
    optimizer = opt.SGD(1.0, gradient_accumulation_steps=2)
    for expected in (0, 2):
        slices = tf.IndexedSlices(tf.ones([2, 2]), tf.constant([4, 5], tf.int64))
        optimizer.apply([slices], [table])
        assert int(table.size()) == expected
    np.testing.assert_allclose(rows_of(table, [4, 5]), -np.ones([2, 2]))


def test_two_tables_do_not_mix():
    tables = [de.Variable(name=f"apart_{i}", dim=2) for i in range(2)]
    optimizer = opt.SGD(1.0, gradient_accumulation_steps=2)
    for _ in range(2):
        slices = [
            tf.IndexedSlices(tf.fill([1, 2], 1.0 + i), tf.constant([4], tf.int64)) for i in range(2)
        ]
        optimizer.apply(slices, tables)
    np.testing.assert_allclose(rows_of(tables[0], [4]), [[-1, -1]])
    np.testing.assert_allclose(rows_of(tables[1], [4]), [[-2, -2]])


def test_a_checkpoint_holds_what_has_accumulated(tmp_path):
    def make():
        pair = Pair(lambda: opt.Adam(0.1, gradient_accumulation_steps=3))
        objects = {
            "table": pair.table,
            "beside": pair.beside[0],
            "optimizer": pair.optimizers[0],
        }
        return pair, tf.train.Checkpoint(**objects)

    pair, checkpoint = make()
    for seed in range(4):
        pair.step(seed, np.array(BATCHES[seed % 3]))
    path = checkpoint.save(str(tmp_path / "ckpt"))
    again, other = make()
    other.restore(path).assert_consumed()
    for each in (pair, again):
        for seed in range(4, 7):
            each.step(seed, np.array(BATCHES[seed % 3]))
    np.testing.assert_array_equal(rows_of(pair.table, KEYS), rows_of(again.table, KEYS))
