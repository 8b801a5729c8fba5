"""TacoTablesSave, TacoTableRestore, TacoTableFileInfo: what comes back, and what is refused."""

import json
import os
import re
import resource
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from tests.tf_ops._ops import (
    CORNER_KEYS,
    apply,
    file_of,
    make_table,
    ops,
    rows_by_key,
    save,
    size,
    stats,
    upsert,
)

InvalidArgument = tf.errors.InvalidArgumentError
FailedPrecondition = tf.errors.FailedPreconditionError
DataLoss = tf.errors.DataLossError
NotFound = tf.errors.NotFoundError


def trained(optimizer="adam", rows=1000, dim=4, **kwargs):
    """A table after three steps, some rows with a longer history than others."""
    table = make_table(dim=dim, initializer="uniform:-1,1;seed=1", **kwargs)
    random = np.random.default_rng(3)
    for step in range(1, 4):
        keys = random.integers(-rows, rows, rows)
        grads = tf.constant(random.normal(size=(rows, dim)), tf.float32)
        apply(table, keys, grads, step=step, optimizer=optimizer)
    return table


def everything(table, dim=4, **kwargs):
    """Rows, slots, scalars, frequencies and steps in order of key."""
    out = ops().taco_table_export_slots(table, dim=dim, **kwargs)
    order = np.argsort(out.keys.numpy())
    return [tf.cast(part, tf.float64).numpy()[order] for part in out]


def assert_same(table, other, **kwargs):
    for mine, theirs in zip(everything(table, **kwargs), everything(other, **kwargs), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def restore(table, prefix, manifest, **kwargs):
    ops().taco_table_restore(table, str(prefix), manifest, **kwargs)


@pytest.mark.parametrize(
    "optimizer",
    ["sgd", "adagrad", "adam", "sparse_adam", "ftrl"]
    + ["proximal_gradient_descent", "proximal_adagrad", "adagrad_da"],
)
def test_rows_slots_scalars_frequencies_and_steps_come_back(tmp_path, optimizer):
    table = trained(optimizer, table_name="clicks")
    [manifest] = save([table], tmp_path / "ckpt-1")
    restored = make_table(initializer="uniform:-1,1;seed=1", table_name="clicks")
    upsert(restored, [10**9], np.ones((1, 4)))  # goes
    restore(restored, tmp_path / "ckpt-1", manifest)
    assert_same(table, restored)
    grads = tf.ones([2000, 4])
    for each in (table, restored):
        apply(each, np.arange(2000) - 1000, grads, step=4, optimizer=optimizer)
    assert_same(table, restored)  # training goes on as if nothing had happened


def test_a_table_comes_back_whatever_bytes_its_name_holds(tmp_path):
    name = b'"\\\n\xff \xc3'  # no UTF-8
    table = trained(table_name=name)
    [manifest] = save([table], tmp_path / "x")
    restored = make_table(table_name=name)
    restore(restored, tmp_path / "x", manifest)
    assert_same(table, restored)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_two_byte_values_and_every_key_come_back(tmp_path, dtype):
    table = make_table(value_dtype=dtype)
    rows = tf.constant(np.arange(20).reshape(5, 4), dtype)
    ops().taco_table_upsert(table, CORNER_KEYS, rows)
    [manifest] = save([table], tmp_path / "x")
    restored = make_table(value_dtype=dtype)
    restore(restored, tmp_path / "x", manifest)
    assert_same(table, restored, V=dtype)


def test_an_empty_table_and_no_table_at_all(tmp_path):
    [manifest] = save([make_table()], tmp_path / "x")
    restored = make_table()
    upsert(restored, [1], np.ones((1, 4)))
    restore(restored, tmp_path / "x", manifest)
    assert size(restored) == 0
    assert save([], tmp_path / "y") == []


def test_the_manifest_describes_the_file(tmp_path):
    table = trained()
    [manifest] = save([table], tmp_path / "deep" / "er" / "ckpt")
    described = json.loads(manifest)
    assert described["format"] == 1
    assert re.fullmatch(r"\.data-[a-z0-9]{5}-of-taco0", described["suffix"])
    assert described["rows"] == size(table)
    path = file_of(tmp_path / "deep" / "er" / "ckpt", manifest)
    assert described["bytes"] == os.path.getsize(path)
    info = json.loads(ops().taco_table_file_info(path).numpy())
    assert (info["rows"], info["dim"], info["dtype"]) == (size(table), 4, "float")
    assert (info["optimizer"], info["slots"]) == ("Adam", ["m", "v"])
    assert (info["initializer"], info["seed"]) == ("uniform:-1,1", "1")


def test_suffixes_differ_and_count_the_tables(tmp_path):
    manifests = save([make_table() for _ in range(40)], tmp_path / "x")
    suffixes = [json.loads(manifest)["suffix"] for manifest in manifests]
    assert len(set(suffixes)) == 40
    assert [suffix[-1] for suffix in suffixes] == list("0123456789abcdefghijklmnopqrstuvwxyz0123")


def test_tensorflows_checkpoint_manager_deletes_our_files(tmp_path):
    prefix = tmp_path / "ckpt-1"
    save([make_table()], prefix)
    (tmp_path / "ckpt-1.index").write_bytes(b"")
    tf.compat.v1.train.remove_checkpoint(str(prefix))
    assert os.listdir(tmp_path) == []


def test_only_orphans_of_the_prefix_go(tmp_path):
    table = make_table()
    [kept], [orphan] = save([table], tmp_path / "a"), save([table], tmp_path / "b")
    shutil.move(file_of(tmp_path / "b", orphan), tmp_path / "a.data-00zzz-of-taco0")
    others = {
        "a.data-00000-of-00001",  # TensorFlow's own
        "a.data-00zzz-of-taco0x",
        "a-1.data-00zzz-of-taco0",  # of another prefix
        "ba.data-00zzz-of-taco0",
        "a.index",
    }
    for name in others | {"a.data-11zzz-of-taco3.tmp"}:
        (tmp_path / name).write_bytes(b"")
    [new] = save([table], tmp_path / "a", keep=[json.loads(kept)["suffix"]])
    expected = {os.path.basename(file_of(tmp_path / "a", m)) for m in (kept, new)}
    assert set(os.listdir(tmp_path)) == others | expected


def test_orphans_stay_where_other_processes_save_to_the_prefix(tmp_path):
    save([make_table()], tmp_path / "a")
    save([make_table()], tmp_path / "a", delete_orphans=False)
    assert len(os.listdir(tmp_path)) == 2


def test_a_prefix_without_folder_is_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save([make_table()], "here")
    [manifest] = save([make_table()], "here")
    assert os.listdir(tmp_path) == [file_of("here", manifest)]


def test_prefixes_may_hold_glob_characters(tmp_path):
    table = trained(rows=10)
    [manifest] = save([table], tmp_path / "a[1]*?")
    restored = make_table()
    restore(restored, tmp_path / "a[1]*?", manifest)
    assert_same(table, restored)


@pytest.mark.parametrize("prefix", ["", "folder/"])
def test_a_prefix_without_a_name_is_refused(prefix):
    with pytest.raises(InvalidArgument, match=f"prefix is '{prefix}'; give the folder and"):
        save([make_table()], prefix)


def test_a_table_given_twice_is_refused(tmp_path):
    table = make_table()
    with pytest.raises(InvalidArgument, match="given twice"):
        save([table, make_table(), table], tmp_path / "x")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(tf.errors.OpError, match=f"{tmp_path}/file"):
        save([make_table()], tmp_path / "file" / "x")


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path):
    # Every write beyond this process's largest file size fails, as on a full disk.
    table = make_table(dim=64)
    upsert(table, np.arange(20_000), np.ones((20_000, 64)))  # 5 MB
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(tf.errors.OpError, match=f"cannot write {tmp_path}/x.data-"):
            save([make_table(), table], tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert os.listdir(tmp_path) == []
    assert size(table) == 20_000
    upsert(table, [-1], np.ones((1, 64)))  # the snapshot is gone: nobody waits for it
    save([table], tmp_path / "x")


def test_merge_keeps_what_the_file_does_not_hold(tmp_path):
    shards = [make_table(dim=1), make_table(dim=1)]
    upsert(shards[0], [1, 2], [[1], [2]])
    upsert(shards[1], [3], [[3]])
    manifests = save(shards, tmp_path / "x")
    restored = make_table(dim=1)
    upsert(restored, [2, 9], [[20], [9]])
    for manifest in manifests:
        restore(restored, tmp_path / "x", manifest, merge=True)
    assert rows_by_key(restored, dim=1) == {1: [1], 2: [2], 3: [3], 9: [9]}


def test_vectors_only_sets_slots_fresh(tmp_path):
    table = trained("adam")
    [manifest] = save([table], tmp_path / "x")
    restored = make_table()
    apply(restored, [1], tf.ones([1, 4]), optimizer="adagrad", slot_init=[0.5])
    with pytest.raises(FailedPrecondition, match="slots of Adam.*slots of Adagrad.*vectors_only"):
        restore(restored, tmp_path / "x", manifest)
    assert size(restored) == 1
    restore(restored, tmp_path / "x", manifest, vectors_only=True)
    np.testing.assert_array_equal(everything(table)[1], everything(restored)[1])
    np.testing.assert_array_equal(everything(restored)[2], np.full((size(table), 1, 4), 0.5))


def test_a_file_from_before_the_first_step_fits_a_trained_table(tmp_path):
    table = make_table()
    upsert(table, [1, 2], np.ones((2, 4)))
    [manifest] = save([table], tmp_path / "x")
    apply(table, [1, 2, 3], tf.ones([3, 4]), optimizer="adam")
    restore(table, tmp_path / "x", manifest)
    assert rows_by_key(table) == {1: [1] * 4, 2: [1] * 4}
    assert stats(table)["slots"] == ["m", "v"]
    assert not everything(table)[2].any()


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"dim": 5}, "holds rows of 4 float, but table .* has rows of 5 float"),
        ({"value_dtype": tf.float16}, "holds rows of 4 float, but table .* has rows of 4 half"),
    ],
)
def test_a_table_of_another_shape_is_refused(tmp_path, attributes, message):
    [manifest] = save([trained()], tmp_path / "x")
    with pytest.raises(InvalidArgument, match=f"{tmp_path}/x.data-.* {message}"):
        restore(make_table(**attributes), tmp_path / "x", manifest)


def test_keys_that_int32_cannot_hold_are_refused(tmp_path):
    table = make_table()
    upsert(table, [1, 2**31], np.ones((2, 4)))
    [manifest] = save([table], tmp_path / "x")
    narrow = make_table(key_dtype=tf.int32)
    with pytest.raises(InvalidArgument, match="holds the key 2147483648.*int32"):
        restore(narrow, tmp_path / "x", manifest)
    assert size(narrow) == 0


def test_every_corruption_is_refused_and_the_table_unharmed(tmp_path):
    [manifest] = save([trained(rows=50)], tmp_path / "x")
    path = file_of(tmp_path / "x", manifest)
    with open(path, "rb") as file:
        good = file.read()
    victim = make_table()
    upsert(victim, [1], np.ones((1, 4)))
    random = np.random.default_rng(5)
    damaged = [good[:length] for length in (0, 1, len(good) // 2, len(good) - 1)]
    damaged += [good + b"\0", good[: len(good) // 2] * 2]
    for position in random.integers(0, len(good), 60).tolist():
        flipped = bytearray(good)
        flipped[position] ^= 1 << int(random.integers(8))
        damaged.append(bytes(flipped))
    for content in damaged:
        with open(path, "wb") as file:
            file.write(content)
        with pytest.raises((DataLoss, InvalidArgument), match=re.escape(path)):
            restore(victim, tmp_path / "x", manifest)
    assert rows_by_key(victim) == {1: [1] * 4}
    with open(path, "wb") as file:
        file.write(good)
    restore(victim, tmp_path / "x", manifest)


def test_an_exchanged_file_is_refused(tmp_path):
    manifests = save([trained(rows=50), trained("sgd", rows=20)], tmp_path / "x")
    shutil.copy(file_of(tmp_path / "x", manifests[1]), file_of(tmp_path / "x", manifests[0]))
    with pytest.raises(DataLoss, match="sound in itself, but not the file that the checkpoint"):
        restore(make_table(), tmp_path / "x", manifests[0])


def test_an_absent_file_is_named(tmp_path):
    [manifest] = save([make_table()], tmp_path / "x")
    with pytest.raises(NotFound, match=f"cannot open table file {tmp_path}/y.data-"):
        restore(make_table(), tmp_path / "y", manifest)
    with pytest.raises(NotFound, match="nothing-here"):
        ops().taco_table_file_info(str(tmp_path / "nothing-here"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (None, "not one of TacoTablesSave"),
        ({"format": 2}, "format 2.*update TACO"),
        ({"format": None}, "not one of TacoTablesSave"),
        ({"suffix": "/../../etc/passwd"}, "wrong suffix"),
        ({"suffix": ".data-00000-of-00001"}, "wrong suffix"),
        ({"digest": "xyz"}, "wrong suffix, digest"),
        ({"rows": -1}, "wrong suffix, digest, rows"),
        ({"rows": 1.5}, "wrong suffix, digest, rows"),
        ({"bytes": "9"}, "wrong suffix, digest, rows or bytes"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(tmp_path, changes, message):
    [manifest] = save([make_table()], tmp_path / "x")
    text = "no json" if changes is None else json.dumps({**json.loads(manifest), **changes})
    with pytest.raises(InvalidArgument, match=message):
        restore(make_table(), tmp_path / "x", text)
