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
