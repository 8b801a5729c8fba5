"""TensorFlow's own lookups, and TFRA's, on a table and on a dense variable with the same rows."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from taco.tf import dynamic_embedding as de

from tests.tf._tables import filled, random_rows, table

ROWS = random_rows(10, 3)
DEVICES = [None, ["/CPU:0"] * 3]
COMBINERS = ["sum", "mean", "sqrtn"]
RAGGED = tf.ragged.constant([[1, 5, 5], [2], [9, 0]], dtype=tf.int64)
WEIGHTS = tf.ragged.constant([[0.5, 2.0, 1.0], [3.0], [1.5, 0.25]])
SAFE_IDS = tf.SparseTensor(
    [[0, 0], [0, 2], [2, 1], [3, 0]], tf.constant([1, 5, 2, 7], tf.int64), [5, 3]
)
SAFE_WEIGHTS = tf.SparseTensor([[0, 0], [0, 2], [2, 1], [3, 0]], [1.0, 2.0, 0.5, -1.0], [5, 3])


def _pair(devices):
    return filled(range(10), ROWS, devices=devices), tf.Variable(ROWS)


def _compare(lookup, devices, in_function):
    """`lookup(params)` and its gradient are the same for a table and for a dense variable."""
    made, dense = _pair(devices)

    def value_and_gradient(params):
        with tf.GradientTape() as tape:
            value = lookup(params)
            loss = tf.reduce_sum(tf.square(value) * 0.5)
        return value, tape.gradient(loss, [params])[0]

    run = tf.function(value_and_gradient) if in_function else value_and_gradient
    value, gradient = run(made)
    expected, expected_gradient = value_and_gradient(dense)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert value.shape == expected.shape
    assert isinstance(gradient, tf.IndexedSlices)
    summed = np.zeros_like(ROWS)
    np.add.at(summed, gradient.indices.numpy(), gradient.values.numpy())
    np.testing.assert_allclose(
        summed, tf.convert_to_tensor(expected_gradient), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("in_function", [False, True])
@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize(
    "ids",
    [
        tf.constant([3, 3, 0, 9], tf.int64),
        tf.constant([[3, 3], [0, 9]], tf.int32),
        tf.constant(4, tf.int64),
        tf.zeros([0], tf.int64),
    ],
)
@pytest.mark.parametrize("max_norm", [None, 0.5])
def test_nn_embedding_lookup(ids, devices, max_norm, in_function):
    if max_norm and ids.shape.num_elements() == 0:
        max_norm = None
    _compare(
        lambda params: tf.nn.embedding_lookup(params, ids, max_norm=max_norm),
        devices,
        in_function,
    )


@pytest.mark.parametrize("devices", DEVICES)
def test_gather(devices):
    _compare(lambda params: tf.gather(params, [[1, 2], [2, 2]]), devices, True)


@pytest.mark.parametrize("devices", DEVICES)
def test_nn_embedding_lookup_of_ragged_ids(devices):
    made, dense = _pair(devices)
    found = tf.nn.embedding_lookup(made, RAGGED)
    assert found.to_list() == tf.nn.embedding_lookup(dense, RAGGED).to_list()
    assert de.embedding_lookup(made, RAGGED).to_list() == found.to_list()


@pytest.mark.parametrize("in_function", [False, True])
@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("combiner", COMBINERS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("max_norm", [None, 0.5])
def test_nn_embedding_lookup_sparse(in_function, devices, combiner, weighted, ragged, max_norm):
    ids = RAGGED if ragged else RAGGED.to_sparse()
    weights = None if not weighted else WEIGHTS if ragged else WEIGHTS.to_sparse()
    _compare(
        lambda params: tf.nn.embedding_lookup_sparse(
            params, ids, weights, combiner=combiner, max_norm=max_norm
        ),
        devices,
        in_function,
    )


@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("combiner", COMBINERS)
@pytest.mark.parametrize("weights", [None, SAFE_WEIGHTS])
@pytest.mark.parametrize("default_id", [None, 3])
def test_nn_safe_embedding_lookup_sparse(devices, combiner, weights, default_id):
    _compare(
        lambda params: tf.nn.safe_embedding_lookup_sparse(
            params, SAFE_IDS, weights, combiner=combiner, default_id=default_id
        ),
        devices,
        True,
    )


@pytest.mark.parametrize("combiner", COMBINERS)
@pytest.mark.parametrize("weights", [None, SAFE_WEIGHTS])
@pytest.mark.parametrize("default_id", [None, 3])
def test_own_safe_lookup_is_tensorflows(combiner, weights, default_id):
    made, dense = _pair(None)
    ours = de.safe_embedding_lookup_sparse(made, SAFE_IDS, weights, combiner, default_id)
    theirs = tf.nn.safe_embedding_lookup_sparse(dense, SAFE_IDS, weights, combiner, default_id)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert ours.shape == theirs.shape


def test_own_safe_lookup_takes_negative_ids():
    made = filled([-5], [[1.0, 2.0]])
    ids = tf.SparseTensor([[0, 0]], tf.constant([-5], tf.int64), [2, 2])
    np.testing.assert_array_equal(
        de.safe_embedding_lookup_sparse(made, ids), [[1.0, 2.0], [0.0, 0.0]]
    )


@pytest.mark.parametrize("combiner", COMBINERS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
def test_own_sparse_lookup_is_tensorflows(combiner, weighted, ragged):
    made, dense = _pair(None)
    ids = RAGGED if ragged else RAGGED.to_sparse()
    weights = None if not weighted else WEIGHTS if ragged else WEIGHTS.to_sparse()
    ours, wrapper = de.embedding_lookup_sparse(
        made, ids, weights, combiner=combiner, return_trainable=True
    )
    theirs = tf.nn.embedding_lookup_sparse(dense, ids, weights, combiner=combiner)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert wrapper.params is made


def test_unique_lookup_is_the_plain_one():
    made, _ = _pair(None)
    ids = tf.constant([[3, 3], [0, 3]], tf.int64)
    np.testing.assert_array_equal(
        de.embedding_lookup_unique(made, ids), tf.nn.embedding_lookup(made, ids)
    )


def test_lookups_insert_nothing():
    made = table(dim=2, initializer="random_normal")
    tf.nn.embedding_lookup(made, tf.range(100, dtype=tf.int64))
    assert made.size().numpy() == 0


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_half_precision_rows(dtype):
    made = table(dim=2, value_dtype=dtype, initializer=0.5)
    ids = tf.constant([1, 2], tf.int64)
    with tf.GradientTape() as tape:
        value = tf.nn.embedding_lookup(made, ids)
        loss = tf.reduce_sum(value)
    assert value.dtype == dtype
    assert tape.gradient(loss, [made])[0].values.dtype == dtype


def test_types_are_checked():
    made = table()
    with pytest.raises(TypeError, match="should be the same"):
        de.embedding_lookup(made, tf.constant([1], tf.int32))
    with pytest.raises(TypeError, match="cast"):
        tf.nn.embedding_lookup(table(key_dtype=tf.int32), tf.constant([1], tf.int64))
    with pytest.raises(TypeError, match="Variable instance"):
        de.embedding_lookup(tf.Variable([[1.0]]), tf.constant([1], tf.int64))
    with pytest.raises(ValueError, match="Only one params"):
        de.embedding_lookup([made, made], tf.constant([1], tf.int64))
    with pytest.raises(ValueError, match="combiner"):
        de.embedding_lookup_sparse(made, RAGGED, combiner="max")
    with pytest.raises(TypeError, match="sp_ids"):
        de.embedding_lookup_sparse(made, tf.constant([[1]], tf.int64))


def test_a_table_is_an_argument_of_a_function():
    one, two = filled([1], [[1.0]]), filled([1], [[2.0]])

    @tf.function
    def look(params, ids):
        return tf.nn.embedding_lookup(params, ids)

    ids = tf.constant([1], tf.int64)
    assert look(one, ids).numpy().tolist() == [[1.0]]
    assert look(two, ids).numpy().tolist() == [[2.0]]


def test_xla_is_refused_with_the_remedy():
    made = table()

    @tf.function(jit_compile=True)
    def look(ids):
        return tf.nn.embedding_lookup(made, ids)

    with pytest.raises(NotImplementedError, match="jit_compile"):
        look(tf.constant([1], tf.int64))


def test_an_untrainable_table_gets_no_gradient():
    made = table(trainable=False)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.nn.embedding_lookup(made, tf.constant([1], tf.int64)))
    assert tape.gradient(loss, [made]) == [None]


def test_each_wrapper_has_the_gradient_of_its_own_lookup():
    made = table(dim=1)
    with tf.GradientTape() as tape:
        one, first = de.embedding_lookup(made, tf.constant([1], tf.int64), return_trainable=True)
        two, second = de.embedding_lookup(made, tf.constant([2], tf.int64), return_trainable=True)
        loss = tf.reduce_sum(one) + 3.0 * tf.reduce_sum(two)
    gradients = tape.gradient(loss, [first, second])
    assert [g.indices.numpy().tolist() for g in gradients] == [[1], [2]]
    assert [g.values.numpy().tolist() for g in gradients] == [[[1.0]], [[3.0]]]
    assert de.trainable_wrapper_filter([first, 5]) == ((5,), (first,))


def test_a_wrapper_is_the_rows_it_looked_up():
    made = filled([1, 2], [[1.0], [2.0]])
    _, wrapper = de.embedding_lookup(made, tf.constant([2, 1], tf.int64), return_trainable=True)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(wrapper * wrapper)
    assert float(loss) == 5.0
    gradient = tape.gradient(loss, [wrapper])[0]  # of two reads
    assert gradient.indices.numpy().tolist() == [2, 1, 2, 1]
    assert gradient.values.numpy().tolist() == [[2.0], [1.0], [2.0], [1.0]]
    np.testing.assert_array_equal(wrapper.numpy(), [[2.0], [1.0]])
    wrapper.params.remove([1])
    wrapper.update_op()
    assert made.lookup([1], return_exists=True)[1].numpy().tolist() == [True]
