"""`model.fit` of a plain Keras model around a table, as users write it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from taco.tf import dynamic_embedding as de
from taco.tf.keras import Embedding
from tensorflow import keras

from tests.tf._tables import random_rows

# No id twice: Keras's own optimizers do not sum the gradients of duplicates before they square or
# clip them. Duplicates are compared, on densified gradients, in optimizers_keras_test.
IDS = np.array([[1, -5], [2**60, 9], [7, 8], [0, 2]])
VOCABULARY = {key: i for i, key in enumerate(np.unique(IDS).tolist())}
TARGETS = np.array([[1.0], [0.0], [2.0], [-1.0]], np.float32)
DIM = 3


def model_of(layer, dense_kernel):
    head = keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(dense_kernel))
    return keras.Sequential([layer, keras.layers.Flatten(), head])


@pytest.mark.parametrize(
    "compile_options",
    [{}, {"run_eagerly": True}, {"jit_compile": True}, {"steps_per_execution": 2}],
    ids=str,
)
@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.SGD(0.05, momentum=0.9),
        lambda: keras.optimizers.Adam(0.05, global_clipnorm=1.0),
        lambda: keras.optimizers.Adagrad(0.05),
    ],
)
def test_fit_is_that_of_a_dense_embedding(make, compile_options):
    rows = random_rows(len(VOCABULARY), DIM)
    kernel = random_rows(2 * DIM, 1, seed=1)
    ours = Embedding(DIM)
    ours.build()
    ours.table.upsert(list(VOCABULARY), rows)
    stock = keras.layers.Embedding(
        len(VOCABULARY), DIM, embeddings_initializer=keras.initializers.Constant(rows)
    )
    dense_ids = np.vectorize(VOCABULARY.get)(IDS)
    histories = []
    for layer, ids in ((ours, IDS), (stock, dense_ids)):
        model = model_of(layer, kernel)
        model.compile(make(), "mse", **compile_options)
        # One batch touches every row, so that what decays without a gradient is the same too.
        history = model.fit(ids, TARGETS, batch_size=4, epochs=6, shuffle=False, verbose=0)
        histories.append(history.history["loss"])
    np.testing.assert_allclose(histories[0], histories[1], rtol=1e-4)
    assert histories[0][-1] < histories[0][0]
    np.testing.assert_allclose(
        ours.table.lookup(list(VOCABULARY)), stock.embeddings, rtol=1e-4, atol=1e-5
    )


def test_fit_under_a_mixed_precision_policy():
    layer = Embedding(DIM, dtype="mixed_float16")
    model = keras.Sequential([layer, keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.05)), "mse")
    losses = model.fit(IDS, TARGETS, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert layer.table.size().numpy() == len(VOCABULARY)


def test_a_custom_loop_in_a_function():
    table = de.Variable(name="loop", dim=DIM)
    head = keras.layers.Dense(1)
    head.build((None, DIM))
    optimizer = keras.optimizers.Adam(0.1)
    variables = [table, *head.trainable_variables]
    optimizer.build(variables)

    @tf.function
    def step(ids, targets):
        with tf.GradientTape() as tape:
            pooled = tf.reduce_mean(tf.nn.embedding_lookup(table, ids), 1)
            loss = tf.reduce_mean(tf.square(head(pooled) - targets))
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    losses = [float(step(tf.constant(IDS), tf.constant(TARGETS))) for _ in range(50)]
    assert losses[-1] < 0.1 * losses[0]
    assert int(optimizer.iterations) == 50


def fine_tuned(dense, first, second):
    """The losses of a model that is compiled again with another optimizer after some training."""
    rng = np.random.default_rng(1)
    ids, targets = rng.permuted(np.tile(np.arange(12), (20, 1)), axis=1), rng.normal(size=(20, 1))
    rows = rng.normal(size=(12, 3)).astype(np.float32)
    layer = keras.layers.Embedding(12, 3) if dense else Embedding(3, weights=rows)
    model = keras.Sequential(
        [
            keras.Input((12,), dtype="int64"),
            layer,
            keras.layers.Flatten(),
            keras.layers.Dense(1, kernel_initializer="ones"),
        ]
    )
    if dense:
        layer.set_weights([rows])
    losses = []
    for optimizer in (first(), second()):
        model.compile(optimizer, "mse")
        fit = model.fit(ids, targets, batch_size=1, epochs=2, shuffle=False, verbose=0)
        losses += fit.history["loss"]
    return losses


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda: keras.optimizers.Adam(0.01), lambda: keras.optimizers.Adam(0.01)),
        (lambda: keras.optimizers.Adam(0.01), lambda: keras.optimizers.SGD(1e-3, momentum=0.9)),
        (lambda: keras.optimizers.RMSprop(0.01), lambda: keras.optimizers.Adagrad(0.01)),
    ],
)
def test_a_model_compiled_again_begins_with_fresh_slots(first, second):
    np.testing.assert_allclose(
        fine_tuned(False, first, second), fine_tuned(True, first, second), rtol=1e-4
    )


def test_a_loaded_model_is_fine_tuned_with_another_optimizer(tmp_path):
    layers = [Embedding(3), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    ids, targets = np.array([[1, 2], [3, 4]]), np.ones((2, 1))
    model.fit(ids, targets, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    table = loaded.layers[0].table
    assert table.stats()["slots"] == ["m", "v"]
    loaded.compile(keras.optimizers.Adagrad(0.01), "mse")
    loaded.fit(ids, targets, verbose=0)
    assert table.stats()["slots"] == ["accumulator"]
    # What is restored after that is this optimizer's to go on with, if it is of its kind.
    model.save_weights(tmp_path / "m.weights.h5")
    loaded.compile(keras.optimizers.Adam(0.01), "mse")
    loaded.load_weights(tmp_path / "m.weights.h5")
    assert int(loaded.optimizer.iterations) == 1
    for each in (loaded, model):
        each.fit(ids, targets, shuffle=False, verbose=0)  # the order is in the last bit
    np.testing.assert_array_equal(loaded.predict(ids, verbose=0), model.predict(ids, verbose=0))


def test_weights_of_another_optimizer_are_loaded_without_its_slots(tmp_path):
    def model_with(optimizer):
        layers = [Embedding(3, name="ids"), keras.layers.Flatten(), keras.layers.Dense(1)]
        model = keras.Sequential(layers)
        model.compile(optimizer, "mse")
        model.fit(IDS, TARGETS, verbose=0)
        return model

    saved, model = model_with(keras.optimizers.Adam(0.1)), model_with(keras.optimizers.Adagrad(0.1))
    saved.save_weights(tmp_path / "m.weights.h5")
    with pytest.warns(UserWarning, match="(?s)layer 'ids': its rows are loaded.*Adam"):
        model.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(model.predict(IDS, verbose=0), saved.predict(IDS, verbose=0))
    model.fit(IDS, TARGETS, verbose=0)
    assert model.layers[0].table.stats()["slots"] == ["accumulator"]


def test_slots_can_be_dropped_for_another_optimizer():
    table = de.Variable(name="dropped", dim=2)
    slices = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([4], tf.int64))
    adam, adagrad = keras.optimizers.Adam(), tf.compat.v1.train.AdagradOptimizer(0.1)
    adam.apply([slices], [table])
    with pytest.raises(tf.errors.FailedPreconditionError, match=r"drop_slots\(\)"):
        adagrad.apply_gradients([(slices, table)])
    table.drop_slots()
    adagrad.apply_gradients([(slices, table)])
    assert table.stats()["slots"] == ["accumulator"]
