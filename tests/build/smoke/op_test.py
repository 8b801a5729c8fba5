import pathlib

import tensorflow as tf


def test_sum():
    lib = tf.load_op_library(str(pathlib.Path(__file__).parent / "libsmoke_tf.so"))
    assert float(lib.smoke_sum(x=[1.0, 2.0])) == 8
