"""`taco harp top`: rates of lines that were written, the worst connection first."""

import json

import pytest
from taco.cli import commands
from taco.harp.statistics import Follower


def path(rtt=50.0, packets=100, lost=0, black=False):
    return {
        "rtt_us": rtt,
        "least_rtt_us": 40.0,
        "window": 16.0,
        "bytes": 0,
        "packets": packets,
        "lost": lost,
        "timeouts": 0,
        "blackouts": 0,
        "black": black,
    }


def line(time, connection="1", process=10, **fields):
    made = {
        "time": time,
        "host": "one",
        "process": process,
        "connection": connection,
        "state": "open",
        "kind": "send",
        "peer": "10.0.0.2:5000",
        "bytes": 0,
        "messages": 0,
        "paths": [path(), path(rtt=90.0)],
    }
    return json.dumps({**made, **fields}) + "\n"


def rows_of(tmp_path, *lines):
    file = tmp_path / "stats.jsonl"
    file.write_text("".join(lines))
    follower = Follower([file])
    follower.read()
    return follower.rows()


def test_rates_are_the_difference_of_the_last_two_lines(tmp_path):
    (row,) = rows_of(
        tmp_path,
        line(100.0, bytes=7, messages=1),
        line(102.0, bytes=1_000_000_000, messages=100, paths=[path(packets=200, lost=5), path()]),
        line(104.0, bytes=2_000_000_000, messages=300, paths=[path(packets=300, lost=15), path()]),
    )
    assert row.owner == "one:10" and row.peer == "10.0.0.2:5000"
    assert row.gbit_s == pytest.approx(4.0)
    assert row.messages_s == pytest.approx(100.0)
    assert row.lost == pytest.approx(0.1)
    assert (row.black, row.paths, row.age) == (0, 2, 0.0)


def test_one_line_has_no_rates_yet(tmp_path):
    (row,) = rows_of(tmp_path, line(100.0, bytes=10**9))
    assert (row.gbit_s, row.messages_s, row.rtt_us) == (0.0, 0.0, 90.0)


def test_the_worst_comes_first(tmp_path):
    rows = rows_of(
        tmp_path,
        line(1.0, "slow", paths=[path(rtt=4000.0)]),
        line(1.0, "good"),
        line(1.0, "lossy", paths=[path(packets=100, lost=30)]),
        line(1.0, "dark", paths=[path(black=True), path()]),
        line(1.0, "dead", state="failed", failure="the receiver is lost"),
        line(1.0, "gets", kind="receive", paths=[]),
    )
    order = [
        row.failure or f"{row.black} {row.lost:.1f} {row.rtt_us:.0f} {row.kind}" for row in rows
    ]
    assert order == [
        "the receiver is lost",
        "1 0.0 50 send",
        "0 0.3 50 send",
        "0 0.0 4000 send",
        "0 0.0 90 send",
        "0 0.0 0 receive",
    ]


def test_lines_that_are_none_are_counted(tmp_path):
    file = tmp_path / "stats.jsonl"
    file.write_text(line(1.0) + "{not json\n" + "[1, 2]\n" + '{"host": 1}\n' + line(2.0)[:-20])
    follower = Follower([file])
    follower.read()
    assert follower.malformed == 3
    assert len(follower.rows()) == 1
    with file.open("a") as stream:  # the rest of the last line
        stream.write(line(2.0)[-20:])
    follower.read()
    assert follower.malformed == 3
    assert follower.rows()[0].age == 0.0


def test_a_file_that_begins_anew_is_read_from_its_beginning(tmp_path):
    file = tmp_path / "stats.jsonl"
    file.write_text(line(1.0) + line(2.0))
    follower = Follower([file, tmp_path / "not_there"])
    follower.read()
    file.write_text(line(3.0, "2"))
    follower.read()
    assert len(follower.rows()) == 2


def test_the_command_shows_tables_and_json(tmp_path, capsys):
    file = tmp_path / "stats.jsonl"
    file.write_text(line(1.0, state="failed", failure="the receiver is lost"))
    assert commands.run(["harp", "top", "--once", str(file)]) == 0
    assert "1 connections" in capsys.readouterr().out
    assert commands.run(["harp", "top", "--json", str(file)]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert shown["failure"] == "the receiver is lost"


def test_a_file_that_is_not_there_is_named(tmp_path, capsys):
    assert commands.run(["harp", "top", str(tmp_path / "none")]) == 1
    assert "HARP_STATS=FILE" in capsys.readouterr().err
