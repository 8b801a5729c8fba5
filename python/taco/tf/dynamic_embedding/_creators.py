"""TFRA's description of the store behind a variable, accepted so that its programs run.

TACO has one store, its own table; a creator chooses nothing, and its configuration is kept only to
be read back.
"""

from __future__ import annotations

from typing import Any


class CuckooHashTableConfig:
    """Configuration of `CuckooHashTableCreator`; it has no settings."""


class KVCreator:
    """Base of the creators: a configuration and an optional saver."""

    def __init__(self, config: Any = None, saver: Any = None):
        if saver is not None:
            raise ValueError(
                "saver: TACO tables are saved by tf.train.Checkpoint, tf.compat.v1.train.Saver and "
                "model.save_weights themselves; leave `saver` out"
            )
        self.config = config
        self.saver = None

    def get_config(self) -> dict[str, Any]:
        """The arguments that would make this creator again."""
        return {"config": self.config, "saver": None}


class CuckooHashTableCreator(KVCreator):
    """The in-memory table: TFRA's default, and the only kind here."""
