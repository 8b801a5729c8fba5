"""Ops on the same tables from many threads, and saves while training goes on."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf

from tests.tf_ops._ops import apply, gather, make_table, ops, rows_by_key, save, size, upsert

DIM = 4


def in_threads(*calls: Callable[[], None]) -> None:
    """Runs all at once and raises what any of them raises."""
    with ThreadPoolExecutor(len(calls)) as pool:
        for future in [pool.submit(call) for call in calls]:
            future.result()


def test_no_update_is_lost():
    table = make_table()
    keys = np.arange(3000, dtype=np.int64)
    minus_one = tf.fill([3000, DIM], -1.0)

    def train() -> None:
        random = np.random.default_rng(threading.get_ident())
        for _ in range(40):
            apply(table, random.permutation(keys), minus_one, learning_rate=1.0)

    in_threads(train, train, train, train)
    np.testing.assert_array_equal(gather(table, keys), np.full((3000, DIM), 160))


def test_everything_at_once_keeps_rows_whole():
    table = make_table()
    stop = threading.Event()

    def write() -> None:
        try:
            for value in range(1, 60):
                keys = np.arange(value * 50, value * 50 + 2000, dtype=np.int64)
                upsert(table, keys, np.full((2000, DIM), value))
                ops().taco_table_remove(table, keys[::3])
        finally:
            stop.set()

    def read() -> None:
        while not stop.is_set():
            rows = gather(table, np.arange(5000, dtype=np.int64))
            assert (rows == rows[:, :1]).all()

    def export() -> None:
        while not stop.is_set():
            keys, values = ops().taco_table_export(table, dim=DIM)
            assert len(np.unique(keys)) == len(keys)
            assert np.all(values == values[:, :1])

    in_threads(write, read, read, export)


def test_a_save_is_one_cut_over_all_tables(tmp_path):
    """Each call adds 1 to all rows of a table: of the first, of the second, and so on."""
    rows = 2000
    keys = np.arange(rows, dtype=np.int64)
    tables = [make_table() for _ in range(8)]
    minus_one = tf.fill([rows, DIM], -1.0)
    stop, trained = threading.Event(), threading.Event()

    def train() -> None:
        try:
            while not stop.is_set():
                for table in tables:
                    apply(table, keys, minus_one, learning_rate=1.0)
                trained.set()
        finally:
            trained.set()  # after a failure too: nobody waits for ever

    def calls_seen(prefix: Path, manifest: bytes) -> float:
        copy = make_table()
        ops().taco_table_restore(copy, str(prefix), manifest)
        found = rows_by_key(copy)
        assert len(found) == rows
        # Every row of a table has seen the same number of calls.
        [calls] = {value for row in found.values() for value in row}
        ops().taco_table_destroy(copy)
        return calls

    def keep_saving() -> None:
        try:
            trained.wait()
            seen = set()
            for number in range(40):
                prefix = tmp_path / f"ckpt-{number}"
                calls = [calls_seen(prefix, manifest) for manifest in save(tables, prefix)]
                # The cut falls between two calls: tables behind it have seen one less.
                assert calls == sorted(calls, reverse=True)
                assert calls[0] - calls[-1] in (0.0, 1.0)
                seen.add(calls[0])
            assert len(seen) > 1, "training stood still while saving"
        finally:
            stop.set()

    in_threads(train, keep_saving)


def test_saves_of_the_same_tables_in_opposite_order_do_not_block_each_other(tmp_path):
    one, other = make_table(), make_table()
    for table in (one, other):
        upsert(table, np.arange(5000), np.ones((5000, DIM)))

    def saver(tables: list, name: str) -> Callable[[], None]:
        def run() -> None:
            for number in range(10):
                save(tables, tmp_path / f"{name}-{number}")

        return run

    in_threads(saver([one, other], "a"), saver([other, one], "b"))


def test_a_table_destroyed_in_use_ends_well():
    table = make_table()
    started = threading.Event()

    def work() -> None:
        keys = np.arange(2000, dtype=np.int64)
        try:
            while True:
                upsert(table, keys, np.ones((2000, DIM)))
                started.set()
        except tf.errors.NotFoundError:
            pass

    def destroy() -> None:
        started.wait()
        ops().taco_table_destroy(table)

    in_threads(work, work, destroy)


def test_more_sessions_than_threads_share_a_pool():
    """Lookups large enough to be split, from more callers than the pool has threads."""
    graph = tf.compat.v1.Graph()
    with graph.as_default():
        table = ops().taco_table(dim=8, initializer="uniform:0,1;seed=1")
        keys = tf.range(20_000, dtype=tf.int64)
        found = ops().taco_table_gather(table, keys, dim=8)
        write = ops().taco_table_upsert(table, keys, found)
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=2, inter_op_parallelism_threads=2
    )
    with tf.compat.v1.Session(graph=graph, config=config) as session:
        expected = session.run(found)

        def run() -> None:
            for _ in range(10):
                session.run(write)
                np.testing.assert_array_equal(session.run(found), expected)

        in_threads(*[run] * 8)


def test_size_is_exact_when_all_is_quiet():
    table = make_table()

    def fill(start: int) -> Callable[[], None]:
        keys = np.arange(start, start + 4000, dtype=np.int64)
        return lambda: upsert(table, keys, np.ones((4000, DIM)))

    in_threads(fill(0), fill(2000), fill(-2000))
    assert size(table) == 8000
