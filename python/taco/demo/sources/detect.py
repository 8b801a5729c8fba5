"""Finds out what a path holds, and opens it."""

from pathlib import Path

from taco.demo.errors import DemoError
from taco.demo.sources.base import Source
from taco.demo.sources.criteo import CriteoSource
from taco.demo.sources.movielens import MovieLensSource
from taco.demo.sources.synthetic import ClickStreamConfig, ClickStreamSource

FORMATS = ("auto", "movielens", "criteo")
_EXPECTED = (
    "give a MovieLens folder (ratings.csv and movies.csv) or a Criteo file "
    "(tab-separated: label, 13 integers, 26 categories; .gz allowed); without --data the demo "
    "generates a stream"
)
_CRITEO_NAMES = ("train.txt", "train.txt.gz", "train.tsv", "train.tsv.gz", "day_0.gz", "day_0")


def open_source(
    path: str | None, format_name: str = "auto", *, rows: int | None = None, seed: int = 1
) -> Source:
    """Opens a log.

    Args:
        path: File or folder; `None` for the generated stream.
        format_name: One of `FORMATS`; "auto" looks at the path.
        rows: Examples wanted at most; the length of the generated stream.
        seed: Of the generated stream; real logs have no chance in them.

    Returns:
        A source, checked as far as its first lines.

    Raises:
        DemoError: Nothing there, nothing readable, or not of a known format.
    """
    if path is None:
        defaults = ClickStreamConfig()
        return ClickStreamSource(ClickStreamConfig(rows=rows or defaults.rows, seed=seed))
    where = Path(path)
    if not where.exists():
        raise DemoError(f"{where}: no such file or folder", _EXPECTED)
    if format_name == "movielens" or (format_name == "auto" and _is_movielens(where)):
        return MovieLensSource(where if where.is_dir() else where.parent, rows=rows)
    return CriteoSource(_criteo_file(where), rows=rows)


def _is_movielens(where: Path) -> bool:
    if where.is_dir():
        return (where / "ratings.csv").exists() or (where / "movies.csv").exists()
    return where.name in ("ratings.csv", "movies.csv")


def _criteo_file(where: Path) -> Path:
    if not where.is_dir():
        return where
    for name in _CRITEO_NAMES:
        if (where / name).is_file():
            return where / name
    raise DemoError(
        f"{where}: holds neither ratings.csv (MovieLens) nor {', '.join(_CRITEO_NAMES)} (Criteo)",
        _EXPECTED,
    )
