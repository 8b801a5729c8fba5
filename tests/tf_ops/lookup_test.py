"""TacoTableGather and TacoTableFind: what a lookup gives, and what it refuses."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tf_ops._ops import CORNER_KEYS, fresh_name, gather, make_table, ops, size, stats, upsert

InvalidArgument = tf.errors.InvalidArgumentError


def test_every_64_bit_key_is_legal():
    table = make_table()
    rows = np.arange(20, dtype=np.float32).reshape(5, 4)
    upsert(table, CORNER_KEYS, rows)
    np.testing.assert_array_equal(gather(table, CORNER_KEYS), rows)
    assert size(table) == 5


@pytest.mark.parametrize("shape", [(), (0,), (6,), (2, 3), (1, 2, 3)])
def test_values_have_the_shape_of_keys_and_dim(shape):
    table = make_table(dim=3, initializer="constant:2")
    keys = np.arange(np.prod(shape, dtype=int), dtype=np.int64).reshape(shape)
    np.testing.assert_array_equal(gather(table, keys, dim=3), np.full((*shape, 3), 2.0))


def test_int32_keys_are_widened_with_their_sign():
    table = make_table(key_dtype=tf.int32)
    keys = np.array([-(2**31), -1, 0, 2**31 - 1], np.int32)
    rows = np.arange(16, dtype=np.float32).reshape(4, 4)
    upsert(table, keys, rows)
    np.testing.assert_array_equal(gather(table, keys), rows)
    exported, _ = ops().taco_table_export(table, K=tf.int32, dim=4)
    assert set(exported.numpy().tolist()) == set(keys.tolist())
    assert set(ops().taco_table_export_keys(table, K=tf.int32).numpy()) == set(keys.tolist())


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.float16])
def test_every_value_dtype_comes_back_as_it_went_in(dtype):
    table = make_table(value_dtype=dtype)
    rows = tf.constant([[0.1, -2.5, 3e-3, 1e4]], dtype)
    ops().taco_table_upsert(table, np.array([7], np.int64), rows)
    found = ops().taco_table_gather(table, np.array([7], np.int64), dim=4, V=dtype)
    assert found.dtype == dtype
    np.testing.assert_array_equal(tf.cast(found, tf.float32), tf.cast(rows, tf.float32))


def test_a_lookup_inserts_nothing():
    table = make_table(initializer="uniform:-1,1;seed=3")
    first = gather(table, [1, 2, 3])
    assert size(table) == 0
    np.testing.assert_array_equal(gather(table, [3, 2, 1]), first[::-1])
    assert len(np.unique(first)) == 12


def test_initial_values_depend_on_table_name_seed_and_key_alone():
    options = {"initializer": "normal:0,1;seed=5"}
    one = gather(make_table(table_name="users", **options), [10, 11])
    same = gather(make_table(table_name="users", **options), [10, 11])
    other_name = gather(make_table(table_name="items", **options), [10, 11])
    other_seed = gather(make_table(table_name="users", initializer="normal:0,1;seed=6"), [10, 11])
    np.testing.assert_array_equal(one, same)
    assert not np.any(one == other_name)
    assert not np.any(one == other_seed)


def test_large_batches_use_threads_and_give_the_same():
    table = make_table(dim=8, initializer="uniform:0,1;seed=1")
    keys = np.random.default_rng(0).integers(-(2**62), 2**62, 50_000)
    whole = gather(table, keys, dim=8)
    parts = [gather(table, part, dim=8) for part in np.split(keys, 500)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_find_says_what_exists():
    table = make_table()
    upsert(table, [5], np.ones((1, 4)))
    values, exists = ops().taco_table_find(
        table, np.array([[5], [6]], np.int64), tf.zeros([4]) - 1, dim=4
    )
    assert exists.numpy().tolist() == [[True], [False]]
    np.testing.assert_array_equal(values, [[[1] * 4], [[-1] * 4]])


@pytest.mark.parametrize(
    ("default", "expected"),
    [
        (np.zeros([0]), [7, 7, 7, 7]),
        (np.float32(3), [3, 3, 3, 3]),
        (np.arange(4), [0, 1, 2, 3]),
        (np.arange(4)[None], [0, 1, 2, 3]),
    ],
)
def test_find_takes_one_default_for_all_absent_keys(default, expected):
    table = make_table(initializer="constant:7")
    keys = np.array([1, 2, 3], np.int64)
    values, _ = ops().taco_table_find(table, keys, tf.constant(default, tf.float32), dim=4)
    np.testing.assert_array_equal(values, [expected] * 3)


def test_find_takes_a_default_for_each_key():
    table = make_table()
    upsert(table, [2], np.full((1, 4), 9))
    defaults = np.arange(12, dtype=np.float32).reshape(3, 4)
    values, _ = ops().taco_table_find(table, np.array([1, 2, 3], np.int64), defaults, dim=4)
    np.testing.assert_array_equal(values, [defaults[0], [9] * 4, defaults[2]])


def test_find_refuses_a_default_of_another_shape():
    with pytest.raises(InvalidArgument, match=r"default_value has shape \[3\].*\[0\].*\[4\]"):
        ops().taco_table_find(make_table(), np.array([1, 2], np.int64), tf.zeros([3]), dim=4)


def test_find_refuses_a_default_of_another_dtype():
    with pytest.raises(InvalidArgument, match="attribute V is half.*holds float"):
        ops().taco_table_find(
            make_table(), np.array([1], np.int64), tf.zeros([4], tf.float16), dim=4
        )


def test_a_wrong_dim_is_refused_with_both():
    with pytest.raises(InvalidArgument, match="dim is 5, but table .* has dim 4"):
        gather(make_table(), [1], dim=5)


def test_a_wrong_value_dtype_is_refused_with_both():
    with pytest.raises(InvalidArgument, match="attribute V is bfloat16.*holds float values"):
        gather(make_table(), [1], dtype=tf.bfloat16)


def test_a_wrong_key_dtype_is_refused_with_both():
    with pytest.raises(InvalidArgument, match="keys are int32.*has int64 keys; cast"):
        gather(make_table(), np.array([1], np.int32))


def test_an_error_names_the_table():
    name = fresh_name("clicks")
    with pytest.raises(InvalidArgument, match=name):
        gather(make_table(shared_name=name), [1], dim=5)


def test_stats_count_lookups_and_hits():
    table = make_table()
    upsert(table, [1, 2], np.ones((2, 4)))
    assert stats(table)["hit_rate"] == 0
    gather(table, [1, 2, 3, 4])
    found = stats(table)
    assert (found["rows"], found["lookups"], found["hits"]) == (2, 4, 2)
    assert found["hit_rate"] == 0.5
    ops().taco_table_find(table, np.array([1, 2, 1, 2], np.int64), tf.zeros([0]), dim=4)
    assert stats(table)["hit_rate"] == 0.75
    assert (found["dim"], found["dtype"], found["key_dtype"]) == (4, "float", "int64")
    assert found["bytes"] >= found["payload_bytes"] > 0
