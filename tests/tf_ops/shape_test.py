"""Shape functions: what is known while a graph is built, and what is refused then."""

import pytest
import tensorflow as tf

from tests.tf_ops._ops import ops

V1 = tf.compat.v1


@pytest.fixture(autouse=True)
def graph():
    with V1.Graph().as_default():
        yield


@pytest.fixture
def table(graph):
    return ops().taco_table(dim=4)


def keys(*shape: int | None) -> tf.Tensor:
    return V1.placeholder(tf.int64, None if shape == (...,) else shape)


def floats(*shape: int | None) -> tf.Tensor:
    return V1.placeholder(tf.float32, shape)


def test_static_shapes(table):
    assert ops().taco_table_gather(table, keys(None, 3), dim=4).shape.as_list() == [None, 3, 4]
    assert ops().taco_table_gather(table, keys(...), dim=4).shape.rank is None
    values, exists = ops().taco_table_find(table, keys(2), floats(0), dim=4)
    assert (values.shape.as_list(), exists.shape.as_list()) == ([2, 4], [2])
    assert ops().taco_table_remove(table, keys(2)).shape == []
    assert ops().taco_table_size(table).shape == []
    assert ops().taco_table_stats(table).shape == []
    assert ops().taco_version().shape == []
    assert ops().taco_table_export_keys(table).shape.as_list() == [None]
    exported = ops().taco_table_export(table, dim=4)
    assert [t.shape.as_list() for t in exported] == [[None], [None, 4]]
    slots = ops().taco_table_export_slots(table, dim=4)
    assert slots.slots.shape.as_list() == [None, None, 4]
    saved = ops().taco_tables_save([table, table], "x", V1.placeholder(tf.string, [None]))
    assert saved.shape.as_list() == [2]


@pytest.mark.parametrize("rows", [(4,), (3, 4), (2, 2, 4), ()])
def test_rows_that_disagree_with_keys_are_refused(table, rows):
    with pytest.raises(ValueError, match="(?i)shape|dim"):
        ops().taco_table_upsert(table, keys(2), floats(*rows))
    with pytest.raises(ValueError, match="(?i)shape|dim"):
        ops().taco_table_apply(table, keys(2), floats(*rows), 1, floats(9), optimizer="sgd")


def test_a_table_is_a_scalar(table):
    two = V1.placeholder(tf.resource, [2])
    for call in (
        lambda: ops().taco_table_size(two),
        lambda: ops().taco_table_gather(two, keys(1), dim=4),
        lambda: ops().taco_table_clear(two),
        lambda: ops().taco_tables_save([table, two], "x", V1.placeholder(tf.string, [0])),
    ):
        with pytest.raises(ValueError, match="rank 0"):
            call()


def test_hyper_has_nine_values(table):
    with pytest.raises(ValueError, match="must be 9 but is 8"):
        ops().taco_table_apply(table, keys(2), floats(2, 4), 1, floats(8), optimizer="sgd")


def test_other_ranks_are_refused(table):
    strings = V1.placeholder(tf.string, [1])
    for call in (
        lambda: ops().taco_table_apply(
            table, keys(2), floats(2, 4), keys(1), floats(9), optimizer="sgd"
        ),
        lambda: ops().taco_table_reserve(table, keys(1)),
        lambda: ops().taco_table_restore(table, strings, "manifest"),
        lambda: ops().taco_table_restore(table, "prefix", strings),
        lambda: ops().taco_table_file_info(strings),
        lambda: ops().taco_tables_save([table], strings, strings),
    ):
        with pytest.raises(ValueError, match="rank 0"):
            call()


def test_exists_of_accum_is_shaped_as_keys(table):
    with pytest.raises(ValueError, match="2 and 3"):
        ops().taco_table_accum(table, keys(2), floats(2, 4), V1.placeholder(tf.bool, [3]))
