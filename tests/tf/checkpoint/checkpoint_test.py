"""tf.train.Checkpoint and CheckpointManager hold tables whole."""

import glob
import json
import pathlib
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from taco.tf import _ops
from taco.tf import dynamic_embedding as de
from taco.tf.keras import Embedding, TableWeight

IDS = np.array([[5, -1, 0], [2**62, 5, 7]])
TARGETS = np.array([[1.0], [0.0]], np.float32)
OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adagrad": keras.optimizers.Adagrad,
    "ftrl": keras.optimizers.Ftrl,
    "lamb": keras.optimizers.Lamb,
}


def make_table(name: str = "t", dim: int = 3, **kwargs: object) -> de.Variable:
    return de.Variable(name=name, dim=dim, initializer="zeros", **kwargs)


def fill(table: de.Variable, ids: list[int], value: float) -> None:
    table.upsert(tf.constant(ids, tf.int64), tf.fill([len(ids), table.dim], value))


def content(table: de.Variable) -> dict[int, list[float]]:
    keys, values = table.export()
    return dict(zip(keys.numpy().tolist(), values.numpy().tolist(), strict=True))


def slots(table: de.Variable) -> list[np.ndarray]:
    parts = [
        _ops.ops().taco_table_export_slots(
            handle, K=table.key_dtype, V=table.value_dtype, dim=table.dim
        )
        for handle in table.handles
    ]
    joined = [np.concatenate([p.numpy() for p in column]) for column in zip(*parts, strict=True)]
    order = np.argsort(joined[0])
    return [column[order] for column in joined]


class Model(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.users = Embedding(4, keras.initializers.RandomNormal(0, 0.1, seed=1), name="users")
        self.items = Embedding(2, keras.initializers.RandomNormal(0, 0.1, seed=2), name="items")
        self.out = keras.layers.Dense(1, kernel_initializer=keras.initializers.Ones())

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        both = tf.concat([self.users(ids), self.items(ids * 3)], -1)
        return self.out(tf.reduce_mean(both, 1))


def trained(steps: int, optimizer: str = "adam") -> Model:
    model = Model()
    model.compile(OPTIMIZERS[optimizer](0.05), "mse")
    train(model, steps)
    return model


def train(model: Model, steps: int) -> None:
    for step in range(steps):
        model.train_on_batch(IDS + step % 3, TARGETS)


def state(model: Model) -> list[np.ndarray]:
    dense = [v.numpy() for v in (*model.out.weights, *model.optimizer.variables)]
    return [*slots(model.users.table), *slots(model.items.table), *dense]


def assert_same(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    assert len(a) == len(b)
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)


def table_files(prefix: str) -> list[str]:
    return glob.glob(glob.escape(prefix) + ".data-?????-of-taco?")


def test_round_trip_of_a_bare_variable(tmp_path: pathlib.Path) -> None:
    table = make_table()
    fill(table, [1, -5, 2**63 - 1, -(2**63)], 2.5)
    path = tf.train.Checkpoint(t=table, n=tf.Variable(3)).save(str(tmp_path / "c"))
    fill(table, [77], 1.0)
    other = make_table()
    fill(other, [8], 9.0)
    n = tf.Variable(0)
    tf.train.Checkpoint(t=other, n=n).restore(path).assert_consumed()
    assert content(other) == {k: [2.5] * 3 for k in (1, -5, 2**63 - 1, -(2**63))}
    assert int(n) == 3


@pytest.mark.parametrize("steps_before", [0, 1])
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_training_continues_bit_for_bit(
    tmp_path: pathlib.Path, optimizer: str, steps_before: int
) -> None:
    uninterrupted = trained(4, optimizer)
    checkpoint = tf.train.Checkpoint(model=uninterrupted, optimizer=uninterrupted.optimizer)
    path = checkpoint.write(str(tmp_path / "c"))
    train(uninterrupted, 3)

    resumed = trained(steps_before, optimizer)  # other rows, other slots: all must go
    resumed(IDS)
    status = tf.train.Checkpoint(model=resumed, optimizer=resumed.optimizer).read(path)
    train(resumed, 3)
    status.assert_consumed()
    assert_same(state(resumed), state(uninterrupted))


def test_restore_before_the_table_is_made(tmp_path: pathlib.Path) -> None:
    original = trained(3)
    path = tf.train.Checkpoint(users=original.users, bare=original.items.table).write(
        str(tmp_path / "c")
    )
    later = Embedding(4, name="users")
    root = tf.train.Checkpoint(users=later)
    status = root.read(path)
    later.build()
    root.bare = make_table("items", 2)
    status.assert_consumed()
    assert_same(slots(later.table), slots(original.users.table))
    assert_same(slots(root.bare), slots(original.items.table))


def make_functional() -> keras.Model:
    ids = keras.Input((3,), dtype="int64")
    inner = keras.Sequential([Embedding(2, "normal", name="items"), keras.layers.Dense(2)])
    x = keras.layers.Concatenate()([Embedding(4, "normal", name="users")(ids), inner(ids)])
    model = keras.Model(ids, keras.layers.Dense(1)(keras.layers.GlobalAveragePooling1D()(x)))
    model.compile(keras.optimizers.Adam(0.05), "mse")
    return model


def tables_of(model: keras.Model) -> list[de.Variable]:
    return [w.value for w in model.weights if isinstance(w, TableWeight)]


def test_functional_and_nested_models(tmp_path: pathlib.Path) -> None:
    model = make_functional()
    for _ in range(3):
        model.train_on_batch(IDS, TARGETS)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(str(tmp_path / "c"))
    assert len(table_files(path)) == 2
    other = make_functional()
    other.train_on_batch(IDS + 9, TARGETS)
    tf.train.Checkpoint(model=other, optimizer=other.optimizer).read(path).assert_consumed()
    for ours, theirs in zip(tables_of(other), tables_of(model), strict=True):
        assert_same(slots(ours), slots(theirs))
    for each in (model, other):
        each.train_on_batch(IDS, TARGETS)
    for ours, theirs in zip(tables_of(other), tables_of(model), strict=True):
        assert_same(slots(ours), slots(theirs))


def test_sequential_model_that_is_not_built_yet(tmp_path: pathlib.Path) -> None:
    def make() -> keras.Model:
        return keras.Sequential([Embedding(4, "normal", name="e"), keras.layers.Dense(1)])

    model = make()
    model.build((None, 3))
    fill(model.layers[0].table, [1, 2], 3.0)
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "c"))
    later = make()
    tf.train.Checkpoint(model=later).read(path)
    later.build((None, 3))
    assert content(later.layers[0].table) == {1: [3.0] * 4, 2: [3.0] * 4}


def test_one_file_a_table_and_one_cut_for_all(tmp_path: pathlib.Path) -> None:
    """A thread keeps two tables equal while others are saved: every save finds them equal."""
    a, b = make_table("a", 2), make_table("b", 2)
    keys = tf.range(2000, dtype=tf.int64)
    stop = threading.Event()

    def write() -> None:
        value = 0.0
        while not stop.is_set():
            value += 1.0
            for table in (a, b):
                table.upsert(keys, tf.fill([2000, 2], value))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(5):
            path = tf.train.Checkpoint(a=a, b=b).write(str(tmp_path / f"c{number}"))
            assert len(table_files(path)) == 2
    finally:
        stop.set()
        thread.join()
    for number in range(5):
        c, d = make_table("a", 2), make_table("b", 2)
        tf.train.Checkpoint(a=c, b=d).read(str(tmp_path / f"c{number}")).assert_consumed()
        first = set(map(tuple, content(c).values()))
        second = set(map(tuple, content(d).values()))
        assert len(first) <= 1 and len(second) <= 1  # no upsert is split
        if first and second:
            (x, _), (y, _) = first.pop(), second.pop()
            assert x - y in (0.0, 1.0)  # a is written first


def test_manager_deletes_the_files_of_old_checkpoints(tmp_path: pathlib.Path) -> None:
    table = make_table()
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(t=table), str(tmp_path), max_to_keep=2)
    for number in range(5):
        fill(table, [number], float(number))
        manager.save()
    assert len(glob.glob(str(tmp_path / "*taco*"))) == 2
    names = {p.name.partition(".")[0] for p in tmp_path.iterdir()}
    assert names == {"checkpoint", "ckpt-4", "ckpt-5"}
    restored = make_table()
    tf.train.Checkpoint(t=restored).restore(manager.latest_checkpoint).assert_consumed()
    assert content(restored) == content(table)


def test_overwriting_keeps_no_older_generation(tmp_path: pathlib.Path) -> None:
    table = make_table()
    checkpoint = tf.train.Checkpoint(t=table)
    for number in range(4):
        fill(table, [number], 1.0)
        path = checkpoint.write(str(tmp_path / "c"))
        assert len(table_files(path)) == 1
    restored = make_table()
    tf.train.Checkpoint(t=restored).read(path).assert_consumed()
    assert len(content(restored)) == 4


def test_a_missing_file_is_named_and_the_table_unharmed(tmp_path: pathlib.Path) -> None:
    table = make_table()
    fill(table, [1, 2], 1.0)
    path = tf.train.Checkpoint(t=table).write(str(tmp_path / "c"))
    (name,) = table_files(path)
    pathlib.Path(name).unlink()
    other = make_table()
    fill(other, [9], 9.0)
    with pytest.raises(tf.errors.NotFoundError, match=pathlib.Path(name).name):
        tf.train.Checkpoint(t=other).read(path)
    assert content(other) == {9: [9.0] * 3}


@pytest.mark.parametrize("damage", ["flip", "truncate", "swap"])
def test_a_corrupt_file_is_named_and_the_table_unharmed(
    tmp_path: pathlib.Path, damage: str
) -> None:
    table = make_table()
    fill(table, list(range(100)), 1.0)
    path = tf.train.Checkpoint(t=table).write(str(tmp_path / "c"))
    (name,) = table_files(path)
    data = bytearray(pathlib.Path(name).read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 4
    elif damage == "truncate":
        del data[len(data) // 2 :]
    else:  # a sound file, of another save
        fill(table, [7], 3.0)
        other_path = tf.train.Checkpoint(t=table).write(str(tmp_path / "d"))
        data = bytearray(pathlib.Path(table_files(other_path)[0]).read_bytes())
    pathlib.Path(name).write_bytes(data)
    other = make_table()
    fill(other, [9], 9.0)
    with pytest.raises(tf.errors.DataLossError, match=pathlib.Path(name).name):
        tf.train.Checkpoint(t=other).read(path)
    assert content(other) == {9: [9.0] * 3}


def test_a_checkpoint_can_be_moved(tmp_path: pathlib.Path) -> None:
    table = make_table()
    fill(table, [4], 4.0)
    tf.train.Checkpoint(t=table).write(str(tmp_path / "from" / "c"))
    (tmp_path / "from").rename(tmp_path / "to")
    other = make_table()
    tf.train.Checkpoint(t=other).read(str(tmp_path / "to" / "c")).assert_consumed()
    assert content(other) == {4: [4.0] * 3}


def test_a_table_that_the_checkpoint_lacks(tmp_path: pathlib.Path) -> None:
    path = tf.train.Checkpoint(n=tf.Variable(1)).write(str(tmp_path / "c"))
    other = make_table()
    fill(other, [9], 9.0)
    status = tf.train.Checkpoint(n=tf.Variable(0), t=other).read(path)
    with pytest.raises(AssertionError):
        status.assert_existing_objects_matched()
    assert content(other) == {9: [9.0] * 3}


def test_expect_partial(tmp_path: pathlib.Path) -> None:
    a, b = make_table("a"), make_table("b")
    fill(a, [1], 1.0)
    path = tf.train.Checkpoint(a=a, b=b).write(str(tmp_path / "c"))
    only = make_table("a")
    tf.train.Checkpoint(a=only).read(path).expect_partial()
    assert content(only) == {1: [1.0] * 3}


def test_checkpoint_false_is_left_out(tmp_path: pathlib.Path) -> None:
    table = make_table(checkpoint=False)
    fill(table, [1], 1.0)
    path = tf.train.Checkpoint(t=table).write(str(tmp_path / "c"))
    assert table_files(path) == []


def test_another_optimizer_is_refused(tmp_path: pathlib.Path) -> None:
    adam = trained(2, "adam")
    path = tf.train.Checkpoint(model=adam).write(str(tmp_path / "c"))
    ftrl = trained(2, "ftrl")
    with pytest.raises(tf.errors.FailedPreconditionError, match="(?i)slots of adam"):
        tf.train.Checkpoint(model=ftrl).read(path)


def test_asynchronous_saves_are_refused(tmp_path: pathlib.Path) -> None:
    table = make_table()
    checkpoint = tf.train.Checkpoint(t=table)
    options = tf.train.CheckpointOptions(enable_async=True)
    with pytest.raises(ValueError, match="asynchronous"):
        checkpoint.save(str(tmp_path / "c"), options=options)


def test_bfloat16_and_int32_keys(tmp_path: pathlib.Path) -> None:
    table = make_table(key_dtype=tf.int32, value_dtype=tf.bfloat16)
    table.upsert(tf.constant([1, -1]), tf.cast([[1, 2, 3], [4, 5, 6]], tf.bfloat16))
    path = tf.train.Checkpoint(t=table).write(str(tmp_path / "c"))
    other = make_table(key_dtype=tf.int32, value_dtype=tf.bfloat16)
    tf.train.Checkpoint(t=other).read(path).assert_consumed()
    assert content(other) == content(table)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (2, 3), (3, 3)])
def test_resharding(tmp_path: pathlib.Path, before: int, after: int) -> None:
    def sharded(count: int) -> de.Variable:
        return make_table(devices=["/CPU:0"] * count)

    table = sharded(before)
    optimizer = keras.optimizers.Adam(0.1)
    keys = tf.constant([*range(-20, 40), 2**62], tf.int64)
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.nn.embedding_lookup(table, keys) * tf.range(3.0))
        optimizer.apply_gradients([(tape.gradient(loss, table), table)])
    path = tf.train.Checkpoint(t=table).write(str(tmp_path / "c"))
    other = sharded(after)
    fill(other, [1000], 1.0)
    tf.train.Checkpoint(t=other).read(path).assert_consumed()
    assert_same(slots(other), slots(table))
    for index in range(after):
        ids, _ = _ops.ops().taco_table_export(other.handles[index], K=tf.int64, V=tf.float32, dim=3)
        assert (other.partition_fn(ids, after).numpy() == index).all()


def test_resharding_from_a_corrupt_file_harms_nothing(tmp_path: pathlib.Path) -> None:
    table = make_table(devices=["/CPU:0"] * 3)
    fill(table, list(range(30)), 1.0)
    path = tf.train.Checkpoint(t=table).write(str(tmp_path / "c"))
    name = pathlib.Path(sorted(table_files(path), key=lambda each: each[-1])[-1])
    data = bytearray(name.read_bytes())
    data[len(data) // 2] ^= 1
    name.write_bytes(data)
    other = make_table()
    fill(other, [9], 9.0)
    with pytest.raises(tf.errors.DataLossError, match=name.name):
        tf.train.Checkpoint(t=other).read(path)
    assert content(other) == {9: [9.0] * 3}


def test_manifest_is_readable_json(tmp_path: pathlib.Path) -> None:
    table = make_table()
    fill(table, [1, 2], 1.0)
    path = tf.train.Checkpoint(t=table).write(str(tmp_path / "c"))
    (manifest,) = tf.train.load_checkpoint(path).get_tensor("_TACO_TABLES/t")
    described = json.loads(manifest)
    assert described["rows"] == 2
    assert table_files(path) == [path + described["suffix"]]
