"""TacoTable: how a handle finds its table, in every way that TensorFlow runs ops."""

import gc
import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import op_def_registry
from tensorflow.python.ops import handle_data_util

from tests.tf_ops._ops import apply, fresh_name, gather, hyper, make_table, ops, size, stats, upsert

InvalidArgument = tf.errors.InvalidArgumentError
NotFound = tf.errors.NotFoundError
V1 = tf.compat.v1

# TensorFlow's name for resources that only their handle knows.
ANONYMOUS = "cd2c89b7-88b7-44c8-ad83-06c2a9158347"

OP_NAMES = [
    "TacoTable",
    "TacoTableDestroy",
    "TacoTableSize",
    "TacoTableStats",
    "TacoTableClear",
    "TacoTableShrink",
    "TacoTableReserve",
    "TacoVersion",
    "TacoTableGather",
    "TacoTableFind",
    "TacoTableUpsert",
    "TacoTableAccum",
    "TacoTableRemove",
    "TacoTableExportKeys",
    "TacoTableExport",
    "TacoTableExportSlots",
    "TacoTableApply",
    "TacoTableSetOptimizer",
    "TacoTablesSave",
    "TacoTableRestore",
    "TacoTableFileInfo",
]


def test_handles_of_one_name_share_one_table():
    name = fresh_name()
    upsert(make_table(shared_name=name), [1], np.ones((1, 4)))
    assert size(make_table(shared_name=name)) == 1
    assert size(make_table(shared_name=name, container="elsewhere")) == 0


@pytest.mark.parametrize(
    ("changed", "attribute"),
    [
        ({"dim": 5}, "dim"),
        ({"value_dtype": tf.float16}, "value_dtype"),
        ({"key_dtype": tf.int32}, "key_dtype"),
        ({"table_name": "other"}, "table_name"),
        ({"initializer": "constant:1"}, "initializer"),
        ({"initializer": "zeros;seed=4"}, "initializer"),
    ],
)
def test_another_table_of_the_name_is_refused(changed, attribute):
    name = fresh_name()
    keep = make_table(shared_name=name)
    with pytest.raises(InvalidArgument, match=f"'{name}' exists and has another {attribute} "):
        make_table(**{"dim": 4, "shared_name": name, **changed})
    assert size(keep) == 0


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"dim": 4097}, "dim is 4097; it must be 1 to 4096"),
        ({"initializer": "unifrom:0,1"}, "unifrom"),
        ({"initializer": "uniform:1,0"}, "uniform|minimum|maximum|low"),
        ({"initializer": "normal:0,nan"}, "nan|finite"),
    ],
)
def test_bad_attributes_are_refused(attributes, message):
    with pytest.raises(InvalidArgument, match=message):
        make_table(**attributes)


def test_the_handle_says_dtype_and_shape():
    @tf.function
    def traced():
        handle = ops().taco_table(dim=6, value_dtype=tf.bfloat16, shared_name=fresh_name())
        data = handle_data_util.get_resource_handle_data(handle)
        assert data.is_set
        assert data.shape_and_type[0].dtype == tf.bfloat16.as_datatype_enum
        assert [d.size for d in data.shape_and_type[0].shape.dim] == [-1, 6]
        return ops().taco_table_size(handle)

    assert int(traced()) == 0


def test_a_destroyed_table_is_not_found():
    table = make_table()
    upsert(table, [1], np.ones((1, 4)))
    ops().taco_table_destroy(table)
    with pytest.raises(NotFound, match="no TACO table behind the handle.*Make a handle with"):
        gather(table, [1])
    ops().taco_table_destroy(table)
    with pytest.raises(NotFound):
        ops().taco_table_destroy(table, ignore_lookup_error=False)


def test_an_anonymous_table_is_nobody_elses_and_goes_with_its_handle():
    one, other = make_table(shared_name=ANONYMOUS), make_table(shared_name=ANONYMOUS)
    upsert(one, [1], np.ones((1, 4)))
    assert (size(one), size(other)) == (1, 0)
    ops().taco_table_destroy(one)  # no harm: the handle still holds it
    assert size(one) == 1

    def resident() -> int:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1])

    keys = np.arange(20_000)
    rows = np.ones((20_000, 256), np.float32)  # 20 MB

    def fill_and_drop() -> None:
        upsert(make_table(dim=256, shared_name=ANONYMOUS), keys, rows)
        gc.collect()

    fill_and_drop()
    before = resident()
    for _ in range(10):
        fill_and_drop()
    assert resident() - before < 100e6 / 4096  # pages; ten tables would be 200 MB


def test_a_handle_of_another_kind_is_refused():
    variable = tf.Variable([1.0])
    with pytest.raises(InvalidArgument, match="no TACO table behind the handle"):
        gather(variable.handle, [1])


def test_two_handles_in_one_tensor_are_refused():
    both = tf.raw_ops.Pack(values=[make_table(), make_table()])
    with pytest.raises(InvalidArgument, match=r"must be one resource, but .* shape \[2\]"):
        size(both)


def test_inside_a_function_updates_come_in_order():
    table = make_table()

    @tf.function
    def step(keys):
        before = ops().taco_table_gather(table, keys, dim=4)
        ops().taco_table_upsert(table, keys, before + 1.0)
        return before, ops().taco_table_gather(table, keys, dim=4)

    before, after = step(tf.constant([1, 2], tf.int64))
    np.testing.assert_array_equal(after, before + 1)
    assert step.get_concrete_function(tf.TensorSpec([2], tf.int64)).outputs[0].shape == (2, 4)


def test_a_function_may_make_its_table_by_name():
    name = fresh_name()

    @tf.function
    def grow(key):
        table = ops().taco_table(dim=4, shared_name=name)
        ops().taco_table_upsert(table, key[None], tf.ones([1, 4]))
        return ops().taco_table_size(table)

    assert [int(grow(tf.constant(key, tf.int64))) for key in (5, 6, 6)] == [1, 2, 2]


def test_a_v1_session_needs_no_initialisation_and_owns_its_tables():
    graph = V1.Graph()
    with graph.as_default():
        table = ops().taco_table(dim=3, name="clicks")
        keys = V1.placeholder(tf.int64, [None])
        rows = ops().taco_table_gather(table, keys, dim=3)
        assert rows.shape.as_list() == [None, 3]
        train = ops().taco_table_apply(
            table, keys, tf.ones_like(rows), 1, hyper(learning_rate=1.0), optimizer="sgd"
        )
        described = ops().taco_table_stats(table)
    with V1.Session(graph=graph) as session:
        for _ in range(3):
            session.run(train, {keys: [7, 8]})
        assert session.run(rows, {keys: [7, 9]}).tolist() == [[-3] * 3, [0] * 3]
        assert json.loads(session.run(described))["name"] == "clicks"
    with V1.Session(graph=graph) as session:
        assert session.run(rows, {keys: [7]}).tolist() == [[0] * 3]


def test_a_v1_session_on_a_server_finds_its_table_across_steps():
    server = tf.distribute.Server.create_local_server()
    graph = V1.Graph()
    name = fresh_name()
    with graph.as_default():
        table = ops().taco_table(dim=2, shared_name=name)
        insert = ops().taco_table_upsert(table, np.array([1], np.int64), [[1.0, 2.0]])
        count = ops().taco_table_size(table)
    for expected in (1, 1):
        with V1.Session(server.target, graph=graph) as session:
            session.run(insert)
            assert session.run(count) == expected


def test_a_saved_model_loads_where_the_library_is_loaded(tmp_path):
    class Scorer(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
        def score(self, keys):
            # Loading changes shared_name, so that models do not share state, but not table_name.
            table = ops().taco_table(
                dim=4, shared_name="scorer", table_name="scorer", initializer="normal:0,1;seed=2"
            )
            return tf.reduce_sum(ops().taco_table_gather(table, keys, dim=4), axis=1)

    module = Scorer()
    tf.saved_model.save(module, str(tmp_path / "model"))
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    keys = tf.constant([1, 2], tf.int64)
    np.testing.assert_array_equal(loaded.score(keys), module.score(keys))


def test_stats_name_the_optimizer():
    table = make_table()
    apply(table, [1], tf.ones([1, 4]), optimizer="adam")
    described = stats(table)
    assert described["optimizer"] == "Adam"
    assert described["slots"] == ["m", "v"]


def test_ops_are_stateful_and_documented():
    for name in OP_NAMES:
        assert op_def_registry.get(name).is_stateful, name
    assert "keys.shape + [dim]" in ops().taco_table_gather.__doc__
