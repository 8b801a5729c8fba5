"""Tables in Keras's own files: everything comes back, corruption is refused."""

import pathlib
import shutil
import warnings

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from taco.tf.keras import Embedding
from taco.tf.optimizers import SparseAdam

IDS = np.array([[5, -1, 0], [2**62, 5, 7]])
TARGETS = np.array([1.0, 0.0], np.float32)


OPTIMIZERS = {
    "Adam": lambda: keras.optimizers.Adam(0.1),
    "Ftrl": lambda: keras.optimizers.Ftrl(0.1),
    "LossScale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1)),
    "SparseAdam": lambda: SparseAdam(0.1),
}


def make_layers() -> list[keras.Layer]:
    return [
        Embedding(4, "normal", name="items"),
        keras.layers.GlobalAveragePooling1D(name="mean"),
        keras.layers.Dense(1, name="out"),
    ]


def make_model(optimizer: str = "Adam") -> keras.Model:
    keras.utils.set_random_seed(3)
    model = keras.Sequential(make_layers())
    model.compile(OPTIMIZERS[optimizer](), "mse")
    model.build((None, 3))
    return model


def train(model: keras.Model, shift: int = 0) -> None:
    model.fit(IDS + shift, TARGETS, epochs=2, shuffle=False, verbose=0)


def state(model: keras.Model) -> list[np.ndarray]:
    """Everything that training depends on, as arrays: rows, slots, step counts, the rest."""
    table = model.layers[0].table
    from taco.tf import _ops

    parts = _ops.ops().taco_table_export_slots(table.handle, K=tf.int64, V=tf.float32, dim=4)
    order = np.argsort(parts[0].numpy())
    result = [part.numpy()[order] for part in parts]
    result += [np.asarray(v.numpy()) for v in model.weights[1:]]
    return result + [np.asarray(v.numpy()) for v in model.optimizer.variables]


def assert_same(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    assert len(a) == len(b)
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)


def test_keras_file_continues_training_bit_for_bit(tmp_path: pathlib.Path) -> None:
    model = make_model()
    train(model)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert_same(state(loaded), state(model))
    for each in (model, loaded):
        train(each, shift=1)
    assert_same(state(loaded), state(model))


@pytest.mark.parametrize("trained_before", [True, False], ids=["trained", "freshly compiled"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weights_file_continues_training_bit_for_bit(
    tmp_path: pathlib.Path, optimizer: str, trained_before: bool
) -> None:
    model = make_model(optimizer)
    train(model)
    model.save_weights(tmp_path / "m.weights.h5")
    other = make_model(optimizer)
    if trained_before:
        train(other, shift=100)  # rows, slots and steps that must go
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.load_weights(tmp_path / "m.weights.h5")
    assert int(other.optimizer.iterations.numpy()) == 2
    assert_same(state(other), state(model))
    np.testing.assert_array_equal(other.predict(IDS, verbose=0), model.predict(IDS, verbose=0))
    for each in (model, other):
        train(each, shift=1)
    assert_same(state(other), state(model))


def test_weights_of_a_model_that_is_not_compiled(tmp_path: pathlib.Path) -> None:
    model = make_model()
    train(model)
    model.save_weights(tmp_path / "m.weights.h5")
    keras.utils.set_random_seed(3)
    serving = keras.Sequential(make_layers())
    serving.build((None, 3))
    serving.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(serving.predict(IDS, verbose=0), model.predict(IDS, verbose=0))


def test_weights_of_an_optimizer_that_has_made_no_step(tmp_path: pathlib.Path) -> None:
    model = make_model()
    model.optimizer.learning_rate = 0.25
    model.save_weights(tmp_path / "m.weights.h5")
    other = make_model()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.load_weights(tmp_path / "m.weights.h5")
    assert float(other.optimizer.learning_rate.numpy()) == 0.25


def test_stock_models_are_loaded_by_keras_untouched(tmp_path: pathlib.Path) -> None:
    def make() -> keras.Model:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("adam", "mse")
        return model

    model = make()
    model.fit(np.ones((2, 3)), TARGETS, verbose=0)
    model.save_weights(tmp_path / "m.weights.h5")
    other = make()
    with pytest.warns(UserWarning, match="Skipping variable loading for optimizer"):
        other.load_weights(tmp_path / "m.weights.h5")
    assert not other.optimizer.built


def test_sharded_weights(tmp_path: pathlib.Path) -> None:
    model = make_model()
    train(model)
    model.save_weights(tmp_path / "m.weights.json", max_shard_size=0.001)
    other = make_model()
    other.load_weights(tmp_path / "m.weights.json")
    assert_same(state(other)[:6], state(model)[:6])


def test_large_tables_are_cut_into_chunks(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taco.tf.keras.weights_file._CHUNK_BYTES", 1000)
    model = make_model()
    model.layers[0].table.upsert(tf.range(500, dtype=tf.int64), tf.random.normal([500, 4]))
    model.save_weights(tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5") as file:
        arrays = file["layers/items/vars" if "items" in file["layers"] else "layers/embedding/vars"]
        assert len(arrays) > 15
        assert max(each.size for each in arrays.values()) <= 1000
    other = make_model()
    other.load_weights(tmp_path / "m.weights.h5")
    assert_same(state(other)[:6], state(model)[:6])


def flip_a_byte(path: pathlib.Path) -> None:
    with h5py.File(path, "r+") as file:
        found: list[str] = []
        file.visit(lambda name: found.append(name) if name.endswith("file_0_00000") else None)
        data = file[found[0]]
        data[data.size // 2] ^= 1


def test_corruption_is_refused_and_harms_nothing(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "m.weights.h5"
    model = make_model()
    train(model)
    model.save_weights(path)
    flip_a_byte(path)
    other = make_model()
    train(other, shift=100)
    before = state(other)[:6]
    with pytest.raises(ValueError, match="layer 'items'.*corrupt") as raised:
        other.load_weights(path)
    assert f'the table in "{path}" cannot be restored' in str(raised.value)
    assert ".taco-" not in str(raised.value)
    assert_same(state(other)[:6], before)


def test_a_file_of_another_layer_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "m.weights.h5"
    stock = keras.Sequential([keras.layers.Embedding(9, 4, name="items")])
    stock.build((None, 3))
    stock.save_weights(path)
    ours = keras.Sequential([Embedding(4, name="items")])
    ours.build((None, 3))
    with pytest.raises(ValueError, match="no dynamic table"):
        ours.load_weights(path)


def test_another_dim_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "m.weights.h5"
    model = make_model()
    train(model)
    model.save_weights(path)
    other = keras.Sequential(
        [Embedding(8, name="items"), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1)]
    )
    other.build((None, 3))
    with pytest.raises(ValueError, match="rows of"):
        other.load_weights(path)


def test_nothing_is_left_beside_the_file(tmp_path: pathlib.Path) -> None:
    model = make_model()
    train(model)
    model.save_weights(tmp_path / "m.weights.h5")
    model.save(tmp_path / "m.keras")
    make_model().load_weights(tmp_path / "m.weights.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.keras", "m.weights.h5"]


def test_model_checkpoint_callback(tmp_path: pathlib.Path) -> None:
    model = make_model()
    callback = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=False)
    model.fit(IDS, TARGETS, epochs=2, verbose=0, callbacks=[callback])
    assert_same(state(keras.models.load_model(tmp_path / "best.keras")), state(model))


def test_a_moved_file_loads(tmp_path: pathlib.Path) -> None:
    model = make_model()
    train(model)
    model.save(tmp_path / "m.keras")
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "m.keras", tmp_path / "elsewhere" / "n.keras")
    loaded = keras.models.load_model(tmp_path / "elsewhere" / "n.keras")
    assert_same(state(loaded), state(model))
