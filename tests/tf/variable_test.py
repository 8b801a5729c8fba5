"""The variable as a table: its rows by key, what it refuses, and how long it lives."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
import tensorflow as tf
from taco.tf import dynamic_embedding as de

from tests.tf._tables import filled, random_rows, rows_of, table

DEVICES = [None, ["/CPU:0"] * 3]
EXTREMES = [0, 1, -1, 2**63 - 1, -(2**63), 17]


@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("value_dtype", [tf.float32, tf.bfloat16, tf.float16])
def test_upsert_lookup_remove_take_every_key(devices, value_dtype):
    made = table(dim=3, devices=devices, value_dtype=value_dtype, initializer=-1.0)
    rows = np.arange(18, dtype=np.float32).reshape(6, 3)
    made.upsert(EXTREMES, tf.cast(rows, value_dtype))
    assert made.size().numpy() == 6
    np.testing.assert_array_equal(rows_of(made, EXTREMES), rows)
    made.remove(EXTREMES[:2])
    values, exists = made.lookup([0, 1, -1, 99], return_exists=True)
    assert exists.numpy().tolist() == [False, False, True, False]
    np.testing.assert_array_equal(
        tf.cast(values, tf.float32), [[-1] * 3, [-1] * 3, rows[2], [-1] * 3]
    )
    made.clear()
    assert made.size().numpy() == 0


@pytest.mark.parametrize("devices", DEVICES)
def test_keys_of_any_rank(devices):
    made = table(dim=2, devices=devices)
    keys = np.arange(12).reshape(2, 3, 2)
    rows = random_rows(12, 2).reshape(2, 3, 2, 2)
    made.upsert(keys, rows)
    values, exists = made.lookup(keys, return_exists=True)
    np.testing.assert_array_equal(values, rows)
    assert exists.shape == keys.shape
    assert made.lookup(5).shape == (2,)
    np.testing.assert_array_equal(made.lookup(5), rows.reshape(12, 2)[5])


def test_int32_keys():
    made = table(dim=1, key_dtype=tf.int32)
    made.upsert([-(2**31), 2**31 - 1], [[1.0], [2.0]])
    keys, values = made.export()
    assert keys.dtype == tf.int32
    assert dict(zip(keys.numpy().tolist(), values.numpy()[:, 0].tolist(), strict=True)) == {
        -(2**31): 1.0,
        2**31 - 1: 2.0,
    }


@pytest.mark.parametrize("devices", DEVICES)
def test_export_and_import_bring_everything_over(devices):
    made = table(dim=4, devices=devices)
    keys = np.random.default_rng(1).choice(10**9, 500, replace=False)
    made.upsert(keys, random_rows(500, 4))
    other = filled([3], [[9.0] * 4])
    other.import_(*made.export())
    assert other.size().numpy() == 500
    np.testing.assert_array_equal(rows_of(other, keys), rows_of(made, keys))


@pytest.mark.parametrize("devices", DEVICES)
def test_accum_adds_to_what_exists_and_inserts_the_rest(devices):
    made = filled([0, 1], [[0.0], [1.0]], devices=devices)
    keys = [0, 1, 5]
    old, exists = made.lookup(keys, return_exists=True)
    made.upsert([0], [[100.0]])  # another worker, in between
    made.accum(keys, old, old + 10.0, exists)
    np.testing.assert_array_equal(rows_of(made, keys), [[110.0], [11.0], [10.0]])


def test_size_by_table_adds_up():
    made = table(dim=1, devices=["/CPU:0"] * 2)
    made.upsert([0, 2, 4, 1], [[0.0]] * 4)
    assert [made.size(0).numpy(), made.size(1).numpy(), made.size().numpy()] == [3, 1, 4]


def test_tables_are_the_parts_of_the_rows():
    made = table(dim=1, devices=["/CPU:0"] * 2, initializer=9.0)
    made.tables[1].insert([1, 3], [[1.0], [3.0]])
    assert made.lookup([1, 3, 2]).numpy().tolist() == [[1.0], [3.0], [9.0]]
    assert made.tables[1].lookup([3, 5]).numpy().tolist() == [[3.0], [9.0]]
    made.tables[1].remove([1])
    assert [t.size().numpy() for t in made.tables] == [0, 1]
    assert made.tables[1].export()[0].numpy().tolist() == [3]
    assert "CPU:0" in made.tables[0].device


def test_own_partitioner_decides_the_table():
    made = table(
        dim=1, devices=["/CPU:0"] * 2, partitioner=lambda keys, n: tf.ones_like(keys, tf.int32)
    )
    made.upsert([0, 2, 4, 1], [[0.0]] * 4)
    assert made.size(1).numpy() == 4


def test_stats_say_what_is_in_the_table():
    made = filled([1, 2, 3], np.zeros((3, 8)))
    made.lookup([1, 2, 77])
    stats = made.stats()
    assert stats["rows"] == 3
    assert stats["dim"] == 8
    assert stats["lookups"] >= 3
    assert stats["hits"] >= 2
    assert stats["hit_rate"] == pytest.approx(stats["hits"] / stats["lookups"])
    assert isinstance(table(devices=["/CPU:0"] * 2).stats(), list)


@pytest.mark.parametrize(
    "call",
    [
        lambda v: v.read_value(),
        lambda v: v.numpy(),
        lambda v: np.array(v),
        lambda v: tf.convert_to_tensor(v),
        lambda v: v + 1.0,
        lambda v: v.value(),
    ],
)
def test_reading_it_whole_names_the_remedy(call):
    with pytest.raises(NotImplementedError, match="embedding_lookup"):
        call(table())


@pytest.mark.parametrize("name", ["assign", "assign_add", "assign_sub", "scatter_update"])
def test_writing_it_whole_names_the_remedy(name):
    with pytest.raises(NotImplementedError, match="var[.](upsert|accum)"):
        getattr(table(), name)(1.0)


def test_types_and_shapes_are_checked_when_it_is_made():
    with pytest.raises(TypeError, match="float32"):
        table(value_dtype=tf.float64)
    with pytest.raises(TypeError, match="int64"):
        table(key_dtype=tf.string)
    for dim in (0, 4097):
        with pytest.raises(ValueError, match="4096"):
            table(dim=dim)
    with pytest.raises(ValueError, match="3 values"):
        table(dim=4, initializer=[1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="KVCreator"):
        table(kv_creator=object())


def test_import_with_wrong_shape_changes_nothing():
    made = filled([1], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="shape"):
        made.import_([1, 2], [[1.0, 2.0]])
    assert made.size().numpy() == 1


@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("shape", [(2, 2), (3, 1), (2,), (3, 1, 2)])
def test_import_with_wrong_shape_in_a_function_changes_nothing(devices, shape):
    made = filled([1], [[1.0, 2.0]], devices=devices)
    for spec in (tf.TensorSpec(None), tf.TensorSpec([None] * len(shape))):
        signature = [tf.TensorSpec([None], tf.int64), spec]
        replace = tf.function(lambda k, v: [made.import_(k, v), k][1], input_signature=signature)
        with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
            replace(tf.constant([1, 2, 3], tf.int64), tf.ones(shape))
        assert made.export()[1].numpy().tolist() == [[1.0, 2.0]]
    replace = tf.function(
        lambda k, v: [made.import_(k, v), k][1],
        input_signature=[tf.TensorSpec(None, tf.int64), tf.TensorSpec(None)],
    )
    replace(tf.constant([5, 6, 7], tf.int64), tf.ones([3, 2]))
    assert sorted(made.export()[0].numpy().tolist()) == [5, 6, 7]


def test_the_table_goes_with_its_last_reference():
    made = filled([1], [[1.0]])
    handle, reference = made.handle, weakref.ref(made)
    del made
    gc.collect()
    assert reference() is None
    from taco.tf._ops import ops

    with pytest.raises(tf.errors.NotFoundError):
        ops().taco_table_size(handle)


def test_deepcopy_is_another_table_with_the_same_rows():
    made = filled([1, 2], [[1.0], [2.0]])
    copied = copy.deepcopy(made)
    copied.upsert([1], [[5.0]])
    assert rows_of(made, [1, 2]).tolist() == [[1.0], [2.0]]
    assert rows_of(copied, [1, 2]).tolist() == [[5.0], [2.0]]
    assert copy.copy(made) is made


def test_pickling_names_the_remedy():
    with pytest.raises(TypeError, match="Checkpoint"):
        pickle.dumps(table())


def test_tables_of_one_name_are_two_tables_with_equal_first_rows():
    init = tf.keras.initializers.RandomNormal(seed=3)
    one, two = (de.Variable(name="twins", dim=4, initializer=init) for _ in range(2))
    one.upsert([1], [[0.0] * 4])
    assert two.size().numpy() == 0
    np.testing.assert_array_equal(one.lookup([2, 3]), two.lookup([2, 3]))


def test_tables_of_one_name_in_a_graph_are_two_tables_of_two_names():
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        one, two, three = (de.Variable(name="twins", dim=1, devices=d) for d in [*DEVICES, None])
        assert [v.name for v in (one, two, three)] == ["twins", "twins_1", "twins_2"]
        assert three.op.name == "twins_2"
        unnamed = [de.Variable(dim=1).name for _ in range(2)]
        assert unnamed == ["DynamicEmbedding_Variable", "DynamicEmbedding_Variable_1"]
        session.run(tf.compat.v1.global_variables_initializer())
        session.run(one.upsert([1], [[5.0]]))
        assert session.run([v.size() for v in (one, two, three)]) == [1, 0, 0]
        made = de.get_variable("mine", dim=1)
        assert de.Variable(name="mine", dim=1).name == "mine_1"
        with tf.compat.v1.variable_scope("", reuse=True):
            assert de.get_variable("mine", dim=1) is made
    with tf.Graph().as_default():
        assert de.Variable(name="twins", dim=1).name == "twins"


METHODS = [
    lambda v, keys: v.lookup(keys),
    lambda v, keys: v.upsert(keys, [[1.0]]),
    lambda v, keys: v.accum(keys, [[1.0]], [[1.0]], [True]),
    lambda v, keys: v.remove(keys),
    lambda v, keys: v.import_(keys, [[1.0]]),
    lambda v, keys: v.tables[0].lookup(keys),
    lambda v, keys: v.tables[0].insert(keys, [[1.0]]),
    lambda v, keys: v.tables[0].remove(keys),
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        (np.array([1.7]), "float64"),
        ([1.7], "float64"),
        (np.array([True]), "bool"),
        (np.array([1j]), "complex128"),
        (np.array(["1"]), "string"),
        (tf.constant([1], tf.int32), "int32"),
        (tf.constant([1.0]), "float32"),
    ],
)
def test_keys_of_another_type_are_refused_and_nothing_is_changed(method, keys, kind):
    made = filled([1], [[7.0]])
    message = f"table '{made.name}' has int64 keys, and was asked for {kind}: cast them"
    with pytest.raises(TypeError, match=message):
        method(made, keys)
    assert made.lookup([1]).numpy().tolist() == [[7.0]] and made.size().numpy() == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("keys", [[2**32 + 1], [-(2**31) - 1], np.array([2**31]), [2**70]])
def test_keys_beyond_int32_are_refused_by_an_int32_table(method, keys):
    made = filled([1], [[7.0]], key_dtype=tf.int32)
    with pytest.raises(ValueError, match=f"int32 keys, and was asked for {int(keys[0])}"):
        method(made, keys)
    with pytest.raises(ValueError, match=str(int(keys[0]))):
        de.embedding_lookup(made, [int(keys[0])])
    assert made.export()[0].numpy().tolist() == [1]


@pytest.mark.parametrize("key_dtype", [tf.int32, tf.int64])
def test_integers_that_fit_are_keys_whatever_holds_them(key_dtype):
    made = filled([3], [[7.0]], key_dtype=key_dtype)
    kinds = [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64, object]
    for keys in ([3], (3,), range(3, 4), [tf.constant(3, key_dtype)], [np.int16(3)]):
        assert made.lookup(keys).numpy().tolist() == [[7.0]]
    for kind in kinds:
        assert made.lookup(np.array([3], kind)).numpy().tolist() == [[7.0]]
    for keys in ([], np.array([])):
        assert made.lookup(keys).shape == (0, 1)

    @tf.function
    def in_a_function(key):
        return made.lookup([key, 3])

    assert in_a_function(tf.constant(3, key_dtype)).numpy().tolist() == [[7.0]] * 2
    if key_dtype == tf.int64:
        with pytest.raises(ValueError, match="int64 keys, and was asked for 9223372036854775808"):
            made.lookup([2**63])


UNSIGNED = np.array([2**64 - 1, 2**63, 5], np.uint64)


@pytest.mark.parametrize("kind", [np.array, tf.constant])
@pytest.mark.parametrize(
    "lookup",
    [
        lambda made, keys: made.lookup(keys),
        lambda made, keys: tf.nn.embedding_lookup(made, keys),
        lambda made, keys: tf.gather(made, keys),
        lambda made, keys: tf.function(lambda k: tf.gather(made, k))(keys),
        de.embedding_lookup,
        de.embedding_lookup_unique,
        lambda made, keys: de.embedding_lookup_sparse(
            made, tf.RaggedTensor.from_row_lengths(keys, [1, 1, 1])
        ),
        lambda made, keys: tf.nn.safe_embedding_lookup_sparse(
            made, tf.RaggedTensor.from_row_lengths(keys, [1, 1, 1]).to_sparse()
        ),
        lambda made, keys: de.safe_embedding_lookup_sparse(
            made, tf.RaggedTensor.from_row_lengths(keys, [1, 1, 1])
        ),
    ],
)
def test_unsigned_keys_keep_their_bits(lookup, kind):
    made = table(dim=1)
    made.upsert(kind(UNSIGNED), [[1.0], [2.0], [3.0]])
    assert dict(zip(*(x.numpy().ravel().tolist() for x in made.export()), strict=True)) == {
        -1: 1.0,
        -(2**63): 2.0,
        5: 3.0,
    }
    assert lookup(made, kind(UNSIGNED)).numpy().tolist() == [[1.0], [2.0], [3.0]]


def test_unsigned_keys_are_not_cut_for_a_table_of_int32():
    made = table(key_dtype=tf.int32)
    with pytest.raises(ValueError, match="int32 keys, and was asked for 18446744073709551615"):
        made.lookup(UNSIGNED)
    for lookup in (made.lookup, made.sparse_read, lambda keys: tf.gather(made, keys)):
        with pytest.raises(TypeError, match="int32 keys, and was asked for uint64"):
            lookup(tf.constant(UNSIGNED))


def test_values_that_are_no_numbers_are_kept_as_a_variable_keeps_them():
    made = filled([1], [[np.nan, np.inf]])
    assert str(made.lookup([1]).numpy().tolist()) == "[[nan, inf]]"


def test_a_deep_copy_is_another_table_of_the_same_name():
    made = filled([1, 2], [[1.0], [2.0]])
    copied = copy.deepcopy(made)
    assert copied is not made and copied.name == made.name
    copied.upsert([1], [[9.0]])
    copied.remove([2])
    assert made.lookup([1, 2]).numpy().tolist() == [[1.0], [2.0]]


def test_it_compares_by_identity_and_can_be_a_key():
    one, two = table(), table()
    assert one == one and one != two
    assert {one: 1, two: 2}[two] == 2
    assert two in [one, two]


def test_modules_track_it():
    module = tf.Module()
    module.users = table()
    module.fixed = table(trainable=False)
    assert module.variables == (module.fixed, module.users)
    assert module.trainable_variables == (module.users,)


def test_get_variable_finds_the_table_of_a_name_as_long_as_something_holds_it():
    made = de.get_variable("only_one", dim=2)
    assert de.get_variable("only_one", dim=2) is made
    with pytest.raises(ValueError, match="already exists"):
        de.get_variable("only_one", dim=3)
    with tf.compat.v1.variable_scope("other"):
        assert de.get_variable("only_one", dim=3).name == "other/only_one"
    del made
    de.get_variable("only_one", dim=3)


@pytest.mark.parametrize("dim", [2.5, "8", True, None])
def test_a_dim_that_is_no_integer_is_refused(dim):
    with pytest.raises(TypeError, match="dim must be an integer"):
        de.Variable(name="odd", dim=dim)


@pytest.mark.parametrize("init_size", [-1, 2**40, 2**63 - 1])
def test_an_init_size_beyond_the_machine_is_refused(init_size):
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="init_size"):
        de.Variable(name="huge", dim=8, init_size=init_size)


def test_slots_can_be_looked_at():
    var = table(dim=2, devices=["/CPU:0"] * 2)
    optimizer = tf.keras.optimizers.Adam(0.1, amsgrad=True)
    slots = var.get_slot_variables(optimizer)
    assert [slot.name for slot in slots] == [f"{var.name}/{name}" for name in ("m", "v", "vhat")]
    assert all(int(slot.size()) == 0 for slot in slots)
    slices = tf.IndexedSlices(tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant([7, 8], tf.int64))
    optimizer.apply([slices], [var])
    keys, rows = slots[0].export()
    of_keys = dict(zip(keys.numpy().tolist(), rows.numpy().tolist(), strict=True))
    np.testing.assert_allclose([of_keys[7], of_keys[8]], [[0.1, 0.2], [0.3, 0.4]], rtol=1e-5)
    assert int(slots[2].size()) == 2
    assert var.get_slot_variables(tf.keras.optimizers.SGD(0.1)) == []
    with pytest.raises(TypeError, match="Nadam cannot train"):
        var.get_slot_variables(tf.keras.optimizers.Nadam())


def test_slots_of_a_graph_can_be_looked_at():
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        var = de.Variable(name="slots", dim=1)
        optimizer = v1.train.RMSPropOptimizer(0.1, centered=True)
        step = optimizer.minimize(tf.reduce_sum(tf.nn.embedding_lookup(var, [4, 5])))
        slots = {slot.name: slot for slot in var.get_slot_variables(optimizer)}
        assert sorted(slots) == [
            "slots/average_gradient",
            "slots/momentum",
            "slots/velocity",
        ]
        session.run(v1.global_variables_initializer())
        session.run(step)
        keys, rows = session.run(slots["slots/velocity"].export())
        assert sorted(keys) == [4, 5] and rows.shape == (2, 1)
        np.testing.assert_allclose(rows, 1.0)  # 0.9 * 1 + 0.1 * 1, from where it starts


def test_a_saver_to_files_is_what_there_is_anyway():
    creator = de.CuckooHashTableCreator(saver=de.FileSystemSaver())
    assert isinstance(table(kv_creator=creator).kv_creator.saver, de.FileSystemSaver)
    with pytest.raises(ValueError, match="leave save_path out"):
        de.FileSystemSaver(save_path="/elsewhere")
    with pytest.raises(ValueError, match="each process saves the tables that it has"):
        de.FileSystemSaver(proc_size=2, proc_rank=1)
    with pytest.raises(ValueError, match=r"give de.FileSystemSaver\(\)"):
        de.CuckooHashTableCreator(saver="there")
