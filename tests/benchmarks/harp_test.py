"""The benchmark of HARP runs whole, and its tables say what it measured."""

from __future__ import annotations

import json

import pytest

from benchmarks.harp import __main__ as bench
from benchmarks.harp import demo, report
from benchmarks.harp.measure import CONTESTANTS
from benchmarks.lightcc.links import Links, LinksUnavailable


def _need_namespaces():
    try:
        with Links(machines=2, mbits=None):
            pass
    except LinksUnavailable as reason:
        pytest.skip(str(reason))


def test_a_quick_run_measures_every_contestant(tmp_path, capsys):
    _need_namespaces()
    file = tmp_path / "results.json"
    assert bench.main(["--quick", "--contestants", ",".join(CONTESTANTS), "--json", str(file)]) == 0
    results = json.loads(file.read_text())
    seen = {(each["contestant"], each["what"], each["bytes"]) for each in results["results"]}
    for name in CONTESTANTS:
        assert {("stream", 8), ("stream", 65536), ("stream", 1048576), ("ping", 8)} == {
            (what, size) for who, what, size in seen if who == name
        }
    printed = capsys.readouterr().out
    for name in CONTESTANTS:
        assert printed.count(f"| {name} |") == 5  # four measurements, and what one of them costs


def test_the_demonstration_shows_both_and_draws_a_plot(tmp_path, capsys):
    _need_namespaces()
    out = tmp_path / "out"
    words = ["--losses", "0,0.01", "--rounds", "1", "--seconds", "0.1", "--out", str(out)]
    assert demo.main(words) == 0
    shown = capsys.readouterr().out
    assert "a clean link" in shown and "1% of the packets get lost" in shown
    assert (out / "harp.png").stat().st_size > 10_000
    found = json.loads((out / "results.json").read_text())
    assert set(found) == {"0.0", "0.01"}
    for each in found.values():
        assert {e["contestant"] for e in each} == {"tcp", "harp"}


def test_costs_are_medians_of_what_is_known():
    def stream(name, index, calls):
        made = {"contestant": name, "what": "stream", "bytes": 1 << 20, "round": index}
        for side in ("sender", "receiver"):
            made[f"{side}_cycles_byte"] = 0.5 + index
            if calls is not None:
                made |= {f"{side}_calls_mib": calls, f"{side}_user_copies": 1.0}
                made |= {f"{side}_kernel_copies": 0.0}
        return made

    known = [stream("harp", index, calls) for index, calls in enumerate((30.0, 10.0, 20.0))]
    lines = report.costs({"results": [*known, stream("other", 0, None)]})
    assert "| harp | 1.50 | 20.0 | 1.00 | 0.00 | 1.50 | 20.0 | 1.00 | 0.00 |" in lines
    assert "| other | 0.50 |  |  |  | 0.50 |  |  |  |" in lines
    assert report.costs({"results": [{"what": "stream", "bytes": 1 << 20}]}) == []


def test_a_ratio_is_taken_within_a_round():
    def stream(name, index, speed):
        fields = {"sender_processor": 1.0, "receiver_processor": 0.5}
        return {"contestant": name, "what": "stream", "bytes": 8, "round": index} | {
            "gbit_s": speed,
            **fields,
        }

    rounds = [("tcp", 0, 2.0), ("tcp", 1, 4.0), ("harp", 0, 3.0), ("harp", 1, 4.0)]
    lines = report.table({"results": [stream(*each) for each in rounds]})
    assert "| harp | 3.50 | 1.00 | 0.50 | 1.25 [1.00, 1.50] |" in lines
    assert "| tcp | 3.00 | 1.00 | 0.50 | 1.00 [1.00, 1.00] |" in lines


def test_round_trips_have_the_ratio_of_their_tail_and_the_machines_own():
    def ping(name, index, p50, p999, **more):
        each = {"contestant": name, "what": "ping", "bytes": 8, "round": index, "p50_us": p50}
        return {**each, "p99_us": p999 - 1, "p999_us": p999, **more}

    known = [("tcp", 0, 20.0, 40.0), ("harp", 0, 10.0, 30.0)]
    lines = report.table({"results": [ping(*each) for each in known]})
    assert "| harp | 10.0 | 29.0 | 30.0 | 0.50 [0.50, 0.50] | 0.75 [0.75, 0.75] |" in lines
    lines = report.table({"results": [ping(*each, machine_p999_us=25.0) for each in known]})
    assert "| harp | 10.0 | 29.0 | 30.0 | 25.0 | 0.50 [0.50, 0.50] | 0.75 [0.75, 0.75] |" in lines
