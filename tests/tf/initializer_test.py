"""First rows: the distribution that was asked for, and the same row for the same key always."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from taco.tf import dynamic_embedding as de

from tests.tf._tables import table

KEYS = np.arange(-20_000, 20_000)
KERAS = tf.keras.initializers
V1 = tf.compat.v1

RANDOM = [
    (KERAS.RandomNormal(0.5, 2.0, seed=1), 0.5, 2.0),
    (KERAS.RandomUniform(-1.0, 3.0, seed=1), 1.0, 4.0 / np.sqrt(12)),
    (KERAS.TruncatedNormal(0.0, 1.0, seed=1), 0.0, 0.8796256),
    (KERAS.GlorotUniform(seed=1), 0.0, np.sqrt(2.0 / (1 + 4))),
    (KERAS.GlorotNormal(seed=1), 0.0, np.sqrt(2.0 / (1 + 4))),
    (KERAS.HeNormal(seed=1), 0.0, np.sqrt(2.0)),
    (V1.random_normal_initializer(0.5, 2.0, seed=1), 0.5, 2.0),
    (V1.truncated_normal_initializer(0.0, 1.0, seed=1), 0.0, 0.8796256),
    (V1.glorot_uniform_initializer(seed=1), 0.0, np.sqrt(2.0 / (1 + 4))),
    (tf.random_uniform_initializer(-1.0, 3.0, seed=1), 1.0, 4.0 / np.sqrt(12)),
    ("random_normal", 0.0, 0.05),
]


@pytest.mark.parametrize("initializer, mean, stddev", RANDOM)
def test_distribution_and_parameters(initializer, mean, stddev):
    rows = table(dim=4, initializer=initializer).lookup(KEYS).numpy()
    assert rows.mean() == pytest.approx(mean, abs=4 * stddev / np.sqrt(rows.size))
    assert rows.std() == pytest.approx(stddev, rel=0.02)
    columns = np.corrcoef(rows.T) - np.eye(4)
    assert np.abs(columns).max() < 0.03


@pytest.mark.parametrize("initializer, mean, stddev", RANDOM)
def test_a_row_depends_on_seed_name_and_key_alone(initializer, mean, stddev):
    if isinstance(initializer, str):
        return  # has a seed of its own each time
    one = de.Variable(name="same", dim=4, initializer=initializer)
    two = de.Variable(name="same", dim=4, initializer=initializer, devices=["/CPU:0"] * 3)
    three = de.Variable(name="other", dim=4, initializer=initializer)
    rows = one.lookup(KEYS[:100]).numpy()
    np.testing.assert_array_equal(rows, two.lookup(KEYS[:100]))
    np.testing.assert_array_equal(rows[::-1], one.lookup(KEYS[:100][::-1]))
    assert not np.array_equal(rows, three.lookup(KEYS[:100]))


@pytest.mark.parametrize(
    "initializer, row",
    [
        (None, [0.0, 0.0]),
        (0.25, [0.25, 0.25]),
        (3, [3.0, 3.0]),
        (np.float32(1e-20), [1e-20, 1e-20]),
        (np.array([2.0]), [2.0, 2.0]),
        ([1.0, -1.0], [1.0, -1.0]),
        (tf.constant([1.0, -1.0]), [1.0, -1.0]),
        (KERAS.Constant(0.1), [0.1, 0.1]),
        (KERAS.Ones, [1.0, 1.0]),
        (V1.zeros_initializer(), [0.0, 0.0]),
        (V1.constant_initializer([1.0, 2.0]), [1.0, 2.0]),
        (lambda: 5.0, [5.0, 5.0]),
        (lambda shape: tf.fill(shape, 7.0), [7.0, 7.0]),
    ],
)
@pytest.mark.parametrize("devices", [None, ["/CPU:0"] * 2])
def test_constants(initializer, row, devices):
    made = table(dim=2, initializer=initializer, devices=devices)
    np.testing.assert_array_equal(
        made.lookup([[1, 2], [3, 4]]), np.tile(np.float32(row), (2, 2, 1))
    )
    np.testing.assert_array_equal(
        tf.nn.embedding_lookup(made, tf.constant([9], tf.int64)), [np.float32(row)]
    )


@pytest.mark.parametrize("initializer", [[1.0, -1.0], lambda shape: tf.fill(shape, 7.0), 0.5])
@pytest.mark.parametrize("devices", [None, ["/CPU:0"] * 2])
def test_training_starts_from_the_first_row(initializer, devices):
    made = table(dim=2, initializer=initializer, devices=devices)
    before = made.lookup([1, 2]).numpy()
    ids = tf.constant([1, 2, 2], tf.int64)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.nn.embedding_lookup(made, ids))
    tf.keras.optimizers.SGD(1.0).apply(tape.gradient(loss, [made]), [made])
    np.testing.assert_array_equal(made.lookup([1, 2]), before - [[1.0], [2.0]])
    assert made.size().numpy() == 2


def test_the_global_seed_decides_where_there_is_no_other():
    def rows() -> np.ndarray:
        tf.random.set_seed(5)
        made = de.Variable(name="x", dim=3, initializer=tf.random_normal_initializer())
        return made.lookup([1, 2, 3]).numpy()

    np.testing.assert_array_equal(rows(), rows())
    tf.random.set_seed(None)


def test_what_is_no_initializer_is_refused():
    def two(a, b):
        return a + b

    with pytest.raises(ValueError, match="can be called"):
        table(dim=2, initializer=two).lookup([1])
