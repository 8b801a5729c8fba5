"""What a contestant can be asked to do."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class Adapter(Protocol):
    """A table of rows under test. One process, one adapter, one table at a time, one caller.

    Whatever `keys` and `values` return is made outside the timed part and handed back inside it.
    """

    #: Batches that one call takes together: 1, but for the machine's bare reads.
    merge_batches: int

    def versions(self) -> dict[str, str]:
        """Versions of the libraries measured, for the results."""

    def create(self, dim: int, rows: int, slots: int) -> None:
        """Makes an empty table; `rows` may be used only by those that cannot grow."""

    def keys(self, ids: np.ndarray) -> Any:
        """Turns ids (int64, (n,)) into what the timed calls take."""

    def values(self, rows: np.ndarray) -> Any:
        """Turns rows (float32, (n, dim)) into what the timed calls take."""

    def lookup(self, keys: Any) -> Any:
        """The rows of `keys`: (n, dim)."""

    def upsert(self, keys: Any, values: Any) -> None:
        """Inserts or overwrites rows; `values` (n, dim)."""

    def train_step(self, keys: Any, gradient: Any) -> None:
        """Lookup, gradient and Adam for `keys`; the gradient of each looked-up row is given."""

    def size(self) -> int:
        """Number of rows."""

    def own_bytes(self) -> int | None:
        """Memory by the table's own count, slots included; None where it keeps none."""

    def drop(self) -> None:
        """Lets the table go."""
