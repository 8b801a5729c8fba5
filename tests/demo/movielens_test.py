"""The MovieLens reader: good files, bad lines counted and passed over, wrong files refused."""

import numpy as np
import pytest
from taco.demo.errors import DemoError
from taco.demo.hashing import field_ids, hash_text
from taco.demo.sources import movielens as movielens_source
from taco.demo.sources import open_source
from taco.demo.sources.base import windows

HEADER = "userId,movieId,rating,timestamp\n"


def read(folder, **options):
    source = open_source(str(folder), **options)
    (chunk,) = windows(source.chunks(), 1 << 20)
    return source, chunk


def test_ratings_come_by_time_with_their_movie(movielens):
    source, chunk = read(movielens())
    assert source.rows == 3 and source.report.reasons == {}
    assert chunk.labels.tolist() == [0.0, 1.0, 1.0]  # 3.5, 5 and 4 stars
    assert chunk.ids.dtype == np.int64 and chunk.ids.shape == (3, len(source.fields))
    assert chunk.ids[:, 0].tolist() == field_ids("user", np.array([7, 8, 7])).tolist()
    assert chunk.ids[:, 1].tolist() == field_ids("movie", np.array([2, 3, 1])).tolist()
    assert chunk.ids[:, 2].tolist() == field_ids("year", np.array([2001, 0, 1995])).tolist()


def test_genres_are_the_first_four_and_empty_slots_are_one_id(movielens):
    _, chunk = read(movielens())
    names = ["Comedy", "Romance", "Drama", "Fantasy"]
    hashes = np.array([hash_text(name) for name in names], np.uint64)
    assert chunk.ids[0, 5:].tolist() == field_ids("genre", hashes).tolist()
    assert chunk.ids[2, 7] == chunk.ids[2, 8] == field_ids("genre", np.array([0]))[0]


def test_a_ratings_file_stands_for_its_folder(movielens):
    assert read(movielens() / "ratings.csv")[0].rows == 3


def test_rows_keeps_the_earliest(movielens):
    _, chunk = read(movielens(), rows=2)
    assert chunk.ids[:, 0].tolist() == field_ids("user", np.array([7, 8])).tolist()


@pytest.mark.parametrize("rows", [1, 3, 40, 5000, None])
def test_rows_keeps_the_earliest_of_many_in_bounded_memory(movielens, monkeypatch, rows):
    monkeypatch.setattr("taco.demo.sources.movielens._CHUNK", 8)
    rng = np.random.default_rng(2)
    times = rng.integers(0, 300, 2000)  # many of one second
    lines = [f"{user},1,4.0,{time}\n" for user, time in enumerate(times)]
    most = []
    sort = movielens_source._Ratings.sort
    monkeypatch.setattr(
        "taco.demo.sources.movielens._Ratings.sort",
        lambda self, rows: (most.append(len(self)), sort(self, rows)),
    )
    source = open_source(str(movielens(HEADER + "".join(lines))), rows=rows)
    users = np.concatenate([chunk.ids[:, 0] for chunk in source.chunks()])
    expected = np.argsort(times, kind="stable")[:rows]
    assert users.tolist() == field_ids("user", expected).tolist()
    assert max(most) == (2000 if rows is None else min(2000, max(2 * rows, 8)))


def test_a_second_pass_is_the_same(movielens):
    source = open_source(str(movielens()))
    first, second = next(source.chunks()), next(source.chunks())
    assert (first.ids == second.ids).all() and (first.labels == second.labels).all()


def test_crlf_byte_order_mark_and_columns_in_another_order(movielens):
    ratings = "\ufefftimestamp,rating,movieId,userId\r\n300,4.0,1,7\r\n\r\n"
    movies = "movieId,title,genres\r\n1,Toy Story (1995),Comedy\r\n"
    source, chunk = read(movielens(ratings, movies))
    assert source.report.reasons == {} and chunk.labels.tolist() == [1.0]
    assert chunk.ids[0, 2] == field_ids("year", np.array([1995]))[0]
    assert chunk.ids[0, 5] == field_ids("genre", np.array([hash_text("Comedy")], np.uint64))[0]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1,2,3", "too few columns"),
        ("one,2,3.0,4", "not a number"),
        ("1,2,nan,4", "rating outside 0.5 to 5"),
        ("1,2,7.5,4", "rating outside 0.5 to 5"),
        ("99999999999999999999,2,3,4", "number beyond 64 bits"),
        ("\x00", "too few columns"),
    ],
)
def test_bad_lines_are_counted_by_reason_and_passed_over(movielens, line, reason):
    source, chunk = read(movielens(HEADER + "7,1,4.0,300\n" + line + "\n8,1,4.0,301\n"))
    assert len(chunk) == 2
    assert source.report.lines == 3
    assert source.report.reasons == {reason: 1}
    assert source.report.examples == {reason: ["ratings.csv:3"]}
    assert source.report.sentences() == [f"1 of 3 lines: {reason} (first: ratings.csv:3)"]


def test_bytes_that_are_no_utf8_cost_one_line(movielens):
    source, chunk = read(movielens(HEADER.encode() + b"\xff\xfe,1,4.0,3\n7,1,4.0,300\n"))
    assert len(chunk) == 1 and source.report.reasons == {"not a number": 1}


def test_an_unreadable_movie_leaves_its_ratings(movielens):
    movies = 'movieId,title,genres\n1,"Toy Story (1995),Comedy\n2,B (2001),Drama\n3,C,Drama\n'
    source, chunk = read(movielens(movies=movies))
    assert len(chunk) == 3
    assert source.report.examples["movie unreadable"] == ["movies.csv:2"]
    unknown = "movie not in movies.csv (kept, without year and genres)"
    assert source.report.examples[unknown] == ["ratings.csv:2"]


@pytest.mark.parametrize(
    ("ratings", "movies", "cause"),
    [
        ("", "movieId,title,genres\n", "ratings.csv: empty file"),
        (HEADER, "", "movies.csv: empty file"),
        (HEADER, "movieId,title,genres\n", "no usable rating"),
        (HEADER + "a,b,c,d\n", "movieId,title,genres\n", "no usable rating in 1 lines"),
        ("userId,movieId,rating\n", "movieId,title,genres\n", "column timestamp missing"),
        (HEADER, "movieId,title\n", "column genres missing"),
        ("\x89PNG\r\n\x1a\n", "movieId,title,genres\n", "column userId"),
    ],
)
def test_useless_files_are_refused_by_name(movielens, ratings, movies, cause):
    with pytest.raises(DemoError, match=cause) as caught:
        open_source(str(movielens(ratings, movies)))
    assert caught.value.remedy


def test_a_missing_file_is_named(movielens):
    folder = movielens()
    (folder / "movies.csv").unlink()
    with pytest.raises(DemoError, match=r"movies\.csv: No such file"):
        open_source(str(folder))
