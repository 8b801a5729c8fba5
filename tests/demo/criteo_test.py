"""The Criteo reader: streaming, bad lines counted and passed over, wrong files refused."""

import gzip

import numpy as np
import pytest
from demo_logs import criteo_line
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from taco.demo.errors import DemoError
from taco.demo.sources import open_source
from taco.demo.sources.base import windows
from taco.demo.sources.criteo import _ABSENT, _bucket, _category

GOOD = criteo_line() + "\n"


def write(tmp_path, content, name="train.txt"):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path, **options):
    source = open_source(str(path), **options)
    return source, list(windows(source.chunks(), 1 << 20))


def test_lines_keep_their_order_and_columns_are_apart(tmp_path):
    lines = [criteo_line(1, 5, "0a"), criteo_line(0, "", ""), criteo_line(1, -2, "0a")]
    source, (chunk,) = read(write(tmp_path, "\n".join(lines)))  # no newline at the end
    assert chunk.labels.tolist() == [1.0, 0.0, 1.0]
    assert chunk.ids.shape == (3, 39) and source.fields[12:14] == ("I13", "C1")
    assert len(np.unique(chunk.ids)) == 3 * 13 + 2 * 26
    assert (chunk.ids[0, 13:] == chunk.ids[2, 13:]).all()


def test_integers_are_put_in_log_square_buckets():
    cells = (b"-2", b"0", b"2", b"3", b"10", b"1000000", b"", b"9" * 400)
    assert [_bucket(cell) for cell in cells][:7] == [-2, 0, 2, 3, 7, 192, _ABSENT]
    assert _bucket(cells[7]) < _ABSENT


def test_categories_are_hexadecimal_or_any_text():
    assert _category(b"68fd1e64") == 0x68FD1E64
    assert _category(b"") == _ABSENT
    assert _category("日本".encode()) != _category("日木".encode())
    assert 0 <= _category(b"\xff\xfe not utf-8") < _ABSENT


def test_crlf_and_blank_lines(tmp_path):
    source, (chunk,) = read(write(tmp_path, criteo_line() + "\r\n\r\n" + criteo_line(0) + "\r\n"))
    assert chunk.labels.tolist() == [1.0, 0.0] and source.report.reasons == {}
    assert (chunk.ids[0] == chunk.ids[1]).all()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1\t2\t3", "not 40 columns"),
        (criteo_line() + "\t1", "not 40 columns"),
        (criteo_line(label=2), "label is neither 0 nor 1"),
        (criteo_line(integer="x"), "integer column holds no integer"),
        (criteo_line(integer="1.5"), "integer column holds no integer"),
        ("x" * 200_000, "line longer than 65536 bytes"),
    ],
)
def test_bad_lines_are_counted_by_reason_and_passed_over(tmp_path, line, reason):
    source, (chunk,) = read(write(tmp_path, GOOD + line + "\n" + GOOD))
    assert len(chunk) == 2
    assert source.report.lines == 3 and source.report.reasons == {reason: 1}
    assert source.report.examples == {reason: ["train.txt:2"]}


def test_gzip_is_told_by_its_content(tmp_path):
    source, (chunk,) = read(write(tmp_path, gzip.compress(GOOD.encode() * 3), "day_0"))
    assert len(chunk) == 3 and source.report.reasons == {}


def test_a_truncated_gzip_gives_what_is_left_of_it_each_time(tmp_path):
    rng = np.random.default_rng(1)
    lines = [criteo_line(1, i, f"{rng.integers(2**32):08x}") + "\n" for i in range(5000)]
    data = gzip.compress("".join(lines).encode())
    source, first = read(write(tmp_path, data[: len(data) // 2], "train.txt.gz"))
    got = sum(len(chunk) for chunk in first)
    assert 0 < got < 5000
    assert source.report.reasons == {"gzip ends early, the rest is missing": 1}
    assert source.report.examples["gzip ends early, the rest is missing"] == [
        f"train.txt.gz:{got + 1}"
    ]
    assert sum(len(chunk) for chunk in source.chunks()) == got
    assert sum(source.report.reasons.values()) == 1


def test_a_corrupt_gzip_is_reported(tmp_path):
    data = bytearray(gzip.compress((GOOD * 10).encode()))
    data[-6] ^= 0xFF  # the check sum
    source, chunks = read(write(tmp_path, bytes(data), "train.txt.gz"))
    assert sum(len(chunk) for chunk in chunks) == 10
    assert source.report.reasons == {"gzip is corrupt, the rest is not readable": 1}


def test_rows_stops_the_stream(tmp_path):
    source, (chunk,) = read(write(tmp_path, GOOD * 10_000), rows=5000)
    assert len(chunk) == 5000 and source.report.lines == 5000


def test_memory_does_not_grow_with_the_file(tmp_path):
    source = open_source(str(write(tmp_path, GOOD * 20_000)))
    assert max(len(chunk) for chunk in source.chunks()) <= 4096


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "empty file"),
        (b"\n\n", "empty file"),
        (b"a,b,c\n1,2,3\n", "not a Criteo log: 2 of 2 lines: not 40 columns"),
        (gzip.compress(b""), "empty file"),
        (b"\x1f\x8b", "gzip"),
        (bytes(range(256)) * 10, "not a Criteo log"),
    ],
)
def test_useless_files_are_refused_by_name(tmp_path, content, cause):
    path = write(tmp_path, content, "log.bin")
    with pytest.raises(DemoError, match=cause) as caught:
        open_source(str(path))
    assert "log.bin" in caught.value.cause and caught.value.remedy


def test_missing_paths_and_folders_without_a_log_are_refused(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(DemoError) as caught:
            open_source(str(path))
        assert str(path) in caught.value.cause and "MovieLens" in caught.value.remedy


def test_a_folder_with_a_log_is_that_log(tmp_path):
    write(tmp_path, GOOD)
    assert len(read(tmp_path)[1][0]) == 1


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=400))
def test_any_bytes_between_good_lines_cost_nothing_but_themselves(tmp_path, noise):
    content = GOOD.encode() + noise + b"\n" + GOOD.encode()
    source, chunks = read(write(tmp_path, content))
    assert sum(len(chunk) for chunk in chunks) >= 2
    assert source.report.lines >= 2
