"""tf.compat.v1.train.Saver takes tables like any other variable."""

import glob
import pathlib
import threading

import numpy as np
import pytest
import tensorflow as tf
from taco.tf import _ops
from taco.tf import dynamic_embedding as de

v1 = tf.compat.v1


class Program:
    """A graph with two tables and a dense variable, trained with Adam."""

    def __init__(self, **saver_arguments: object):
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.a = de.Variable(name="a", dim=2, initializer=0.5)
            self.b = de.Variable(name="scope/b", dim=3, initializer=0.25)
            self.w = v1.get_variable("w", [3, 2], initializer=v1.ones_initializer())
            ids = tf.constant([1, -7, 1, 2**62], tf.int64)
            rows = tf.nn.embedding_lookup(self.b, ids) @ self.w
            loss = tf.reduce_sum((rows + tf.nn.embedding_lookup(self.a, ids * 2)) ** 2)
            self.train = v1.train.AdamOptimizer(0.1).minimize(loss)
            self.loss = loss
            self.rows = [self.a.export(), self.b.export()]
            self.saver = v1.train.Saver(**saver_arguments)
            self.initialize = v1.global_variables_initializer()

    def session(self) -> v1.Session:
        return v1.Session(graph=self.graph)

    def content(self, session: v1.Session) -> list[dict[int, list[float]]]:
        return [
            dict(zip(keys.tolist(), values.tolist(), strict=True))
            for keys, values in session.run(self.rows)
        ]


@pytest.mark.parametrize("sharded", [False, True])
def test_training_continues_bit_for_bit(tmp_path: pathlib.Path, sharded: bool) -> None:
    program = Program(sharded=sharded)
    with program.session() as session:
        session.run(program.initialize)
        for _ in range(3):
            session.run(program.train)
        path = program.saver.save(session, str(tmp_path / "m"), global_step=3)
        losses = [session.run([program.loss, program.train])[0] for _ in range(4)]
        expected = program.content(session)
    assert len(glob.glob(str(tmp_path / "m-3.data-*-of-taco*"))) == 2

    again = Program(sharded=sharded)
    with again.session() as session:
        session.run(again.initialize)
        session.run(again.train)  # rows and slots that must go
        again.saver.restore(session, path)
        assert [session.run([again.loss, again.train])[0] for _ in range(4)] == losses
        assert again.content(session) == expected


def test_all_tables_are_written_by_one_operation() -> None:
    program = Program()
    definition = program.saver.as_saver_def()
    wanted = [program.graph.get_tensor_by_name(definition.save_tensor_name).op]
    seen: dict[str, tf.Operation] = {}
    while wanted:
        op = wanted.pop()
        if op.name not in seen:
            seen[op.name] = op
            wanted += [t.op for t in op.inputs] + list(op.control_inputs)
    saves = [op for op in seen.values() if op.type == "TacoTablesSave"]
    assert len(saves) == 1
    assert saves[0].get_attr("N") == 2


@pytest.mark.parametrize("sharded", [False, True])
def test_max_to_keep_deletes_table_files(tmp_path: pathlib.Path, sharded: bool) -> None:
    program = Program(max_to_keep=2, sharded=sharded)
    with program.session() as session:
        session.run(program.initialize)
        for step in range(5):
            session.run(program.train)
            program.saver.save(session, str(tmp_path / "m"), global_step=step)
    left = {p.name.partition(".")[0] for p in tmp_path.iterdir()}
    assert left == {"checkpoint", "m-3", "m-4"}
    assert len(glob.glob(str(tmp_path / "*-of-taco*"))) == 4


def test_explicit_variables(tmp_path: pathlib.Path) -> None:
    program = Program()
    with program.graph.as_default():
        only_a = v1.train.Saver([program.a])
        named = v1.train.Saver({"b": program.b, "w": program.w})
    with program.session() as session:
        session.run(program.initialize)
        session.run(program.train)
        expected = program.content(session)
        path_a = only_a.save(session, str(tmp_path / "a"))
        path_b = named.save(session, str(tmp_path / "b"))
        assert len(glob.glob(path_a + ".data-*-of-taco*")) == 1
        for _ in range(2):
            session.run(program.train)
        only_a.restore(session, path_a)
        assert program.content(session)[0] == expected[0]
        assert program.content(session)[1] != expected[1]
        named.restore(session, path_b)
        assert program.content(session) == expected


def test_corruption_is_refused_by_name(tmp_path: pathlib.Path) -> None:
    program = Program()
    with program.session() as session:
        session.run(program.initialize)
        session.run(program.train)
        path = program.saver.save(session, str(tmp_path / "m"))
        before = program.content(session)
        session.run(program.train)
        after = program.content(session)
        assert after != before
        names = [pathlib.Path(name) for name in glob.glob(path + ".data-*-of-taco?")]
        for name in names:
            data = bytearray(name.read_bytes())
            data[-20] ^= 1
            name.write_bytes(data)
        with pytest.raises(tf.errors.DataLossError) as raised:
            program.saver.restore(session, path)
        assert any(name.name in str(raised.value) for name in names)
        assert program.content(session) == after


def test_meta_graph_is_imported_and_restored(tmp_path: pathlib.Path) -> None:
    program = Program()
    with program.session() as session:
        session.run(program.initialize)
        session.run(program.train)
        path = program.saver.save(session, str(tmp_path / "m"))
        loss = session.run(program.loss)
    name = program.loss.name
    with tf.Graph().as_default(), v1.Session() as session:
        saver = v1.train.import_meta_graph(path + ".meta")
        saver.restore(session, path)
        assert session.run(name) == loss


def test_saves_while_training_are_whole(tmp_path: pathlib.Path) -> None:
    """Each update adds 1 to every row of both tables in one run: no save splits an update."""
    graph = tf.Graph()
    with graph.as_default():
        table = de.Variable(name="t", dim=4, initializer=0.0)
        keys = tf.range(3000, dtype=tf.int64)
        value = v1.placeholder(tf.float32, [])
        update = table.upsert(keys, tf.fill([3000, 4], value))
        saver = v1.train.Saver(max_to_keep=None)
        export = table.export()
        initialize = v1.global_variables_initializer()
    with v1.Session(graph=graph) as session:
        session.run(initialize)
        stop = threading.Event()

        def write() -> None:
            number = 0.0
            while not stop.is_set():
                number += 1.0
                session.run(update, {value: number})

        thread = threading.Thread(target=write)
        thread.start()
        paths = [saver.save(session, str(tmp_path / f"m{i}")) for i in range(5)]
        stop.set()
        thread.join()
        for path in paths:
            saver.restore(session, path)
            assert len(np.unique(session.run(export)[1])) <= 1


def test_eager_saver_says_what_to_use(tmp_path: pathlib.Path) -> None:
    table = de.Variable(name="t", dim=2)
    with pytest.raises(ValueError, match=r"tf\.train\.Checkpoint"):
        v1.train.Saver([table]).save(None, str(tmp_path / "m"))


def sharded_program(count: int) -> tuple[v1.Session, de.Variable, v1.train.Saver]:
    """A table on `count` devices, with the slots of Adam after `train`."""
    with tf.Graph().as_default():
        table = de.Variable(name="t", dim=2, devices=["/CPU:0"] * count)
        rows = tf.nn.embedding_lookup(table, tf.constant([*range(-9, 30), 2**62], tf.int64))
        loss = tf.reduce_sum(rows * tf.range(2.0))
        v1.train.AdamOptimizer(0.1).minimize(loss, name="train")
        saver = v1.train.Saver([table])
        session = v1.Session()
        session.run(v1.global_variables_initializer())
        return session, table, saver


def slots_of(session: v1.Session, table: de.Variable) -> dict[int, list[float]]:
    parts = session.run(
        [
            _ops.ops().taco_table_export_slots(h, K=tf.int64, V=tf.float32, dim=2)
            for h in table.handles
        ]
    )
    found = {}
    for part in parts:
        found.update(zip(part.keys.tolist(), part.slots.tolist(), strict=True))
    return found


@pytest.mark.parametrize(("before", "after"), [(2, 1), (2, 3), (1, 2), (3, 2)])
def test_another_number_of_devices(tmp_path, before, after):
    session, table, saver = sharded_program(before)
    with session, session.graph.as_default():
        for _ in range(2):
            session.run("train")
        path = saver.save(session, str(tmp_path / "saved"))
        saved = slots_of(session, table)
    session, table, saver = sharded_program(after)
    with session, session.graph.as_default():
        session.run(table.upsert([1000], tf.ones([1, 2])))
        saver.restore(session, path)
        assert slots_of(session, table) == saved
        for index, handle in enumerate(table.handles):
            ids = _ops.ops().taco_table_export(handle, K=tf.int64, V=tf.float32, dim=2).keys
            owner = table.partition_fn(ids, after)
            assert set(session.run(owner)) == {index}
        session.run("train")


def test_another_number_of_devices_and_a_corrupt_file(tmp_path):
    session, table, saver = sharded_program(3)
    with session, session.graph.as_default():
        session.run("train")
        path = saver.save(session, str(tmp_path / "saved"))
    name = sorted(tmp_path.glob("saved.data-*-of-taco2"))[0]
    data = bytearray(name.read_bytes())
    data[len(data) // 2] ^= 1
    name.write_bytes(data)
    session, table, saver = sharded_program(2)
    with session, session.graph.as_default():
        session.run(table.upsert([9], tf.ones([1, 2])))
        size = table.size()
        with pytest.raises(tf.errors.DataLossError, match=name.name):
            saver.restore(session, path)
        assert session.run(size) == 1


def test_another_number_of_devices_of_a_server(tmp_path):
    server = tf.distribute.Server({"ps": ["localhost:0"]}, job_name="ps", task_index=0)
    for count in (2, 3):
        with tf.Graph().as_default():
            table = de.Variable(name="t", dim=2, devices=["/job:ps/task:0"] * count)
            saver = v1.train.Saver([table])
            with v1.Session(server.target) as session:
                if count == 2:
                    session.run(table.upsert([*range(20)], tf.ones([20, 2])))
                    path = saver.save(session, str(tmp_path / "saved"))
                    session.run(table.clear())
                else:
                    saver.restore(session, path)
                    assert session.run(table.size()) == 20


@pytest.mark.parametrize("count", [1, 2])
def test_tables_by_themselves(tmp_path, count):
    for restored in (False, True):
        with tf.Graph().as_default(), v1.Session() as session:
            table = de.Variable(name="t", dim=2, devices=["/CPU:0"] * count)
            beside = de.Variable(name="beside", dim=1)
            saver = v1.train.Saver([*table.tables, beside])
            if not restored:
                session.run(table.upsert([1, 2, 3, 4], tf.ones([4, 2])))
                path = saver.save(session, str(tmp_path / "m"))
                files = glob.glob(path + ".data-*-of-taco*")
                assert len(files) == count + 1
                sizes = session.run([table.size(i) for i in range(count)])
                saver.save(session, str(tmp_path / "m"))
                assert len(glob.glob(path + ".data-*-of-taco*")) == count + 1
            else:
                session.run(table.upsert([9], tf.zeros([1, 2])))
                saver.restore(session, path)
                assert session.run([table.size(i) for i in range(count)]) == sizes
