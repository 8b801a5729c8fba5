"""TacoTableUpsert, Accum, Remove, Clear, Shrink, Reserve and the exports."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tf_ops._ops import (
    CORNER_KEYS,
    apply,
    gather,
    make_table,
    ops,
    rows_by_key,
    size,
    stats,
    upsert,
)

InvalidArgument = tf.errors.InvalidArgumentError


def test_of_duplicate_keys_the_last_one_counts():
    table = make_table(dim=1)
    upsert(table, [4, 5, 4, 4], [[1], [2], [3], [9]])
    assert rows_by_key(table, dim=1) == {4: [9], 5: [2]}


def test_keys_may_have_any_shape():
    table = make_table()
    rows = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    keys = np.arange(6, dtype=np.int64).reshape(2, 3)
    upsert(table, keys, rows)
    upsert(table, np.int64(99), np.ones(4))
    np.testing.assert_array_equal(gather(table, keys), rows)
    np.testing.assert_array_equal(gather(table, 99), np.ones(4))


def test_an_empty_batch_changes_nothing():
    table = make_table()
    upsert(table, np.zeros([0], np.int64), np.zeros([0, 4]))
    apply(table, np.zeros([0], np.int64), tf.zeros([0, 4]))
    assert int(ops().taco_table_remove(table, np.zeros([0], np.int64))) == 0
    assert size(table) == 0


@pytest.mark.parametrize("shape", [(3,), (3, 5), (2, 4), (1, 3, 4)])
def test_values_of_another_shape_are_refused(shape):
    table = make_table()
    with pytest.raises(InvalidArgument, match=r"values has shape .* needs \[3,4\].*Reshape"):
        upsert(table, [1, 2, 3], np.zeros(shape))
    assert size(table) == 0


def test_values_of_another_dtype_are_refused():
    with pytest.raises(InvalidArgument, match="values is bfloat16.*holds float"):
        ops().taco_table_upsert(
            make_table(), np.array([1], np.int64), tf.zeros([1, 4], tf.bfloat16)
        )


def test_accum_adds_to_what_exists_and_inserts_the_rest():
    table = make_table(dim=2)
    upsert(table, [1], [[10, 20]])
    rows = tf.constant([[1, 2], [3, 4], [5, 6]], tf.float32)
    # 3 is said to exist, but does not: it is left alone.
    ops().taco_table_accum(table, np.array([1, 2, 3], np.int64), rows, [True, False, True])
    assert rows_by_key(table, dim=2) == {1: [11, 22], 2: [3, 4]}


def test_accum_refuses_exists_of_another_shape():
    with pytest.raises(InvalidArgument, match=r"exists has shape \[1\].*one for each key"):
        ops().taco_table_accum(make_table(), np.array([1, 2], np.int64), tf.ones([2, 4]), [True])


def test_remove_counts_what_went():
    table = make_table()
    upsert(table, CORNER_KEYS, np.ones((5, 4)))
    gone = np.array([-1, 12345, CORNER_KEYS[0], -1], np.int64)
    assert int(ops().taco_table_remove(table, gone)) == 2
    assert set(rows_by_key(table)) == {0, 1, int(CORNER_KEYS[-1])}


def test_clear_empties_and_the_table_works_on():
    table = make_table()
    upsert(table, np.arange(10_000), np.ones((10_000, 4)))
    before = stats(table)["bytes"]
    ops().taco_table_clear(table)
    assert size(table) == 0
    assert stats(table)["bytes"] < before
    upsert(table, [3], np.ones((1, 4)))
    assert size(table) == 1


def test_shrink_gives_memory_back_and_loses_no_row():
    table = make_table(dim=16)
    keys = np.arange(40_000)
    upsert(table, keys, np.repeat(keys[:, None], 16, axis=1))
    ops().taco_table_remove(table, keys[100:])
    ops().taco_table_shrink(table)
    assert stats(table)["free_rows"] < 40_000 - 100
    np.testing.assert_array_equal(gather(table, keys[:100], dim=16)[:, 0], keys[:100])


def test_reserve_makes_room_and_refuses_nonsense():
    table = make_table()
    ops().taco_table_reserve(table, 100_000)
    assert stats(table)["index_bytes"] > 100_000
    with pytest.raises(InvalidArgument, match="rows is -1; it must not be negative"):
        ops().taco_table_reserve(table, -1)
    with pytest.raises(InvalidArgument, match="scalar|rank 0"):
        ops().taco_table_reserve(table, [1, 2])


def test_export_gives_every_row_once():
    table = make_table(dim=2)
    keys = np.random.default_rng(1).permutation(30_000).astype(np.int64) - 15_000
    rows = np.stack([keys, -keys], axis=1).astype(np.float32)
    upsert(table, keys, rows)
    exported, values = (tensor.numpy() for tensor in ops().taco_table_export(table, dim=2))
    assert sorted(exported.tolist()) == sorted(keys.tolist())
    np.testing.assert_array_equal(values, np.stack([exported, -exported], axis=1))
    alone = ops().taco_table_export_keys(table)
    assert sorted(alone.numpy().tolist()) == sorted(keys.tolist())


def test_export_of_an_empty_table_has_its_shapes():
    table = make_table()
    keys, values = ops().taco_table_export(table, dim=4)
    assert (keys.shape, values.shape) == ((0,), (0, 4))
    assert ops().taco_table_export_keys(table).shape == (0,)
    slots = ops().taco_table_export_slots(table, dim=4).slots
    assert slots.shape == (0, 0, 4)


def test_export_slots_gives_state_frequency_and_step():
    table = make_table(dim=2)
    apply(table, [8, 9], tf.constant([[1.0, 2.0], [3.0, 4.0]]), step=1, optimizer="adagrad")
    apply(table, [9], tf.constant([[1.0, 1.0]]), step=2, optimizer="adagrad")
    out = ops().taco_table_export_slots(table, dim=2)
    order = np.argsort(out.keys.numpy())
    assert out.keys.numpy()[order].tolist() == [8, 9]
    np.testing.assert_array_equal(out.slots.numpy()[order], [[[1, 4]], [[10, 17]]])
    assert out.scalars.shape == (2, 0)
    assert out.freq.numpy()[order].tolist() == [1, 2]
    assert out.step.numpy()[order].tolist() == [1, 2]


def test_export_slots_gives_frequency_of_a_table_without_slots():
    table = make_table()
    apply(table, [1], tf.ones([1, 4]), step=5)
    out = ops().taco_table_export_slots(table, dim=4)
    assert (out.freq.numpy().tolist(), out.step.numpy().tolist()) == ([1], [5])
