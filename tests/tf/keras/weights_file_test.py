"""Tables in Keras's own files: everything comes back, corruption is refused."""

import pathlib
import shutil

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from taco.tf.keras import Embedding

IDS = np.array([[5, -1, 0], [2**62, 5, 7]])
TARGETS = np.array([1.0, 0.0], np.float32)


def make_model() -> keras.Model:
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            Embedding(4, "normal", name="items"),
            keras.layers.GlobalAveragePooling1D(name="mean"),
            keras.layers.Dense(1, name="out"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.1), "mse")
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


def test_weights_file_continues_training_bit_for_bit(tmp_path: pathlib.Path) -> None:
    model = make_model()
    train(model)
    model.save_weights(tmp_path / "m.weights.h5")
    other = make_model()
    train(other, shift=100)  # rows that must go
    other.load_weights(tmp_path / "m.weights.h5")
    assert_same(state(other)[:6], state(model)[:6])
    np.testing.assert_array_equal(other.predict(IDS, verbose=0), model.predict(IDS, verbose=0))


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
