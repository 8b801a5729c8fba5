"""TFRA's description of the store behind a variable, accepted so that its programs run.

TACO has one store, its own table; a creator chooses nothing, and its configuration is kept only to
be read back.
"""

from __future__ import annotations

from typing import Any


class CuckooHashTableConfig:
    """Configuration of `CuckooHashTableCreator`; it has no settings."""


class FileSystemSaver:
    """Keeps tables in files beside the checkpoint, which is how TACO keeps every table."""

    def __init__(
        self,
        proc_size: int | None = None,
        proc_rank: int | None = None,
        save_path: str | None = None,
        buffer_size: int = 4096,
    ):
        """Takes the arguments of TFRA's; `buffer_size` chooses nothing.

        Raises:
          ValueError: several processes that save parts of one checkpoint, or another folder than
            the checkpoint's, neither of which TACO has.
        """
        if proc_size not in (None, 1) or proc_rank not in (None, 0):
            raise ValueError(
                f"FileSystemSaver: each process saves the tables that it has, and proc_size is "
                f"{proc_size}, proc_rank {proc_rank}: leave both out, and let each process save to "
                "a path of its own"
            )
        if save_path is not None:
            raise ValueError(
                f"FileSystemSaver: tables are saved beside their checkpoint, not in "
                f"'{save_path}': leave save_path out"
            )
        self.buffer_size = buffer_size


class KVCreator:
    """Base of the creators: a configuration and an optional saver."""

    def __init__(self, config: Any = None, saver: Any = None):
        if saver is not None and not isinstance(saver, FileSystemSaver):
            raise ValueError(
                "saver: TACO tables are saved by tf.train.Checkpoint, tf.compat.v1.train.Saver and "
                "model.save_weights themselves; leave `saver` out, or give de.FileSystemSaver()"
            )
        self.config = config
        self.saver = saver

    def get_config(self) -> dict[str, Any]:
        """The arguments that would make this creator again."""
        return {"config": self.config, "saver": self.saver}


class CuckooHashTableCreator(KVCreator):
    """The in-memory table: TFRA's default, and the only kind here."""
