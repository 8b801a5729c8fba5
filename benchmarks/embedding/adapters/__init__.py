"""Contestants: a module each, found by name, with a class `Contestant` (see `base.Adapter`)."""

from __future__ import annotations

import importlib

from benchmarks.embedding.adapters.base import Adapter


def load(name: str, threads: int) -> Adapter:
    """Imports the contestant's module and sets its process up for `threads` threads.

    Raises:
      ImportError, RuntimeError, OSError: what it needs is not there; the message says what.
    """
    module = importlib.import_module(f"benchmarks.embedding.adapters.{name}")
    adapter: Adapter = module.Contestant(threads)
    return adapter
