"""A killed save never spoils the last good file."""

import concurrent.futures
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from taco.tf.keras import Embedding, save_atomically

ROWS = 60_000

# Saves for ever; before each save, and in it, all rows hold the number of the save.
CHILD = f"""
import sys
sys.path.insert(0, sys.argv[2])
from tests_killed_save_model import make_model
import tensorflow as tf
model = make_model()
keys = tf.range({ROWS}, dtype=tf.int64)
for number in range(1, 10**6):
    model.layers[0].table.upsert(keys, tf.fill([{ROWS}, 16], float(number)))
    model.layers[1].kernel.assign(tf.fill([16, 1], float(number)))
    SAVE(model, sys.argv[1])
    print(number, flush=True)
"""

MODEL = """
import keras
from taco.tf.keras import Embedding


def make_model():
    model = keras.Sequential([Embedding(16, "zeros", name="items"), keras.layers.Dense(1)])
    model.build((None, 3))
    return model
"""


def start(tmp_path: pathlib.Path, path: pathlib.Path, save: str) -> subprocess.Popen:
    (tmp_path / "tests_killed_save_model.py").write_text(MODEL)
    (tmp_path / "child.py").write_text(CHILD.replace("SAVE", save))
    return subprocess.Popen(
        [sys.executable, str(tmp_path / "child.py"), str(path), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.parametrize(
    ("file", "save"),
    [
        ("m.weights.h5", "(lambda model, path: model.save_weights(path))"),
        ("m.keras", "(lambda model, path: model.save(path))"),
    ],
)
def test_kill_at_random_moments(tmp_path: pathlib.Path, file: str, save: str) -> None:
    path = tmp_path / "saved" / file
    path.parent.mkdir()
    model = keras.Sequential([Embedding(16, "zeros", name="items"), keras.layers.Dense(1)])
    model.build((None, 3))
    rng = random.Random(7)
    for _ in range(3):
        child = start(tmp_path, path, save)
        reported = int(child.stdout.readline())  # the first save is complete
        deadline = time.monotonic() + rng.uniform(0.0, 0.6)
        while time.monotonic() < deadline:
            pass
        child.send_signal(signal.SIGKILL)
        reported = max([reported, *(int(line) for line in child.stdout.read().split())])
        child.wait()
        if file.endswith(".keras"):
            loaded = keras.models.load_model(path)
        else:
            model.load_weights(path)
            loaded = model
        values = loaded.layers[0].table.export()[1].numpy()
        assert values.shape == (ROWS, 16)
        number = values[0, 0]
        assert (values == number).all()
        assert (loaded.layers[1].kernel.numpy() == number).all()
        assert number >= reported  # the last save that was reported done, or the one after
    # What the killed processes left goes with the next save.
    model.save_weights(path.parent / "m.weights.h5")
    left = {p.name for p in path.parent.iterdir()}
    assert left <= {"m.weights.h5", "m.keras"}


def test_a_failed_save_leaves_the_old_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "f.weights.h5"
    path.write_text("old")
    with pytest.raises(RuntimeError), save_atomically(path) as temporary:
        pathlib.Path(temporary).write_text("new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_threads_save_to_one_path(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "f.weights.h5"
    all_write = threading.Barrier(4, timeout=60)

    def save(text: str) -> None:
        with save_atomically(path) as temporary:
            pathlib.Path(temporary).write_text(text)
            all_write.wait()
            assert pathlib.Path(temporary).read_text() == text
            all_write.wait()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(save, "abcd"))
    assert path.read_text() in "abcd"
    assert list(tmp_path.iterdir()) == [path]


def test_models_without_a_table_are_saved_by_keras_untouched(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taco.tf.keras.atomic_saves.save_atomically", None)  # not called
    model = keras.Sequential([keras.layers.Dense(1)])
    model.build((None, 2))
    model.save_weights(tmp_path / "m.weights.h5")
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "m.keras").predict(tf.ones([1, 2]), verbose=0),
        model.predict(tf.ones([1, 2]), verbose=0),
    )
