"""What saves leave on the disk: what the newest index names, and nothing of dead saves."""

import glob
import os
import pathlib
import signal
import subprocess
import sys
import threading

import pytest
import tensorflow as tf
from taco.tf import checkpoint_folder
from taco.tf import dynamic_embedding as de

v1 = tf.compat.v1

# Begins a save to argv[1], leaves an unfinished and a finished file, and waits.
BEGIN = """
import pathlib, sys
from taco.tf import checkpoint_folder

with checkpoint_folder.saving(sys.argv[1]):
    checkpoint_folder.hold()
    for name in (".data-aaaaa-of-taco0.tmp", ".data-bbbbb-of-taco1"):
        pathlib.Path(sys.argv[1] + name).write_text("unfinished")
    print("begun", flush=True)
    sys.stdin.readline()
    raise SystemExit("the save failed")
"""

# Saves with the Saver to argv[1] again and again; each save holds the number of the save.
SAVE = """
import sys
import tensorflow as tf
from taco.tf import dynamic_embedding as de

v1 = tf.compat.v1
with tf.Graph().as_default(), v1.Session() as session:
    table = de.Variable(name="t", dim=16)
    value = v1.placeholder(tf.float32, [])
    keys = tf.range(200_000, dtype=tf.int64)
    update = table.upsert(keys, tf.fill([200_000, 16], value))
    saver = v1.train.Saver([table], max_to_keep=2)
    session.run(v1.global_variables_initializer())
    for number in range(1, 10_000):
        session.run(update, {value: float(number)})
        saver.save(session, sys.argv[1], global_step=number if sys.argv[2] == "numbered" else None)
        print(number, flush=True)
"""


def child(script: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


class Eager:
    """A table in tf.train.Checkpoint."""

    def __init__(self, dim: int = 2):
        self.table = de.Variable(name="t", dim=dim)
        self.checkpoint = tf.train.Checkpoint(t=self.table)

    def save(self, prefix: pathlib.Path, value: float) -> None:
        self.table.upsert([1, 2], tf.fill([2, self.table.dim], value))
        self.checkpoint.write(str(prefix))

    def restored(self, prefix: pathlib.Path) -> list[float]:
        self.checkpoint.read(str(prefix)).assert_consumed()
        return self.table.export()[1].numpy()[:, 0].tolist()


class Graph:
    """The same in tf.compat.v1.train.Saver."""

    def __init__(self, dim: int = 2):
        with tf.Graph().as_default():
            table = de.Variable(name="t", dim=dim)
            self.value = v1.placeholder(tf.float32, [])
            self.upsert = table.upsert([1, 2], tf.fill([2, dim], self.value))
            self.rows = table.export()[1]
            self.saver = v1.train.Saver([table])
            self.session = v1.Session()
            self.session.run(v1.global_variables_initializer())

    def save(self, prefix: pathlib.Path, value: float) -> None:
        self.session.run(self.upsert, {self.value: value})
        with self.session.graph.as_default():
            self.saver.save(self.session, str(prefix))

    def restored(self, prefix: pathlib.Path) -> list[float]:
        with self.session.graph.as_default():
            self.saver.restore(self.session, str(prefix))
        return self.session.run(self.rows)[:, 0].tolist()


@pytest.fixture(params=[Eager, Graph], name="program")
def make_program(request: pytest.FixtureRequest) -> Eager | Graph:
    return request.param()


def ours(folder: pathlib.Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if "taco" in each.name)


def assert_only_named_files(folder: pathlib.Path) -> None:
    """Each of our files in `folder` is named by its index, and each named one is there."""
    named = set()
    for index in glob.glob(str(folder / "*.index")):
        prefix = index.removesuffix(".index")
        suffixes = checkpoint_folder._named(prefix)
        assert suffixes
        named |= {os.path.basename(prefix) + suffix for suffix in suffixes}
    assert ours(folder) == sorted(named)


def test_saving_again_leaves_the_newest_files_alone(tmp_path: pathlib.Path, program) -> None:
    seen = set()
    for number in range(3):
        program.save(tmp_path / "c", float(number))
        assert_only_named_files(tmp_path)
        assert len(ours(tmp_path)) == 1
        seen |= set(ours(tmp_path))
    assert len(seen) == 3
    assert program.restored(tmp_path / "c") == [2.0, 2.0]


def test_a_save_that_fails_leaves_the_last_good_one(tmp_path: pathlib.Path, program) -> None:
    program.save(tmp_path / "c", 1.0)
    before = ours(tmp_path)
    dense = next(tmp_path.glob("c.data-00000-of-0*"))
    dense.rename(tmp_path / "kept")
    dense.mkdir()  # the dense variables cannot be written
    with pytest.raises(tf.errors.OpError):
        program.save(tmp_path / "c", 2.0)
    assert set(before) < set(ours(tmp_path))
    dense.rmdir()
    (tmp_path / "kept").rename(dense)
    program.save(tmp_path / "d", 3.0)
    assert_only_named_files(tmp_path)
    assert program.restored(tmp_path / "c") == [1.0, 1.0]


def test_files_of_a_dead_save_go_with_the_next_and_of_a_live_one_stay(
    tmp_path: pathlib.Path, program
) -> None:
    program.save(tmp_path / "good", 1.0)
    (tmp_path / "copied.data-ccccc-of-taco0").write_text("someone is copying a checkpoint here")
    other = child(BEGIN, str(tmp_path / "other"))
    assert other.stdout.readline() == "begun\n"
    theirs = ["other.data-aaaaa-of-taco0.tmp", "other.data-bbbbb-of-taco1", "other.taco-saving"]

    program.save(tmp_path / "c", 2.0)
    assert set(theirs) < set(ours(tmp_path))
    kill(other)
    program.save(tmp_path / "c", 3.0)
    assert not set(theirs) & set(ours(tmp_path))
    (tmp_path / "copied.data-ccccc-of-taco0").unlink()
    assert_only_named_files(tmp_path)
    assert program.restored(tmp_path / "good") == [1.0, 1.0]


def test_a_dead_save_to_the_same_prefix(tmp_path: pathlib.Path, program) -> None:
    program.save(tmp_path / "c", 1.0)
    dead = child(BEGIN, str(tmp_path / "c"))
    assert dead.stdout.readline() == "begun\n"
    kill(dead)
    assert program.restored(tmp_path / "c") == [1.0, 1.0]
    program.save(tmp_path / "c", 2.0)
    assert_only_named_files(tmp_path)
    assert program.restored(tmp_path / "c") == [2.0, 2.0]


@pytest.mark.parametrize("names", ["numbered", "the same"])
def test_killed_savers(tmp_path: pathlib.Path, names: str) -> None:
    program = Graph(dim=16)
    for round_number in range(2):
        process = child(SAVE, str(tmp_path / "m"), names)
        for _ in range(1 + round_number):
            done = int(process.stdout.readline())
        while not glob.glob(str(tmp_path / "*.tmp")):
            assert process.poll() is None
        kill(process)
        latest = tf.train.latest_checkpoint(str(tmp_path))
        rows = program.restored(pathlib.Path(latest))
        assert len(rows) == 200_000
        assert len(set(rows)) == 1
        assert rows[0] >= done
        program.save(tmp_path / "another", 1.0)
        assert_only_named_files(tmp_path)


def test_a_saved_model_exported_again(tmp_path: pathlib.Path) -> None:
    program = Eager()
    root = tf.Module()
    root.table = program.table
    for _ in range(2):
        tf.saved_model.save(root, str(tmp_path))
        assert len(ours(tmp_path / "variables")) == 1
        assert_only_named_files(tmp_path / "variables")


def test_threads_that_save_to_one_prefix_take_turns(tmp_path: pathlib.Path) -> None:
    programs = [Eager(), Eager()]
    failures: list[BaseException] = []

    def save(program: Eager, value: float) -> None:
        try:
            for _ in range(20):
                program.save(tmp_path / "c", value)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=save, args=(p, float(i))) for i, p in enumerate(programs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert_only_named_files(tmp_path)
    assert programs[0].restored(tmp_path / "c") in ([0.0, 0.0], [1.0, 1.0])


def test_a_process_waits_for_another_and_says_so(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = child(BEGIN, str(tmp_path / "c"))
    assert other.stdout.readline() == "begun\n"
    program = Eager()
    thread = threading.Thread(target=program.save, args=(tmp_path / "c", 5.0))
    tf.get_logger().propagate = True
    thread.start()
    while "is saving tables to" not in caplog.text:
        assert thread.is_alive()
    other.communicate("go on\n")
    thread.join()
    assert_only_named_files(tmp_path)
    assert program.restored(tmp_path / "c") == [5.0, 5.0]


def test_a_save_without_tables_makes_no_mark(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Eager()
    monkeypatch.setattr(checkpoint_folder, "_lock", lambda *_: pytest.fail("a lock was taken"))
    tf.train.Checkpoint(v=tf.Variable(1.0)).save(str(tmp_path / "c"))


def test_where_there_are_no_locks_the_replaced_files_go(
    tmp_path: pathlib.Path, program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr(checkpoint_folder.fcntl, "flock", no_locks)
    (tmp_path / "c.data-ccccc-of-taco0").write_text("of somebody else's save, perhaps")
    for number in range(2):
        program.save(tmp_path / "c", float(number))
    (tmp_path / "c.data-ccccc-of-taco0").unlink()
    assert_only_named_files(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(tf.errors.OpError, match="file"):
        Eager().save(tmp_path / "file" / "c", 1.0)
