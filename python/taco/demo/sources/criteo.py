"""Criteo display advertising logs: tab-separated label, 13 integers, 26 categories.

Lines are in time order as published (Kaggle 2014 train.txt, Terabyte day_N). Read line by line,
plain or gzip, so memory does not grow with the file. Integers become categories by the rule the
winners of the 2014 contest used, floor(log(x)**2) above 2; an absent value is a category as well.
"""

import gzip
import math
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from taco.demo.errors import DemoError
from taco.demo.hashing import field_ids, hash_text
from taco.demo.sources.base import Chunk, LineReport

INTEGERS = 13
CATEGORIES = 26
COLUMNS = 1 + INTEGERS + CATEGORIES
_FIELDS = tuple(f"I{i + 1}" for i in range(INTEGERS)) + tuple(
    f"C{i + 1}" for i in range(CATEGORIES)
)
_ABSENT = 2**63 - 1  # above every 32-bit category and every integer's bucket
_CHUNK = 4096
_LONGEST = 1 << 16  # bytes; a line of the published files is under 400
_PROBE = 100  # lines looked at before a file is refused
_EXPECTED = (
    f"a Criteo line has {COLUMNS} tab-separated columns: 0 or 1, {INTEGERS} integers, "
    f"{CATEGORIES} hexadecimal categories; check --data, or give a MovieLens folder"
)


class CriteoSource:
    """Streams a Criteo file; see `Source` for the attributes.

    Args:
        path: Plain or gzip (told by its first bytes, not by its name).
        rows: Stop after as many good lines; `None` reads all.

    Raises:
        DemoError: The file cannot be read, is empty, or has no good line among its first 100.
    """

    def __init__(self, path: Path, rows: int | None = None) -> None:
        self.name = f"Criteo ({path.name})"
        self.fields = _FIELDS
        self.rows = rows
        self.report = LineReport()
        self._path = path
        self._check()

    def chunks(self) -> Iterator[Chunk]:
        """Yields the examples in the order of the file; `report` starts anew."""
        self.report.clear()
        left = math.inf if self.rows is None else self.rows
        labels: list[float] = []
        values: list[list[int]] = []
        for row in self._rows():
            labels.append(row[0])
            values.append(row[1:])
            left -= 1
            if len(labels) == _CHUNK or left <= 0:
                yield _chunk(labels, values)
                labels, values = [], []
            if left <= 0:
                return
        if labels:
            yield _chunk(labels, values)

    def _check(self) -> None:
        good = 0
        for _ in self._rows(stop=_PROBE):
            good += 1
            break
        if good == 0:
            if self.report.lines == 0 and not self.report.reasons:
                raise DemoError(f"{self._path}: empty file", _EXPECTED)
            found = "; ".join(self.report.sentences())
            raise DemoError(f"{self._path}: not a Criteo log: {found}", _EXPECTED)
        self.report.clear()

    def _rows(self, stop: int | None = None) -> Iterator[list[int]]:
        number = 0
        try:
            with _open(self._path) as file:
                while line := file.readline(_LONGEST):
                    number += 1
                    if not line.strip():
                        continue
                    self.report.lines += 1
                    row = _too_long(file, line) or _parse(line)
                    if isinstance(row, str):
                        self.report.count(row, f"{self._path.name}:{number}")
                        if stop is not None and number >= stop:
                            return
                        continue
                    yield row
        except EOFError:
            self._broken("gzip ends early, the rest is missing", number)
        except (gzip.BadGzipFile, zlib.error):
            self._broken("gzip is corrupt, the rest is not readable", number)
        except OSError as error:
            raise DemoError(f"{self._path}: {error.strerror or error}", _EXPECTED) from error

    def _broken(self, reason: str, number: int) -> None:
        self.report.lines += 1
        self.report.count(reason, f"{self._path.name}:{number + 1}")


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if zipped else path.open("rb")


def _too_long(file: BinaryIO, line: bytes) -> str | None:
    """Skips the rest of an overlong line; returns the reason, `None` for a usual line."""
    if len(line) < _LONGEST or line.endswith(b"\n"):
        return None
    while (rest := file.readline(_LONGEST)) and not rest.endswith(b"\n"):
        pass
    return f"line longer than {_LONGEST} bytes"


def _parse(line: bytes) -> list[int] | str:
    """Returns label, 13 buckets, 26 categories; or the reason why the line is of no use."""
    cells = line.rstrip(b"\r\n").split(b"\t")
    if len(cells) != COLUMNS:
        return f"not {COLUMNS} columns"
    if cells[0] not in (b"0", b"1"):
        return "label is neither 0 nor 1"
    try:
        row = [int(cells[0])]
        row += [_bucket(cell) for cell in cells[1 : 1 + INTEGERS]]
    except ValueError:
        return "integer column holds no integer"
    row += [_category(cell) for cell in cells[1 + INTEGERS :]]
    return row


@lru_cache(maxsize=1 << 16)
def _bucket(cell: bytes) -> int:
    if not cell.strip():
        return _ABSENT
    value = int(cell)
    return 2 + math.floor(math.log(value) ** 2) if value > 2 else max(value, -(2**31))


def _category(cell: bytes) -> int:
    if not cell:
        return _ABSENT
    try:
        return int(cell, 16) if len(cell) <= 8 else _text(cell)
    except ValueError:
        return _text(cell)


def _text(cell: bytes) -> int:
    return hash_text(cell.decode("utf-8", "replace")) >> 1


def _chunk(labels: list[float], values: list[list[int]]) -> Chunk:
    table = np.array(values, np.int64)
    ids = [field_ids(name, table[:, column]) for column, name in enumerate(_FIELDS)]
    return Chunk(np.stack(ids, axis=1), np.array(labels, np.float32))
