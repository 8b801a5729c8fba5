"""What cannot be right is refused, with the cause and the remedy, and nothing is changed."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from taco.tf import dynamic_embedding as de
from taco.tf.keras import Embedding

from tests.tf._tables import filled, table

v1 = tf.compat.v1
IDS = tf.constant([1, 2], tf.int64)
TWO = ["/CPU:0"] * 2

OPTIMIZERS = {
    "keras": lambda: keras.optimizers.Adam(1.0),
    "keras, clipped": lambda: keras.optimizers.SGD(1.0, clipnorm=1.0),
    "keras, scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0)),
    "v1": lambda: v1.train.GradientDescentOptimizer(1.0),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("shape", [(4, 2), (8,), (3, 4), (2, 1, 4), (1, 8), (2, 3)])
def test_gradients_of_another_shape(optimizer, shape):
    made = filled([1, 2], np.zeros((2, 4)))
    slices = tf.IndexedSlices(tf.ones(shape), IDS)
    with pytest.raises(ValueError, match="one row of 4 values for each index"):
        OPTIMIZERS[optimizer]().apply_gradients([(slices, made)])
    assert not made.lookup([1, 2]).numpy().any()


@pytest.mark.parametrize("shape", [(4, 2), (8,), (1, 8), (2, 1, 4)])
def test_gradients_whose_shape_only_the_run_knows(shape):
    with tf.Graph().as_default(), v1.Session() as session:
        made = table(dim=4)
        values = v1.placeholder(tf.float32)
        slices = tf.IndexedSlices(values, tf.constant([1, 2], tf.int64))
        train = v1.train.GradientDescentOptimizer(1.0).apply_gradients([(slices, made)])
        session.run(v1.global_variables_initializer())
        if shape == (2, 1, 4):
            session.run(train, {values: np.ones(shape)})  # the rows are right
            return
        with pytest.raises(tf.errors.InvalidArgumentError, match="one row of dim 4"):
            session.run(train, {values: np.ones(shape)})


def test_gradients_with_indices_that_are_no_keys():
    slices = tf.IndexedSlices(tf.ones([2, 4]), tf.constant([1.0, 2.0]))
    with pytest.raises(TypeError, match="float32 indices"):
        keras.optimizers.SGD(1.0).apply_gradients([(slices, table(dim=4))])


def test_gradients_made_by_hand_with_numpy():
    made = table(dim=2)
    slices = tf.IndexedSlices(np.ones((2, 2), np.float32), np.array([1, 2]))
    keras.optimizers.SGD(1.0).apply_gradients([(slices, made)])
    assert made.lookup([1, 2]).numpy().tolist() == [[-1.0, -1.0]] * 2


@pytest.mark.parametrize("name", [None, 5, b"bytes"])
@pytest.mark.parametrize("make", [de.get_variable, lambda name: de.Variable(name=name)])
def test_names_that_are_no_strings(make, name):
    with pytest.raises(TypeError, match="name of a table must be a string"):
        make(name)


@pytest.mark.parametrize("make", [de.get_variable, lambda name: de.Variable(name=name)])
def test_an_empty_name(make):
    with pytest.raises(ValueError, match="name of a table must not be empty"):
        make("")


@pytest.mark.parametrize("flag", ["trainable", "checkpoint"])
@pytest.mark.parametrize("value", ["maybe", None, 1])
def test_flags_that_are_no_bools(flag, value):
    with pytest.raises(TypeError, match=f"{flag} must be True or False, and is {value!r}"):
        table(**{flag: value})
    assert table(trainable=np.False_).trainable is False


WRITES = {
    "upsert": lambda made, values: made.upsert(IDS, values),
    "import_": lambda made, values: made.import_(IDS, values),
    "accum": lambda made, values: made.accum(IDS, values, values, [False, False]),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("value_dtype", [tf.float32, tf.bfloat16])
def test_values_of_another_type(write, value_dtype):
    made = filled([7], np.ones((1, 4)), value_dtype=value_dtype)
    for values in (tf.ones([2, 4], tf.float64), tf.ones([2, 4], tf.int32)):
        expected = f"rows of {value_dtype.name}, and was given {values.dtype.name}: tf.cast"
        with pytest.raises(TypeError, match=f"table '{made.name}' has {expected}"):
            WRITES[write](made, values)
    for values in ([["a"] * 4] * 2, np.array([["a"] * 4] * 2), None, object(), [[1.0], [1.0, 2]]):
        with pytest.raises((TypeError, ValueError), match=f"table '{made.name}' has rows of"):
            WRITES[write](made, values)
    assert made.export()[0].numpy().tolist() == [7]
    WRITES[write](made, np.ones((2, 4)))
    assert int(made.size()) == (2 if write == "import_" else 3)


@pytest.mark.parametrize(
    ("initializer", "error", "message"),
    [
        (lambda: "x", TypeError, "must give numbers, and gave string"),
        (lambda shape: tf.cast(tf.ones(shape), tf.bool), TypeError, "numbers, and gave bool"),
        (lambda: tf.ones([3]), ValueError, r"gave values of shape \(3,\), where rows of 4"),
        (lambda: None, TypeError, "must give numbers, and gave NoneType"),
    ],
)
def test_initializers_that_give_no_rows(initializer, error, message):
    made = table(initializer=initializer)
    with pytest.raises(error, match=f"initializer .*{message}"):
        made.lookup([1])


@pytest.mark.parametrize("max_norm", ["x", True, [1.0]])
def test_norms_that_are_no_numbers(max_norm):
    with pytest.raises(TypeError, match="max_norm must be a number or None"):
        de.embedding_lookup(table(), IDS, max_norm=max_norm)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, [1.0, float("nan")]])
def test_initializers_that_are_no_finite_numbers(value):
    with pytest.raises(ValueError, match="no finite float32"):
        table(dim=2, initializer=value)
    with pytest.raises(ValueError, match="no finite float16"):
        table(dim=2, initializer=1e6, value_dtype=tf.float16)


def test_initializers_of_keras_that_are_no_finite_numbers():
    for made in (keras.initializers.Constant(np.nan), keras.initializers.RandomNormal(0, np.nan)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="must be finite numbers"):
            table(initializer=made)
    with pytest.raises(TypeError, match="initializer must be None, a number"):
        table(initializer=object())


@pytest.mark.parametrize(
    ("partitioner", "error", "gave"),
    [
        (lambda keys, n: tf.fill(tf.shape(keys), 2), ValueError, "gave 2"),
        (lambda keys, n: tf.fill(tf.shape(keys), -1), ValueError, "gave -1"),
        (lambda keys, n: tf.cast(keys, tf.int64) + 2**32, ValueError, "gave 4294967297"),
        (lambda keys, n: tf.cast(keys, tf.float32), TypeError, "gave float32"),
        (lambda keys, n: tf.constant([0]), ValueError, r"gave shape \(1,\)"),
        (lambda keys, n: None, TypeError, "gave NoneType"),
    ],
)
def test_partitioners_that_name_no_device(partitioner, error, gave):
    made = table(dim=1, devices=TWO, partitioner=partitioner)
    with pytest.raises(error, match=f"partitioner of table '{made.name}' must give.*{gave}"):
        made.upsert(IDS, tf.ones([2, 1]))
    assert int(made.size()) == 0


def test_partitioners_that_name_no_device_in_a_function():
    made = table(dim=1, devices=TWO, partitioner=lambda keys, n: tf.cast(keys, tf.int32))
    look = tf.function(lambda keys: tf.nn.embedding_lookup(made, keys))
    assert look(tf.constant([0, 1], tf.int64)).shape == (2, 1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="partitioner of table"):
        look(tf.constant([0, 7], tf.int64))


def test_partitioners_that_cannot_be_called():
    with pytest.raises(TypeError, match="partitioner must be a function"):
        table(devices=TWO, partitioner=3)


def test_indices_of_tables_that_are_not_there():
    made = table(devices=TWO)
    for index in (2, -3):
        with pytest.raises(IndexError, match=f"has 2 tables.*none of index {index}"):
            made.size(index)
    for index in ("a", 1.0, True):
        with pytest.raises(TypeError, match="an integer"):
            made.size(index)
    assert [int(made.size(i)) for i in (0, np.int64(1), -1)] == [0, 0, 0]


SPARSE = tf.sparse.from_dense(tf.constant([[1, 2]], tf.int64))


@pytest.mark.parametrize(
    "lookup",
    [
        lambda p: tf.nn.embedding_lookup(p, IDS),
        lambda p: v1.nn.embedding_lookup(p, IDS),
        lambda p: v1.nn.embedding_lookup(p, IDS, partition_strategy="div"),
        lambda p: tf.nn.embedding_lookup_sparse(p, SPARSE, None),
        lambda p: tf.nn.safe_embedding_lookup_sparse(p, SPARSE),
        lambda p: v1.nn.safe_embedding_lookup_sparse(p, SPARSE),
    ],
)
def test_lists_of_tables(lookup):
    made = table()
    lookup([made])
    for others in (table(), tf.Variable(tf.ones([4, 4]))):
        with pytest.raises(ValueError, match="one table at a time"):
            lookup([made, others])
    lookup([tf.Variable(tf.ones([4, 4])), tf.Variable(tf.ones([4, 4]))])


@pytest.mark.parametrize("arguments", [{"axis": 1}, {"axis": -2}, {"batch_dims": 1}])
def test_gathers_along_another_axis(arguments):
    with pytest.raises(NotImplementedError, match="axis=0 and without batch_dims"):
        tf.gather(table(), IDS, **arguments)


names = (f"again_{number}" for number in itertools.count())


@pytest.mark.parametrize(
    ("first", "second", "differs"),
    [
        ({}, {"dim": 5}, "dim = 4.*dim = 5"),
        ({}, {"key_dtype": tf.int32}, "key_dtype = int64.*key_dtype = int32"),
        ({}, {"value_dtype": tf.bfloat16}, "value_dtype = float32.*value_dtype = bfloat16"),
        ({"initializer": 1.0}, {"initializer": 2.0}, "initializer = constant:1.0.*constant:2.0"),
        ({}, {"initializer": 2.0}, "initializer = zeros.*initializer = constant:2.0"),
        ({"initializer": [1.0, 2, 3, 4]}, {"initializer": [4.0, 3, 2, 1]}, r"1.0, 2.0.*4.0, 3.0"),
        (
            {"initializer": keras.initializers.RandomNormal(0, 1, seed=1)},
            {"initializer": keras.initializers.RandomNormal(0, 1, seed=2)},
            "seed 1.*seed 2",
        ),
        ({"initializer": "zeros"}, {"initializer": "glorot_uniform"}, "zeros.*uniform"),
        ({}, {"devices": TWO}, "devices = .*CPU:0"),
        ({}, {"trainable": False}, "trainable = True.*trainable = False"),
        ({}, {"checkpoint": False}, "checkpoint = True.*checkpoint = False"),
        ({}, {"restrict_policy": de.TimestampRestrictPolicy}, "None.*TimestampRestrictPolicy"),
    ],
)
def test_get_variable_again_with_other_arguments(first, second, differs):
    arguments = {"dim": 4, **first}
    name = next(names)
    made = de.get_variable(name, **arguments)
    assert de.get_variable(name, dim=4) is made
    with pytest.raises(ValueError, match=f"already exists with .*{differs}.*another name"):
        de.get_variable(name, **{**arguments, **second})


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: {},
        lambda: {"initializer": 0.5},
        lambda: {"initializer": np.arange(4.0)},
        lambda: {"initializer": tf.keras.initializers.RandomNormal(0, 0.1)},
        lambda: {"initializer": v1.truncated_normal_initializer()},
        lambda: {"initializer": "glorot_uniform"},
        lambda: {"initializer": "orthogonal"},
        lambda: {"initializer": keras.initializers.HeNormal},
        lambda: {"initializer": lambda shape: tf.ones(shape)},
        lambda: {"devices": list(TWO), "trainable": False, "checkpoint": False, "init_size": 5},
        lambda: {"dim": np.int64(4), "restrict_policy": de.FrequencyRestrictPolicy},
    ],
)
def test_get_variable_again_with_the_same_arguments(make, in_graph):
    name = next(names)
    with (
        tf.Graph().as_default() if in_graph else tf.init_scope(),
        v1.variable_scope("s", reuse=v1.AUTO_REUSE),
    ):
        made = de.get_variable(name, **{"dim": 4, **make()})
        assert de.get_variable(name, **{"dim": 4, **make()}) is made


def test_layers_take_integers_of_numpy_and_refuse_others():
    layer = Embedding(np.int64(4), init_size=np.int32(3))
    assert layer(np.array([[1]])).shape == (1, 1, 4)
    model = keras.Sequential([keras.Input((1,), dtype="int64"), layer])
    assert type(keras.models.model_from_json(model.to_json()).layers[0].output_dim) is int
    for dim in (0, -1, 4.0, "4", True, None):
        with pytest.raises(ValueError, match="output_dim must be a positive integer"):
            Embedding(dim)
    with pytest.raises(ValueError, match="init_size must be an integer, 0 or more"):
        Embedding(4, init_size=1.5)
    with pytest.raises(TypeError, match="init_size must be an integer"):
        table(init_size="3")
    with pytest.raises(TypeError, match="no input_dim"):
        Embedding(10, np.int64(4))


def test_layers_given_bools():
    for ids in (np.array([[True]]), keras.Input((1,), dtype="bool")):
        with pytest.raises(TypeError, match="given bool: a mask in place of ids"):
            Embedding(4)(ids)


def test_layers_given_unsigned_ids():
    ids = np.array([[2**64 - 1], [2**63]], np.uint64)
    with pytest.raises(TypeError, match="has int32 ids, and was given uint64"):
        Embedding(4, key_dtype="int32")(ids)
    model = keras.Sequential(
        [keras.Input((1,), dtype="int64"), Embedding(1), keras.layers.Flatten()]
    )
    model.compile("sgd", "mse")
    model.fit(ids, np.ones((2, 1)), verbose=0)
    made = model.layers[0].table
    assert sorted(made.export()[0].numpy().tolist()) == [-(2**63), -1]
    assert np.array_equal(model.predict(ids, verbose=0), made.lookup(ids)[:, 0].numpy())
    assert np.array_equal(model.layers[0](ids)[:, 0].numpy(), made.lookup(ids)[:, 0].numpy())


def test_layers_given_floats_in_fit():
    model = keras.Sequential([Embedding(1), keras.layers.Flatten()])
    model.compile("sgd", "mse")
    with pytest.raises(TypeError, match=r"given float32 \(to which Keras casts float arrays"):
        model.fit(np.ones((2, 1)), np.ones((2, 1)), verbose=0)


def test_layers_given_what_a_table_cannot_have():
    with pytest.raises(ValueError, match="embeddings_constraint is not supported.*UnitNorm"):
        Embedding(4, embeddings_constraint="unit_norm")
    with pytest.raises(ValueError, match="leave lora_rank out"):
        Embedding(4, lora_rank=2)
    with pytest.raises(ValueError, match="LoRA is not supported"):
        Embedding(4).enable_lora(2)
