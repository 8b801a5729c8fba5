"""The harness from end to end on tiny tables, without the peers' own environment."""

import json
import pathlib

import numpy as np
import pytest

from benchmarks.embedding import __main__ as main
from benchmarks.embedding import driver, floor, memory, process, random_line, report


def run(tmp_path: pathlib.Path, *arguments: str) -> dict:
    """Runs the benchmark; returns what it wrote."""
    file = tmp_path / "results.json"
    status = main.main(["--quick", "--out", str(tmp_path), "--json", str(file), *arguments])
    assert status == 0
    return json.loads(file.read_text())


def test_contestants_take_turns_and_results_say_everything(tmp_path):
    results = run(
        tmp_path, "--only", "lookup", "--only", "growth", "--rounds", "2", "--rows", "5000",
        "--contestants", "dense_variable,dense_hash_table,random_line",
    )  # fmt: skip
    cases = {r["case"]["kind"]: r for r in results["results"]}
    lookup = cases["lookup"]["contestants"]
    assert set(lookup) == {"dense_variable", "dense_hash_table", "random_line"}
    for contestant in lookup.values():
        assert [r["index"] for r in contestant["rounds"]] == [0, 1], contestant["note"]
    growth = results["results"][-2]["contestants"]["dense_hash_table"]["rounds"][0]
    assert growth["items"] == 5000 and growth["memory"]["resident_max"] > 0
    assert results["machine"]["processors"] >= 1 and results["command"]
    assert results["versions"]["dense_variable"]["tensorflow"]
    assert str(process.ROOT) not in json.dumps(results)

    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    written = report.rewrite(page, report.markdown(results))
    assert written.startswith("before\n") and written.endswith("after\n")
    assert "### Lookup" in written and "old" not in written


def test_a_missing_contestant_is_named_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(main.peers, "launch", _no_peers)
    results = run(tmp_path, "--only", "lookup", "--contestants", "random_line,tfra")
    assert results["missing"] == {"tfra": "no such wheel"}
    assert results["results"][0]["contestants"]["random_line"]["rounds"]


def _no_peers(folder):
    raise main.peers.PeersError("no such wheel")


def test_a_worker_that_dies_gives_the_reason(tmp_path):
    launch = process.Launch("/bin/false", {})
    with pytest.raises(process.ContestantError, match="exit status 1"):
        process.Worker("random_line", 1, launch, tmp_path / "log")


def test_random_line_reads_every_line_it_is_asked_for():
    array = random_line.LineArray(rows=10_000, row_bytes=72, threads=2)
    ids = np.random.default_rng(0).integers(0, 10_000, 50_001)
    # Every byte of the array is 1.
    assert array.read(ids) == (50_001 * 0x0101010101010101) % 2**64
    array.close()


@pytest.mark.parametrize("dim", [16, 12])  # of whole lines, and not
def test_the_floor_moves_the_rows_it_is_asked_for(dim):
    rows, batch = 300_000, 40_000  # large enough to go around the cache
    table = floor.FloorTable(rows, dim, slots=0, threads=2)
    random = np.random.default_rng(0)
    ids = random.choice(rows, batch, replace=False).astype(np.int64)
    values = random.random((batch, dim), np.float32)
    out = np.zeros((batch, dim), np.float32)
    table.upsert(ids, values)
    table.lookup(ids, out)
    table.close()
    np.testing.assert_array_equal(out, values)


def test_the_floor_of_adam_reads_and_writes_row_and_slots():
    table = floor.FloorTable(100, 16, slots=2, threads=2)
    ids = np.arange(10, 60, dtype=np.int64)
    gradients = np.full((50, 16), 2, np.float32)
    out = np.zeros((50, 16), np.float32)
    for expected in (-2, -6):  # the momentum is 2, then 4
        table.apply(ids, gradients)
        table.lookup(ids, out)
        assert (out == expected).all()
    table.close()


def test_the_page_must_have_its_marks():
    with pytest.raises(ValueError, match="no block"):
        report.rewrite("a page without", "block")


def test_the_readme_gets_a_line_a_claim_over_all_runs():
    def run(case, ratio):
        finding = {
            "case": case,
            "what": "speed over",
            "peer": "tfra",
            "value": {"median": ratio},
            "target": ">= 8x",
            "met": ratio >= 8,
        }
        return {
            "command": case,
            "seconds": 1,
            "quick": False,
            "results": [],
            "findings": [finding],
            "machine": {"processor": "a processor"},
        }

    merged = report.merge([run("lookup/a", 4.0), run("lookup/b", 9.0)])
    assert merged["command"] == "lookup/a ; lookup/b" and merged["seconds"] == 2
    table = report.headline(merged)
    assert "| Lookup | tfra | 4.00x | 6.50x | 9.00x | >= 8x | 1 of 2 |" in table
    page = report.rewrite(
        f"x{report.README_BEGIN}old{report.README_END}y",
        table,
        report.README_BEGIN,
        report.README_END,
    )
    assert "old" not in page and "a processor" in page


def test_each_round_begins_with_another_contestant():
    turns = [driver._turns(["a", "b", "c"], index) for index in range(4)]
    assert turns == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]
    assert driver._turns([], 1) == []


def test_memory_is_made_ready():
    assert memory.warm(5 << 20)
