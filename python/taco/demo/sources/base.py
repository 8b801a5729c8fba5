"""What every log offers: chunks in time order, and an account of the lines it could not use."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Chunk:
    """Consecutive examples.

    Attributes:
        ids: (n, fields) int64, salted by field (see `hashing.field_ids`), any value.
        labels: (n,) float32, 0 or 1.
        truth: (n,) float64, the true chance of label 1 where the log's maker knows it, else `None`.
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.float32]
    truth: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        assert self.ids.ndim == 2 and self.labels.shape == (len(self.ids),)
        assert self.truth is None or self.truth.shape == self.labels.shape

    def __len__(self) -> int:
        return len(self.labels)

    def slice(self, start: int, stop: int) -> "Chunk":
        """Returns examples start to stop as views."""
        truth = None if self.truth is None else self.truth[start:stop]
        return Chunk(self.ids[start:stop], self.labels[start:stop], truth)


@dataclass
class LineReport:
    """Lines read, and lines set aside, by reason.

    Attributes:
        lines: Data lines seen, headers and blank lines left out.
        reasons: Reason -> number of lines.
        examples: Reason -> the first few line numbers (from 1, header included), as "file:line".
    """

    lines: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    MAX_EXAMPLES = 3

    def count(self, reason: str, where: str) -> None:
        """Counts one line under a reason; `where` is "file:line"."""
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < self.MAX_EXAMPLES:
            shown.append(where)

    def clear(self) -> None:
        """Forgets everything; a source calls it as a new pass begins."""
        self.lines = 0
        self.reasons.clear()
        self.examples.clear()

    def sentences(self) -> list[str]:
        """Returns a sentence a reason, most frequent first; empty where all lines were good."""
        ordered = sorted(self.reasons.items(), key=lambda item: (-item[1], item[0]))
        return [
            f"{number:,} of {self.lines:,} lines: {reason} (first: {first})"
            for reason, number in ordered
            if (first := ", ".join(self.examples[reason]))
        ]


class Source(Protocol):
    """A log that can be read from its start any number of times, with the same result.

    Attributes:
        name: What to call it in a table.
        fields: Names of the columns of `Chunk.ids`.
        rows: Number of examples of one pass where known beforehand, else `None`.
        report: The account of the latest pass.
    """

    name: str
    fields: tuple[str, ...]
    rows: int | None
    report: LineReport

    def chunks(self) -> Iterator[Chunk]:
        """Yields the examples in time order, in chunks of the source's own size."""
        ...


def windows(chunks: Iterable[Chunk], size: int, rows: int | None = None) -> Iterator[Chunk]:
    """Cuts a stream of chunks into windows of one size; holds at most a window and a chunk.

    Args:
        chunks: Consecutive chunks of any length.
        size: Examples a window; the last one may be shorter.
        rows: Stop after as many examples; `None` for all.

    Yields:
        Windows in the order of the stream.
    """
    held: list[Chunk] = []
    number = 0
    left = rows
    for chunk in chunks:
        if left is not None:
            chunk = chunk.slice(0, left)
            left -= len(chunk)
        held.append(chunk)
        number += len(chunk)
        if number >= size:
            joined = _join(held)
            start = 0
            while number - start >= size:
                yield joined.slice(start, start + size)
                start += size
            held = [joined.slice(start, number)]
            number -= start
        if left == 0:
            break
    if number:
        yield _join(held)


def _join(chunks: list[Chunk]) -> Chunk:
    if len(chunks) == 1:
        return chunks[0]
    truths = [chunk.truth for chunk in chunks if chunk.truth is not None]
    return Chunk(
        np.concatenate([chunk.ids for chunk in chunks]),
        np.concatenate([chunk.labels for chunk in chunks]),
        np.concatenate(truths) if len(truths) == len(chunks) else None,
    )
