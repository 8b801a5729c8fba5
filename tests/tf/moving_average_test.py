"""use_ema on a table against the same optimizer on a dense variable.

Momentum-free SGD and Adagrad leave rows without a gradient as they are in both, so that the
averages of rows that batches have missed can be compared too.
"""

from __future__ import annotations

import numpy as np
import pytest
import taco.tf.keras
import tensorflow as tf
from taco.tf import dynamic_embedding as de
from tensorflow import keras

from tests.tf._tables import filled, random_rows, rows_of

opt = keras.optimizers
DIM = 3
KEYS = np.array([3, -8, 2**61, 0, 11, -1])
BATCHES = ([0, 1, 2], [2, 3], [0], [5, 0], [1, 1, 4], [0])
EMA = {"use_ema": True, "ema_momentum": 0.8}


class Pair:
    """A table and a dense variable of the same rows, and an optimizer of each."""

    def __init__(self, make, in_function=False, devices=None):
        rows = random_rows(len(KEYS), DIM)
        self.table = filled(KEYS, rows, devices=devices)
        self.dense = tf.Variable(rows)
        self.beside = [tf.Variable([1.0]), tf.Variable([1.0])]
        self.variables = [[self.table, self.beside[0]], [self.dense, self.beside[1]]]
        self.optimizers = [make(), make()]
        signature = [tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, DIM], tf.float32)]
        self._steps = []
        for optimizer, variables in zip(self.optimizers, self.variables, strict=True):
            optimizer.build(variables)
            step = self._step_of(optimizer, variables)
            if in_function:
                step = tf.function(step, input_signature=signature)
            self._steps.append(step)

    def _step_of(self, optimizer, variables):
        def step(ids, target):
            with tf.GradientTape() as tape:
                rows = tf.nn.embedding_lookup(variables[0], ids)
                loss = tf.reduce_sum(rows * target) * variables[1][0]
                loss = optimizer.scale_loss(loss)
            gradients = tape.gradient(loss, variables)
            if variables[0] is self.dense:
                gradients[0] = tf.convert_to_tensor(gradients[0])
            optimizer.apply_gradients(zip(gradients, variables, strict=True))

        return step

    def step(self, seed, which):
        which = np.array(which)
        target = np.random.default_rng(seed).normal(size=(len(which), DIM))
        self._steps[0](tf.constant(KEYS[which]), tf.constant(target, tf.float32))
        self._steps[1](tf.constant(which, tf.int64), tf.constant(target, tf.float32))

    def finalize(self):
        """As model.fit does at its end."""
        for optimizer, variables in zip(self.optimizers, self.variables, strict=True):
            optimizer.finalize_variable_values(variables)

    def check(self):
        close = {"rtol": 2e-5, "atol": 1e-5}
        np.testing.assert_allclose(self.beside[0], self.beside[1], **close)
        np.testing.assert_allclose(rows_of(self.table, KEYS), self.dense, **close)


def run(make, batches=BATCHES, **kwargs):
    pair = Pair(make, **kwargs)
    for seed, which in enumerate(batches):
        pair.step(seed, which)
        pair.check()
    pair.finalize()
    pair.check()
    return pair


def test_the_average_is_not_the_row():
    pair = Pair(lambda: opt.SGD(0.1, **EMA))
    for seed, which in enumerate(BATCHES):
        pair.step(seed, which)
    trained = rows_of(pair.table, KEYS)
    pair.finalize()
    assert (np.abs(trained - rows_of(pair.table, KEYS)).max(1) > 1e-3).all()


@pytest.mark.parametrize("in_function", [False, True])
@pytest.mark.parametrize("make", [opt.SGD, opt.Adagrad])
@pytest.mark.parametrize("count", range(2, len(BATCHES) + 1))
def test_averages_of_rows_that_batches_miss(make, in_function, count):
    run(lambda: make(0.1, **EMA), BATCHES[:count], in_function=in_function)


@pytest.mark.parametrize(
    "make",
    [
        lambda: opt.Adam(0.1, **EMA),
        lambda: opt.AdamW(0.1, weight_decay=0.1, **EMA),
        lambda: opt.SGD(0.1, momentum=0.9, clipnorm=0.5, **EMA),
        lambda: opt.LossScaleOptimizer(opt.Lamb(0.1, **EMA), initial_scale=64.0),
    ],
)
def test_all_rows_in_every_batch(make):
    run(make, [list(range(len(KEYS)))] * 4, in_function=True)


@pytest.mark.parametrize("in_function", [False, True])
def test_rows_are_overwritten_as_often_as_asked(in_function):
    pair = run(
        lambda: opt.SGD(0.1, ema_overwrite_frequency=2, **EMA),
        BATCHES[:5],
        in_function=in_function,
    )
    for seed in range(5):
        pair.step(10 + seed, BATCHES[seed])
        pair.check()


@pytest.mark.parametrize("in_function", [False, True])
@pytest.mark.parametrize("frequency", [None, 2])
def test_with_accumulated_gradients(in_function, frequency):
    run(
        lambda: opt.SGD(
            0.1, gradient_accumulation_steps=2, ema_overwrite_frequency=frequency, **EMA
        ),
        [*BATCHES, *BATCHES],
        in_function=in_function,
    )


def test_momentum_of_none_and_of_all():
    run_to = {0.0: BATCHES, 1.0: BATCHES}
    for momentum, batches in run_to.items():
        pair = Pair(lambda m=momentum: opt.SGD(0.1, use_ema=True, ema_momentum=m))
        for seed, which in enumerate(batches):
            pair.step(seed, which)
        pair.finalize()
        pair.check()


def test_several_tables_make_one_variable():
    run(lambda: opt.SGD(0.1, **EMA), devices=["/CPU:0"] * 3)


def test_training_on_after_the_rows_have_become_their_averages():
    pair = run(lambda: opt.Adagrad(0.1, **EMA))
    for seed, which in enumerate(BATCHES):
        pair.step(20 + seed, which)
        pair.check()
    pair.finalize()
    pair.check()


def test_a_removed_row_stays_away_and_begins_anew():
    pair = Pair(lambda: opt.SGD(0.1, **EMA))
    for seed, which in enumerate(BATCHES):
        pair.step(seed, which)
    pair.table.remove(KEYS[[0]])
    pair.optimizers[0].finalize_variable_values(pair.variables[0])
    assert not bool(pair.table.lookup(KEYS[[0]], return_exists=True)[1][0])
    assert int(pair.table.size()) == len(KEYS) - 1


def test_more_rows_than_are_in_memory_at_once(monkeypatch):
    from taco.tf.optimizers import moving_average

    monkeypatch.setattr(moving_average, "_CHUNK", 4)
    run(lambda: opt.SGD(0.1, ema_overwrite_frequency=3, **EMA), in_function=True)


def test_the_count_of_steps_may_be_large():
    rows = []
    for count in (10, 2**24 + 1):
        pair = Pair(lambda: opt.SGD(0.1, **EMA))
        pair.optimizers[0].iterations.assign(count)
        for seed, which in enumerate(BATCHES):
            pair.step(seed, which)
        pair.finalize()
        rows.append(rows_of(pair.table, KEYS))
    np.testing.assert_array_equal(*rows)


def test_rows_that_leave_no_room_are_refused():
    table = de.Variable(name="widest", dim=4096)
    with pytest.raises(ValueError, match="at most 4094 values"):
        opt.SGD(0.1, **EMA).build([table])


def test_a_checkpoint_holds_the_averages(tmp_path):
    def make():
        pair = Pair(lambda: opt.Adam(0.1, **EMA))
        objects = {
            "table": pair.table,
            "beside": pair.beside[0],
            "optimizer": pair.optimizers[0],
        }
        return pair, tf.train.Checkpoint(**objects)

    pair, checkpoint = make()
    for seed, which in enumerate(BATCHES[:4]):
        pair.step(seed, which)
    path = checkpoint.save(str(tmp_path / "ckpt"))
    again, other = make()
    other.restore(path).assert_consumed()
    for each in (pair, again):
        for seed, which in enumerate(BATCHES[4:]):
            each.step(seed, which)
        each.optimizers[0].finalize_variable_values(each.variables[0])
    np.testing.assert_array_equal(rows_of(pair.table, KEYS), rows_of(again.table, KEYS))


def models(**options):
    """A model with a table, and one with a dense embedding of the same rows."""
    rows = random_rows(12, DIM)
    made = []
    for layer in (
        taco.tf.keras.Embedding(DIM, weights=rows),
        keras.layers.Embedding(12, DIM),
    ):
        model = keras.Sequential(
            [
                keras.Input((2,), dtype="int64"),
                layer,
                keras.layers.Flatten(),
                keras.layers.Dense(1, kernel_initializer="ones"),
            ]
        )
        if isinstance(layer, keras.layers.Embedding):
            layer.set_weights([rows])
        model.compile(opt.SGD(0.05, **options), "mse")
        made.append(model)
    return made


def data():
    rng = np.random.default_rng(3)
    return rng.integers(0, 12, (40, 2)), rng.normal(size=(40, 1)).astype(np.float32)


@pytest.mark.parametrize("options", [EMA, {"gradient_accumulation_steps": 3}])
def test_fit_is_that_of_a_dense_embedding(options):
    x, y = data()
    histories = []
    for model in models(**options):
        fit = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
        histories.append([*fit.history["loss"], model.evaluate(x, y, verbose=0)])
    np.testing.assert_allclose(*histories, rtol=1e-4)


def test_the_callback_that_swaps_averages_in():
    x, y = data()
    histories = []
    for model in models(**EMA):
        fit = model.fit(
            x,
            y,
            batch_size=4,
            epochs=3,
            shuffle=False,
            verbose=0,
            validation_data=(x, y),
            callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=True)],
        )
        histories.append(
            [*fit.history["loss"], *fit.history["val_loss"], model.evaluate(x, y, verbose=0)]
        )
    np.testing.assert_allclose(*histories, rtol=1e-4)


@pytest.mark.parametrize("file", ["model.keras", "model.weights.h5"])
@pytest.mark.parametrize("options", [EMA, {"gradient_accumulation_steps": 3}])
def test_keras_files_hold_what_the_optimizer_keeps(tmp_path, file, options):
    x, y = data()
    batches = [(x[i : i + 4], y[i : i + 4]) for i in range(0, 40, 4)]
    model = models(**options)[0]
    for batch in batches[:5]:
        model.train_on_batch(*batch)
    path = str(tmp_path / file)
    if file.endswith(".keras"):
        model.save(path)
        again = keras.models.load_model(path)
    else:
        model.save_weights(path)
        again = models(**options)[0]
        again.load_weights(path)
    for each in (model, again):
        for batch in batches[5:]:
            each.train_on_batch(*batch)
        each.optimizer.finalize_variable_values(each.trainable_variables)
    np.testing.assert_array_equal(model.predict(x, verbose=0), again.predict(x, verbose=0))
