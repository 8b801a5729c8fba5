"""MovieLens as GroupLens publishes it: a folder with ratings.csv and movies.csv.

An example is one rating; label 1 is 4 stars and more. ratings.csv is sorted by user, so the
ratings are held in memory and sorted by time: 25 bytes each, 50 while they are sorted (0.8 and
1.6 GB for the 32-million set). Where only the earliest `rows` are wanted, no more than twice as
many are held.
"""

import csv
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from taco.demo.errors import DemoError
from taco.demo.hashing import field_ids, hash_text
from taco.demo.sources.base import Chunk, LineReport

GENRES = 4  # slots a movie; the shortened ones are the tail of an alphabetical list
LIKED = 4.0  # stars from which the label is 1
_RATING_COLUMNS = ("userId", "movieId", "rating", "timestamp")
_MOVIE_COLUMNS = ("movieId", "title", "genres")
_YEAR = re.compile(r"\((\d{4})\)\s*$")
_GET = "get the folder again from GroupLens (for instance ml-latest-small)"
_CHUNK = 8192


class _Movie(NamedTuple):
    year: int
    genres: tuple[int, ...]  # GENRES hashes of 64 bits, 0 for an empty slot


_NO_MOVIE = _Movie(0, (0,) * GENRES)


class MovieLensSource:
    """Reads a MovieLens folder; see `Source` for the attributes.

    Args:
        folder: Holds ratings.csv and movies.csv.
        rows: Keep the earliest `rows` ratings; `None` keeps all.

    Raises:
        DemoError: A file is missing, empty, lacks a column, or has no usable line.
    """

    def __init__(self, folder: Path, rows: int | None = None) -> None:
        self.name = f"MovieLens ({folder.resolve().name})"
        self.fields: tuple[str, ...] = (
            *("user", "movie", "year", "weekday", "hour"),
            *(["genre"] * GENRES),
        )
        self.report = LineReport()
        movies = self._read_movies(folder / "movies.csv")
        ratings = self._read_ratings(folder / "ratings.csv", movies, rows)
        ratings.sort(rows)
        self._users, self._movies, self._liked, self._times = ratings.columns()
        self._table = movies
        self.rows: int | None = len(self._users)

    def chunks(self) -> Iterator[Chunk]:
        """Yields the ratings by time; those of one second keep the order of the file."""
        for start in range(0, len(self._users), _CHUNK):
            part = slice(start, start + _CHUNK)
            movies, times = self._movies[part], self._times[part]
            facts = [self._table.get(movie, _NO_MOVIE) for movie in movies.tolist()]
            genres = np.array([fact.genres for fact in facts], np.uint64)
            columns = [
                field_ids("user", self._users[part]),
                field_ids("movie", movies),
                field_ids("year", np.array([fact.year for fact in facts], np.int64)),
                field_ids("weekday", times // 86400 % 7),
                field_ids("hour", times // 3600 % 24),
                *(field_ids("genre", genres[:, slot]) for slot in range(GENRES)),
            ]
            yield Chunk(np.stack(columns, axis=1), self._liked[part].astype(np.float32))

    def _read_movies(self, path: Path) -> dict[int, _Movie]:
        movies: dict[int, _Movie] = {}
        with _open_table(path) as file:
            where = _columns(path, file.readline(), _MOVIE_COLUMNS)
            for number, line in enumerate(file, 2):
                if not line.strip():
                    continue
                try:
                    cells = next(csv.reader([line], strict=True))
                    movie, title, genres = (cells[at] for at in where)
                    movies[int(movie)] = _describe(title, genres)
                except (csv.Error, IndexError, ValueError):
                    self.report.lines += 1
                    self.report.count("movie unreadable", f"{path.name}:{number}")
        return movies

    def _read_ratings(self, path: Path, movies: dict[int, _Movie], rows: int | None) -> "_Ratings":
        ratings = _Ratings()
        with _open_table(path) as file:
            where = _columns(path, file.readline(), _RATING_COLUMNS)
            for number, line in enumerate(file, 2):
                if not line.strip():
                    continue
                self.report.lines += 1
                row = _parse_rating(line, where)
                if isinstance(row, str):
                    self.report.count(row, f"{path.name}:{number}")
                    continue
                user, movie, stars, time = row
                if movie not in movies:
                    self.report.count(
                        "movie not in movies.csv (kept, without year and genres)",
                        f"{path.name}:{number}",
                    )
                ratings.append(user, movie, stars >= LIKED, time)
                if rows is not None and len(ratings) >= max(2 * rows, _CHUNK):
                    ratings.sort(rows)
        if not len(ratings):
            raise DemoError(f"{path}: no usable rating in {self.report.lines} lines", _GET)
        return ratings


class _Ratings:
    """Ratings by column: user, movie, liked, time."""

    _TYPES = "qqbq"

    def __init__(self) -> None:
        self._columns = [array(code) for code in self._TYPES]

    def __len__(self) -> int:
        return len(self._columns[0])

    def append(self, *rating: int) -> None:
        """Adds (user, movie, liked, time)."""
        for column, value in zip(self._columns, rating, strict=True):
            column.append(value)

    def sort(self, rows: int | None) -> None:
        """Keeps the earliest `rows`, by time; those of one second in the order they came in."""
        order = np.argsort(np.frombuffer(self._columns[3], "q"), kind="stable")[:rows]
        for place, code in enumerate(self._TYPES):  # one after the other, to hold one column more
            kept = np.frombuffer(self._columns[place], code)[order]
            self._columns[place] = array(code)
            self._columns[place].frombytes(kept.data.cast("B"))

    def columns(
        self,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
        """Views of the columns; nothing can be appended any more."""
        users, movies, liked, times = (np.frombuffer(c, c.typecode) for c in self._columns)
        return users, movies, liked.view(np.bool_), times


def _open_table(path: Path) -> TextIO:
    try:
        if path.stat().st_size == 0:
            raise DemoError(f"{path}: empty file", _GET)
        return path.open(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DemoError(f"{path}: {error.strerror or error}", _GET) from error


def _columns(path: Path, header: str, wanted: tuple[str, ...]) -> list[int]:
    names = [name.strip() for name in header.split(",")]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise DemoError(
            f"{path}: column {', '.join(missing)} missing; the first line reads {header[:80]!r}",
            f"the first line must name {','.join(wanted)}; {_GET}",
        )
    return [names.index(name) for name in wanted]


def _parse_rating(line: str, where: list[int]) -> tuple[int, int, float, int] | str:
    """Returns (user, movie, stars, seconds), or the reason why the line is of no use."""
    cells = line.split(",")
    if len(cells) <= max(where):
        return "too few columns"
    try:
        user, movie = int(cells[where[0]]), int(cells[where[1]])
        stars, time = float(cells[where[2]]), int(cells[where[3]])
    except ValueError:
        return "not a number"
    if not 0.5 <= stars <= 5.0:
        return "rating outside 0.5 to 5"
    if not all(-(2**63) <= number < 2**63 for number in (user, movie, time)):
        return "number beyond 64 bits"
    return user, movie, stars, time


def _describe(title: str, genres: str) -> _Movie:
    year = _YEAR.search(title)
    names = [name for name in genres.strip().split("|") if name][:GENRES]
    hashes = [hash_text(name) for name in names] + [0] * (GENRES - len(names))
    return _Movie(int(year.group(1)) if year else 0, tuple(hashes))
