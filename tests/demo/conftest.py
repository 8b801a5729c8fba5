"""Shared by the demo's tests: small logs on disk.

The tests import `taco` as it is installed or on PYTHONPATH; failing that, from python/ of this
checkout. TACO's library is found as for any user, by `taco._loader`: in the installed package, or
where TACO_TF_LIBRARY or the build puts it (`make build`).
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))  # demo_logs.py, whatever the import mode
if importlib.util.find_spec("taco") is None:
    sys.path.insert(0, str(ROOT / "python"))

MOVIES = (
    "movieId,title,genres\n"
    "1,Toy Story (1995),Adventure|Animation\n"
    '2,"Amélie, or Le Fabuleux Destin (2001)",Comedy|Romance|Drama|Fantasy|War\n'
    "3,七人の侍,(no genres listed)\n"
)
RATINGS = "userId,movieId,rating,timestamp\n7,1,4.0,300\n7,2,3.5,100\n8,3,5.0,200\n"


@pytest.fixture
def movielens(tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that writes a MovieLens folder; bytes are written as they are."""

    def write(ratings: str | bytes = RATINGS, movies: str | bytes = MOVIES) -> Path:
        folder = tmp_path / "ml"
        folder.mkdir(exist_ok=True)
        for name, content in (("ratings.csv", ratings), ("movies.csv", movies)):
            data = content.encode() if isinstance(content, str) else content
            (folder / name).write_bytes(data)
        return folder

    return write
