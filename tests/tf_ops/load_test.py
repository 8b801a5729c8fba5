"""Loading the library: what it says of itself, and how it refuses another TensorFlow."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf
from taco import __version__
from taco._loader import library_path

from tests.tf_ops._ops import ops

ANOTHER = "libtaco_for_another_tensorflow.so"


def run(code: str, *arguments: str) -> str:
    """Runs Python with TensorFlow in a process of its own; its output."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def another_tensorflows_library() -> str:
    """The library, built as if for TensorFlow 9.9.9."""
    given = os.environ.get("TACO_ANOTHER_TF_LIBRARY")
    folder = library_path("tf").parent
    places = [given] if given else [folder / ANOTHER, folder / "embedding" / "ops" / ANOTHER]
    for place in places:
        if os.path.exists(place):
            return str(place)
    raise FileNotFoundError(
        f"{ANOTHER} is at none of {places}; bazel build //tf_ops/embedding/ops:{ANOTHER}"
    )


def test_version():
    version = json.loads(ops().taco_version().numpy())
    assert version["taco"] == __version__
    assert version["tensorflow_built"] == version["tensorflow_running"] == tf.__version__
    assert version["simd"] in ("baseline", "avx2", "avx512")
    assert version["file_format"] == 1


REFUSED = """
import sys, tensorflow as tf
for _ in range(2):
    try:
        tf.load_op_library(sys.argv[1])
        print("loaded")
    except tf.errors.FailedPreconditionError as error:
        print(error)
print(int(tf.add(1, 2)))
"""


def test_another_tensorflow_is_refused_with_both_versions_and_a_remedy(
    another_tensorflows_library,
):
    lines = run(REFUSED, another_tensorflows_library).splitlines()
    assert lines[0].startswith(
        f"libtaco_tf.so was built for TensorFlow 9.9.9, this is {tf.__version__}. Remedy: pip"
    )
    assert lines[-1] == "3"


def test_the_library_for_this_tensorflow_loads_after_one_for_another(another_tensorflows_library):
    code = REFUSED + "print(tf.load_op_library(sys.argv[2]).taco_version().numpy())"
    output = run(code, another_tensorflows_library, str(library_path("tf")))
    assert '"taco"' in output.splitlines()[-1]


def test_nothing_aborts_a_process_that_loads_it_by_hand(another_tensorflows_library):
    code = """
import ctypes, sys, tensorflow as tf
tf.add(1, 2)  # ops are registered at once from here on
ctypes.CDLL(sys.argv[1])
print(int(tf.add(1, 2)))
"""
    assert run(code, another_tensorflows_library).strip() == "3"


def test_a_second_copy_is_refused_and_the_first_works_on(tmp_path):
    copy = tmp_path / "libtaco_tf.so"
    shutil.copy(library_path("tf"), copy)
    code = """
import sys, tensorflow as tf
first = tf.load_op_library(sys.argv[1])
assert tf.load_op_library(sys.argv[1]) is first
try:
    tf.load_op_library(sys.argv[2])
except tf.errors.FailedPreconditionError as error:
    print(error)
print(int(first.taco_table_size(first.taco_table(dim=4))))
"""
    message, works = run(code, str(library_path("tf")), str(copy)).splitlines()
    assert "another copy of libtaco_tf.so is loaded" in message
    assert "Remedy" in message
    assert works == "0"


def test_no_symbol_is_exported():
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", str(library_path("tf"))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout.strip() == ""
