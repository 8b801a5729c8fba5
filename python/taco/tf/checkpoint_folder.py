"""The table files of a checkpoint's prefix: whose they are, and when they go.

A save holds its prefix from before its first table file until after TensorFlow has written the
index that names them. Who holds a prefix may delete each table file there that its index does not
name: it is of an earlier checkpoint, or of a save that died.

    model-7.taco-saving     there while model-7 is being saved, and locked (flock). A process that
                            is killed, or fails, leaves it, unlocked: the next save in the folder
                            deletes what that one left of model-7, and then the file itself.

So nothing is ever deleted in a folder but files that a save of ours is known to have left: a
checkpoint that somebody is copying there has no such file. Where there are no locks (a remote file
system), saves of this process alone wait for each other, and only files that the replaced index
named are deleted.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import threading
from collections.abc import Iterator

import tensorflow as tf
from tensorflow.python.training import py_checkpoint_reader

# Keys in a tf.train.Checkpoint that hold manifests begin with this.
KEY_PREFIX = "_TACO_TABLES/"
# Keys in a checkpoint of tf.compat.v1.train.Saver that hold manifests end with this.
V1_SUFFIX = "/taco_table"

_MARK = ".taco-saving"
# The registered name of our part of tf.train.Checkpoint, and what TensorFlow therefore appends to
# the prefix for the bundle of manifests, which it then merges.
PACKAGE = "taco"
NAME = "DynamicEmbedding"
BUNDLE_SUFFIX = f"-{PACKAGE}.{NAME}"
# A table's file, finished or not; or a file of the bundle, which no checkpoint names.
_FILE = re.compile(
    r"(?P<suffix>\.data-[a-z0-9]{5}-of-taco[a-z0-9])(?P<unfinished>\.tmp)?"
    rf"|{re.escape(BUNDLE_SUFFIX)}\.(index|data-\d{{5}}-of-\d{{5}})(\.tempstate\d+)?"
)

_local = threading.local()
# The prefixes that threads of this process hold.
_held: set[str] = set()
_changed = threading.Condition()


@contextlib.contextmanager
def saving(prefix: str) -> Iterator[None]:
    """Around a save to `prefix`, which calls `hold` if it writes tables."""
    outer = getattr(_local, "save", None)
    _local.save = _Save(prefix)
    try:
        yield
        _local.save.committed = True
    finally:
        try:
            _local.save.close()
        finally:
            _local.save = outer


def hold() -> None:
    """Waits until no other save writes to the prefix of this thread's `saving`, and begins. Outside
    of `saving` nothing is held, and nothing deleted."""
    save = getattr(_local, "save", None)
    if save is not None:
        save.open()


class _Save:
    """One save of this process."""

    def __init__(self, prefix: str):
        self.prefix = prefix if _remote(prefix) else os.path.abspath(prefix)
        self.committed = False
        self._open = False
        self._lock: int | None = None
        self._replaced: set[str] = set()

    def open(self) -> None:
        if self._open:
            return
        with _changed:
            if self.prefix in _held:
                _say_waiting(self.prefix)
                _changed.wait_for(lambda: self.prefix not in _held)
            _held.add(self.prefix)
        self._open = True
        if not _remote(self.prefix):
            # Where the folder cannot be made or read, the save itself will say so.
            with contextlib.suppress(OSError):
                os.makedirs(os.path.dirname(self.prefix), exist_ok=True)
                _delete_what_dead_saves_left(os.path.dirname(self.prefix))
                self._lock = _lock(self.prefix)
        if self._lock is None:
            self._replaced = _named(self.prefix) or set()

    def close(self) -> None:
        if not self._open:
            return
        try:
            # A save that failed may yet be finished, by another machine: its files are left to the
            # next save. An index that is not here is on another machine.
            if self.committed and tf.io.gfile.exists(self.prefix + ".index"):
                named = _named(self.prefix)
                if self._lock is not None:
                    _delete(_unnamed(named, self.prefix))
                elif named is not None:
                    _delete([self.prefix + suffix for suffix in self._replaced - named])
        finally:
            if self._lock is not None:
                _unlock(self._lock, self.prefix, keep_mark=not self.committed)
            with _changed:
                _held.discard(self.prefix)
                _changed.notify_all()


def _delete_what_dead_saves_left(folder: str) -> None:
    for entry in os.listdir(folder):
        if not entry.endswith(_MARK):
            continue
        prefix = os.path.join(folder, entry.removesuffix(_MARK))
        lock = _lock(prefix, wait=False)
        if lock is not None:
            named = None
            try:
                named = _named(prefix)
                _delete(_unnamed(named, prefix))
            finally:
                _unlock(lock, prefix, keep_mark=named is None)


def _unnamed(named: set[str] | None, prefix: str) -> list[str]:
    """Our files of `prefix`, finished or not, but those with a suffix in `named`."""
    if named is None:
        return []
    folder, stem = os.path.split(prefix)
    found = []
    for entry in os.listdir(folder):
        match = _FILE.fullmatch(entry, len(stem)) if entry.startswith(stem) else None
        if match is not None and (match["unfinished"] or match["suffix"] not in named):
            found.append(os.path.join(folder, entry))
    return found


def _delete(paths: list[str]) -> None:
    for path in paths:
        with contextlib.suppress(tf.errors.OpError):  # it stays: it harms nobody
            tf.io.gfile.remove(path)


def _named(prefix: str) -> set[str] | None:
    """Suffixes of the table files that the checkpoint at `prefix` names; none without a checkpoint;
    None if it cannot be read: its files may yet be of use to somebody."""
    if not tf.io.gfile.exists(prefix + ".index"):
        return set()
    try:
        reader = py_checkpoint_reader.NewCheckpointReader(prefix)
        suffixes = set()
        for key, dtype in reader.get_variable_to_dtype_map().items():
            if key.startswith(KEY_PREFIX) or (dtype == tf.string and key.endswith(V1_SUFFIX)):
                value = reader.get_tensor(key)
                for manifest in value.reshape(-1) if hasattr(value, "reshape") else [value]:
                    suffixes.add(str(json.loads(manifest)["suffix"]))
        return suffixes
    except (tf.errors.OpError, RuntimeError, ValueError, KeyError, TypeError):
        return None


def _lock(prefix: str, wait: bool = True) -> int | None:
    """A descriptor of the mark of `prefix`, locked; None where another save has it and `wait` is
    false.

    Raises:
      OSError: no file can be made or locked there.
    """
    path = prefix + _MARK
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if _flock(descriptor, prefix, wait) and _is(path, descriptor):
                return descriptor
        except OSError:  # there are no locks here, and so nobody's mark
            os.close(descriptor)
            os.remove(path)
            raise
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not wait:
            return None
        # The one that had it has removed it since.


def _flock(descriptor: int, prefix: str, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            return False
        _say_waiting(prefix)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return True


def _is(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _unlock(descriptor: int, prefix: str, keep_mark: bool = False) -> None:
    if not keep_mark:
        with contextlib.suppress(OSError):
            os.remove(prefix + _MARK)
    # Not by closing alone: a process forked meanwhile has the descriptor too.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _say_waiting(prefix: str) -> None:
    tf.get_logger().warning(
        "another thread or process is saving tables to '%s': this save waits for it, and then "
        "replaces what it wrote. Give each a path of its own.",
        prefix,
    )


def _remote(prefix: str) -> bool:
    return "://" in prefix
