"""`taco.tf.keras.Embedding` is keras.layers.Embedding without input_dim."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from taco.tf.keras import Embedding

IDS = np.array([[5, -1, 0], [2**62, 5, 7]])


def bag_model(layer: keras.layers.Layer) -> keras.Model:
    return keras.Sequential(
        [
            layer,
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(1, kernel_initializer="ones"),
        ]
    )


def rows(layer: Embedding, ids: list[int]) -> np.ndarray:
    return layer.table.lookup(tf.constant(ids, layer.table.key_dtype)).numpy()


def test_fit_inserts_exactly_the_ids_seen() -> None:
    model = bag_model(Embedding(4))
    model.compile("adam", "mse")
    model.fit(IDS, np.ones(2), verbose=0)
    keys, values = model.layers[0].table.export()
    assert sorted(keys.numpy().tolist()) == [-1, 0, 5, 7, 2**62]
    assert values.shape == (5, 4)


def test_predict_inserts_nothing() -> None:
    model = bag_model(Embedding(4))
    model.predict(IDS, verbose=0)
    assert int(model.layers[0].table.size()) == 0


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad"])
def test_trains_as_the_stock_layer_does(optimizer: str) -> None:
    rng = np.random.default_rng(1)
    # No id twice in a batch: Keras's Adagrad squares the gradients of duplicates one by one.
    ids = np.concatenate([rng.permutation(50)[:24].reshape(8, 3) for _ in range(8)])
    targets = rng.normal(size=64).astype(np.float32)
    first = rng.normal(size=(50, 4)).astype(np.float32)

    def train(layer: keras.layers.Layer) -> np.ndarray:
        model = bag_model(layer)
        model.compile(keras.optimizers.get({"class_name": optimizer, "config": {}}), "mse")
        model.fit(ids, targets, batch_size=8, epochs=2, shuffle=False, verbose=0)
        return model.predict(ids, verbose=0)

    stock = train(keras.layers.Embedding(50, 4, weights=first))
    ours = train(Embedding(4, weights=first))
    np.testing.assert_allclose(ours, stock, rtol=1e-5, atol=1e-6)


def test_functional_model_with_mask() -> None:
    inputs = keras.Input((None,), dtype="int64")
    embedded = Embedding(2, "ones", mask_zero=True)(inputs)
    assert embedded.shape == (None, None, 2)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(embedded))
    layer = model.layers[1]
    layer.build()
    layer.table.upsert(tf.constant([3], tf.int64), tf.constant([[5.0, 5.0]]))
    # Id 0 is left out of the mean.
    np.testing.assert_allclose(model(np.array([[3, 1, 0, 0]])), [[3.0, 3.0]])
    assert layer.compute_mask(tf.constant([[3, 0]])).numpy().tolist() == [[True, False]]
    assert Embedding(2).compute_mask(tf.constant([[3, 0]])) is None


def test_subclassed_model_and_custom_loop() -> None:
    class Model(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = Embedding(4, "zeros")
            self.dense = keras.layers.Dense(1, kernel_initializer="ones")

        def call(self, ids: tf.Tensor) -> tf.Tensor:
            return self.dense(tf.reduce_sum(self.embedding(ids), 1))

    model = Model()
    optimizer = keras.optimizers.SGD(1.0)
    ids = tf.constant(IDS)

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(ids))
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    model(ids)
    step()
    # d loss / d row = number of occurrences.
    np.testing.assert_allclose(rows(model.embedding, [5, 7, 6]), [[-2] * 4, [-1] * 4, [0] * 4])


def test_the_optimizer_makes_no_slots_for_the_table() -> None:
    model = bag_model(Embedding(4))
    model.compile("adam", "mse")
    model.fit(IDS, np.ones(2), verbose=0)
    # iterations, learning rate, and two moments of kernel and bias each.
    assert len(model.optimizer.variables) == 6
    assert model.layers[0].table.stats()["optimizer"].lower().startswith("adam")


def test_ragged_and_sparse_ids_as_in_the_stock_layer() -> None:
    first = np.arange(8, dtype=np.float32).reshape(4, 2)
    ours, stock = Embedding(2, weights=first), keras.layers.Embedding(4, 2, weights=first)
    ragged = tf.ragged.constant([[1, 2], [3]], dtype=tf.int64)
    assert ours(ragged).to_list() == stock(ragged).to_list()
    sparse = tf.sparse.from_dense(tf.constant([[1, 0, 3], [0, 2, 0]], tf.int64))
    np.testing.assert_array_equal(ours(sparse), stock(sparse))


def test_mixed_precision_keeps_float32_rows() -> None:
    layer = Embedding(4, dtype="mixed_bfloat16")
    assert layer(IDS).dtype == tf.bfloat16
    assert layer.table.value_dtype == tf.float32
    model = bag_model(layer)
    model.compile("adam", "mse")
    model.fit(IDS, np.ones(2), verbose=0)
    assert int(layer.table.size()) == 5


def test_bfloat16_rows() -> None:
    layer = Embedding(4, dtype="bfloat16")
    assert layer(IDS).dtype == tf.bfloat16
    assert layer.table.value_dtype == tf.bfloat16


def test_config_round_trip_keeps_initial_rows() -> None:
    layer = Embedding(
        3, "normal", embeddings_regularizer="l2", mask_zero=True, key_dtype="int32", name="items"
    )
    again = Embedding.from_config(layer.get_config())
    for each in (layer, again):
        each.build()
    assert again.get_config() == layer.get_config()
    np.testing.assert_array_equal(rows(again, [1, -9]), rows(layer, [1, -9]))
    assert rows(layer, [1]).any()


def test_clone_model() -> None:
    model = bag_model(Embedding(4))
    model.build((None, 3))
    clone = keras.models.clone_model(model)
    assert clone.layers[0].table is not model.layers[0].table


@pytest.mark.parametrize("how", ["constructor", "attribute"])
def test_frozen_layer_does_not_train(how: str) -> None:
    layer = Embedding(4, trainable=how != "constructor")
    model = bag_model(layer)
    if how == "attribute":
        layer.trainable = False
    model.compile("adam", "mse")
    model.fit(IDS, np.ones(2), verbose=0)
    assert int(layer.table.size()) == 0
    assert len(model.trainable_variables) == 2
    assert len(model.non_trainable_variables) == 1


def test_regularizer_sees_each_looked_up_row_once() -> None:
    layer = Embedding(2, "ones", embeddings_regularizer=keras.regularizers.L2(0.5))
    layer(np.array([[1, 1, 2]]))
    assert float(sum(layer.losses)) == pytest.approx(0.5 * 2 * 2)
    model = bag_model(layer)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(np.array([[1, 1, 2]]), np.ones(1), verbose=0)


def test_counts_and_summary() -> None:
    model = bag_model(Embedding(4))
    model.build((None, 3))
    assert model.count_params() == 5
    model.layers[0].table.upsert(tf.range(10, dtype=tf.int64), tf.ones([10, 4]))
    assert model.count_params() == 45
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    assert any("Embedding" in line or "embedding" in line for line in "\n".join(lines).split("\n"))
    assert "TableWeight" in repr(model.weights[0])


def test_get_and_set_weights_bring_rows_and_slots_back() -> None:
    model = bag_model(Embedding(4))
    model.compile("adam", "mse")
    model.fit(IDS, np.ones(2), verbose=0)
    saved = model.get_weights()
    assert saved[0].shape == (5, 4)
    assert saved[0].keys.tolist() == [-1, 0, 5, 7, 2**62]
    before = model.predict(IDS, verbose=0)
    model.fit(IDS + 100, np.ones(2), epochs=3, verbose=0)
    model.set_weights(saved)
    np.testing.assert_array_equal(model.predict(IDS, verbose=0), before)
    assert int(model.layers[0].table.size()) == 5


def test_early_stopping_restores_the_best_rows() -> None:
    model = bag_model(Embedding(4))
    model.compile(keras.optimizers.SGD(10.0), "mse")  # diverges
    stop = keras.callbacks.EarlyStopping("loss", restore_best_weights=True)
    history = model.fit(IDS, np.ones(2), epochs=5, verbose=0, callbacks=[stop])
    assert len(history.history["loss"]) == 2
    assert np.isfinite(model.get_weights()[0]).all()


def test_set_weights_refuses_a_matrix() -> None:
    layer = Embedding(4)
    layer.build()
    with pytest.raises(TypeError, match="upsert"):
        layer.set_weights([np.ones((5, 4))])
    with pytest.raises(ValueError, match="shape"):
        layer.set_weights([np.ones((5, 3))])


def test_initial_weights() -> None:
    matrix = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(rows(Embedding(2, weights=[matrix]), [0, 1, 2]), matrix)
    np.testing.assert_array_equal(
        rows(Embedding(2, weights=([9, -9], matrix[:2])), [9, -9]), matrix[:2]
    )
    with pytest.raises(ValueError, match=r"\(3, 5\)"):
        Embedding(5, weights=matrix)


def test_xla_is_not_tried() -> None:
    model = bag_model(Embedding(4))
    model.compile("adam", "mse", jit_compile="auto")
    assert model.jit_compile is False


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"output_dim": 0}, ValueError, "output_dim"),
        ({"output_dim": 4, "input_dim": 10}, TypeError, "on demand"),
        ({"output_dim": 4, "embeddings_constraint": "non_neg"}, ValueError, "constraint"),
        ({"output_dim": 4, "lora_rank": 2}, ValueError, "LoRA"),
        ({"output_dim": 4, "key_dtype": "string"}, ValueError, "key_dtype"),
    ],
)
def test_refusals(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Embedding(**arguments)


def test_ids_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TypeError, match="hash"):
        Embedding(4)(tf.constant(["a"]))
    with pytest.raises(TypeError, match="int32"):
        Embedding(4, key_dtype="int32")(tf.constant([1], tf.int64))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("first", [300, 70_000, 2**24, 2**40, 2**60])
def test_neighbouring_ids_stay_apart_in_a_sequential_model(policy, first) -> None:
    ids = first + np.arange(20).reshape(4, 5)
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = bag_model(Embedding(4))
        model.compile(keras.optimizers.SGD(0.01), "mse")
        model.predict(ids, verbose=0)
        model.fit(ids, np.ones(4), batch_size=4, epochs=20, verbose=0)  # some skip: loss scaling
    finally:
        keras.mixed_precision.set_global_policy("float32")
    keys, _ = model.layers[0].table.export()
    assert sorted(keys.numpy().tolist()) == ids.ravel().tolist()


def test_a_sequential_model_saves_loads_and_exports_with_its_integer_input(tmp_path) -> None:
    ids = 2**40 + np.arange(20).reshape(4, 5)
    model = bag_model(Embedding(4))
    model.compile("adam", "mse")
    model.fit(ids, np.ones(4), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(ids, verbose=0), model.predict(ids, verbose=0))
    model.export(tmp_path / "exported", verbose=False)
    serve = tf.saved_model.load(str(tmp_path / "exported")).signatures["serving_default"]
    (spec,) = serve.structured_input_signature[1].values()
    assert spec.dtype == tf.int64


@pytest.mark.parametrize(
    "use",
    [
        lambda layer: layer(np.ones((2, 3), np.float32)),
        lambda layer: layer(np.ones((2, 3), bool)),
        lambda layer: layer(keras.Input((3,))),
        lambda layer: keras.Sequential([keras.Input((3,)), layer]),
    ],
    ids=["float", "bool", "functional", "sequential"],
)
def test_ids_that_are_no_integers_are_refused_with_the_remedy(use) -> None:
    with pytest.raises(TypeError, match=r"integer ids.*int64"):
        use(Embedding(4))


@pytest.mark.parametrize("with_input", [False, True])
@pytest.mark.parametrize("ids", [[[1.5]], [[float("nan")]], [[1.0]], [[True]]])
def test_a_sequential_model_refuses_ids_that_are_no_integers(with_input, ids, tmp_path) -> None:
    layers = [keras.Input((1,), dtype="int64")] if with_input else []
    model = keras.Sequential([*layers, Embedding(2), keras.layers.Flatten()])
    model.compile("sgd", "mse")
    ids = np.array(ids)
    for use in (
        lambda: model.predict(ids, verbose=0),
        lambda: model(ids),
        lambda: model.fit(ids, np.ones((1, 2)), verbose=0),
        lambda: model(keras.Input((1,))),
    ):
        with pytest.raises(TypeError, match="takes integer ids"):
            use()
    model.predict(np.array([[2**60]]), verbose=0)
    model.fit(np.array([[7]], np.uint8), np.ones((1, 2)), verbose=0)
    model.save(tmp_path / "model.keras")
    with pytest.raises(TypeError, match="takes integer ids"):
        keras.models.load_model(tmp_path / "model.keras").predict(ids, verbose=0)


def test_initial_weights_for_ids_that_are_no_integers_are_refused() -> None:
    with pytest.raises(TypeError, match="float64: cast them"):
        Embedding(2, weights=(np.array([1.5]), np.ones((1, 2))))
    with pytest.raises(ValueError, match="int32 keys"):
        Embedding(2, key_dtype="int32", weights=(np.array([2**40]), np.ones((1, 2))))


def test_an_input_dim_by_position_is_named() -> None:
    with pytest.raises(TypeError, match=r"no input_dim: write Embedding\(16\)"):
        Embedding(1000, 16)


def test_a_strategy_of_several_replicas_is_named_as_what_is_in_the_way(monkeypatch):
    """Keras builds a model with what has no type then, and would blame the type of the ids."""
    layer = Embedding(4)

    class TwoReplicas:
        num_replicas_in_sync = 2

    monkeypatch.setattr(tf.distribute, "get_strategy", TwoReplicas)
    with pytest.raises(NotImplementedError, match="strategy of several replicas"):
        layer.compute_output_spec(keras.KerasTensor((2, 3), "float32"))
