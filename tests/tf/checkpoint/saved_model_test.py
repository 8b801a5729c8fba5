"""A SavedModel with tables serves the same outputs in a process that only has the op library."""

import os
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from taco import library_path
from taco.tf import dynamic_embedding as de
from taco.tf import export_for_serving
from taco.tf.keras import Embedding

IDS = np.array([[5, -1, 0], [2**62, 5, 7]])

SERVE = """
import sys
import numpy as np
import tensorflow as tf
library, folder, inputs, outputs = sys.argv[1:]
if library:
    tf.load_op_library(library)
loaded = tf.saved_model.load(folder)
function = loaded.signatures["serving_default"]
(name,) = function.structured_input_signature[1]
ids = np.load(inputs)
np.save(outputs, list(function(**{name: tf.constant(ids)}).values())[0].numpy())
assert "taco" not in sys.modules
"""

SERVE_V1 = """
import sys
import numpy as np
import tensorflow as tf
library, folder, inputs, outputs = sys.argv[1:]
if library:
    tf.load_op_library(library)
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    meta = tf.compat.v1.saved_model.load(session, ["serve"], folder)
    signature = meta.signature_def["serving_default"]
    (feed,) = signature.inputs.values()
    (fetch,) = signature.outputs.values()
    np.save(outputs, session.run(fetch.name, {feed.name: np.load(inputs)}))
"""


def make_model() -> keras.Model:
    inputs = keras.Input((3,), dtype="int64")
    x = keras.layers.GlobalAveragePooling1D()(Embedding(4, "normal", name="items")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    model.compile("adam", "mse")
    model.fit(IDS, np.ones(2), verbose=0)
    return model


def serve(
    tmp_path: pathlib.Path, folder: pathlib.Path, ids: np.ndarray, library: bool, code: str = SERVE
) -> np.ndarray:
    """What a fresh process answers, with libtaco_tf.so loaded or not."""
    np.save(tmp_path / "ids.npy", ids)
    name = str(library_path("libtaco_tf.so")) if library else ""
    done = subprocess.run(
        [sys.executable, "-c", code, name, str(folder), str(tmp_path / "ids.npy"),
         str(tmp_path / "out.npy")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return np.load(tmp_path / "out.npy")


@pytest.mark.parametrize("how", ["export", "save"])
def test_a_fresh_process_serves_the_same(tmp_path: pathlib.Path, how: str) -> None:
    model = make_model()
    if how == "export":
        model.export(tmp_path / "m", verbose=False)
    else:
        tf.saved_model.save(model, str(tmp_path / "m"))
    shutil.move(tmp_path / "m", tmp_path / "moved")
    ids = np.concatenate([IDS, [[123, 5, 0]]])  # and an id that was never seen
    expected = model.predict(ids, verbose=0)
    served = serve(tmp_path, tmp_path / "moved", ids, library=True)
    np.testing.assert_allclose(served, expected, rtol=1e-6)


def test_the_session_loader_restores_tables(tmp_path: pathlib.Path) -> None:
    """tf.compat.v1.saved_model.load goes the way of the C++ servers."""
    model = make_model()
    model.export(tmp_path / "m", verbose=False)
    served = serve(tmp_path, tmp_path / "m", IDS, library=True, code=SERVE_V1)
    np.testing.assert_allclose(served, model.predict(IDS, verbose=0), rtol=1e-6)


def test_without_the_library_the_error_names_the_operation(tmp_path: pathlib.Path) -> None:
    make_model().export(tmp_path / "m", verbose=False)
    with pytest.raises(RuntimeError, match="TacoTable"):
        serve(tmp_path, tmp_path / "m", IDS, library=False)


def test_loading_beside_the_live_model_shares_nothing(tmp_path: pathlib.Path) -> None:
    model = make_model()
    model.export(tmp_path / "m", verbose=False)
    before = model.predict(IDS, verbose=0)
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    model.fit(IDS, np.zeros(2), epochs=3, verbose=0)
    np.testing.assert_allclose(loaded.serve(IDS), before, rtol=1e-6)
    assert np.abs(model.predict(IDS, verbose=0) - before).max() > 1e-4
    del loaded
    model.predict(IDS, verbose=0)  # the table is still there


def test_two_copies_of_one_saved_model(tmp_path: pathlib.Path) -> None:
    model = make_model()
    model.export(tmp_path / "m", verbose=False)
    expected = model.predict(IDS, verbose=0)
    first = tf.saved_model.load(str(tmp_path / "m"))
    second = tf.saved_model.load(str(tmp_path / "m"))
    del first
    np.testing.assert_allclose(second.serve(IDS), expected, rtol=1e-6)


def test_module_with_a_sharded_table(tmp_path: pathlib.Path) -> None:
    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = de.Variable(name="t", dim=2, devices=["/CPU:0"] * 3)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
        def __call__(self, ids: tf.Tensor) -> tf.Tensor:
            return tf.nn.embedding_lookup(self.table, ids)

    module = Module()
    keys = tf.range(20, dtype=tf.int64)
    module.table.upsert(keys, tf.random.normal([20, 2]))
    expected = module(keys).numpy()
    tf.saved_model.save(module, str(tmp_path / "m"))
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    np.testing.assert_array_equal(loaded(keys), expected)


def test_a_saved_model_can_be_saved_over(tmp_path: pathlib.Path) -> None:
    model = make_model()
    for epoch in range(3):
        model.fit(IDS + epoch, np.zeros(2), verbose=0)
        model.export(tmp_path / "m", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    np.testing.assert_allclose(loaded.serve(IDS), model.predict(IDS, verbose=0), rtol=1e-6)


def test_a_corrupt_table_file_is_refused(tmp_path: pathlib.Path) -> None:
    make_model().export(tmp_path / "m", verbose=False)
    (name,) = (tmp_path / "m" / "variables").glob("*-of-taco?")
    data = bytearray(name.read_bytes())
    data[len(data) // 2] ^= 1
    name.write_bytes(data)
    with pytest.raises(tf.errors.DataLossError, match=name.name):
        tf.saved_model.load(str(tmp_path / "m"))


def test_stock_export_needs_no_library(tmp_path: pathlib.Path) -> None:
    model = make_model()
    export_for_serving(model, str(tmp_path / "m"))
    expected = model.predict(IDS, verbose=0)
    for code in (SERVE, SERVE_V1):
        served = serve(tmp_path, tmp_path / "m", IDS, library=False, code=code)
        np.testing.assert_allclose(served, expected, rtol=1e-6)
    # The model itself is as it was.
    model.fit(IDS, np.zeros(2), verbose=0)
    assert np.abs(model.predict(IDS, verbose=0) - expected).max() > 1e-5


@pytest.mark.parametrize(
    ("initializer", "missing", "expected"),
    [
        (None, None, [0.0, 0.0]),
        (0.5, None, [0.5, 0.5]),
        (keras.initializers.RandomUniform(1.0, 2.0), None, [1.5, 1.5]),
        (keras.initializers.RandomNormal(3.0, 1.0), None, [3.0, 3.0]),
        (None, -1.0, [-1.0, -1.0]),
        (None, {"t": [1.0, 2.0]}, [1.0, 2.0]),
    ],
)
def test_stock_export_of_absent_ids(
    tmp_path: pathlib.Path, initializer: object, missing: object, expected: list[float]
) -> None:
    table = de.Variable(name="t", dim=2, initializer=initializer)

    def lookup(ids: tf.Tensor) -> tf.Tensor:
        return tf.nn.embedding_lookup(table, ids)

    signature = [tf.TensorSpec([None, 2], tf.int64)]
    for rows in range(2):  # an empty table too
        if rows:
            table.upsert(
                tf.constant([-(2**63), 2**63 - 1, 4], tf.int64), tf.constant([[1.0, 2]] * 3)
            )
        export_for_serving(
            lookup, str(tmp_path / f"m{rows}"), signature, tables=[table], missing=missing
        )
        loaded = tf.saved_model.load(str(tmp_path / f"m{rows}"))
        np.testing.assert_allclose(
            loaded.serve(tf.constant([[-(2**63), 5], [2**63 - 1, 4]], tf.int64)),
            [[[1, 2], expected], [[1, 2], [1, 2]]] if rows else [[expected] * 2] * 2,
        )


def test_stock_export_says_which_table_was_forgotten(tmp_path: pathlib.Path) -> None:
    table = de.Variable(name="t", dim=2)
    with pytest.raises(ValueError, match="name every table"):
        export_for_serving(
            lambda ids: tf.nn.embedding_lookup(table, ids),
            str(tmp_path / "m"),
            [tf.TensorSpec([None], tf.int64)],
        )
