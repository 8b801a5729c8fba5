"""The pages' tables and JSON are made from results files, and keep all that is beside the marks."""

import json
import subprocess
import sys

import pytest

from benchmarks.embedding import claims, report
from benchmarks.embedding.cases import Case

LOOKUP = Case("lookup", 16, 1000, "uniform", 1, 0, 100, 4, 3)


def results(command, case, *, taco, peer):
    """A results file in which each contestant did the given seconds a batch."""
    result = {
        "case": case.to_json(),
        "contestants": {
            name: {
                "rounds": [{"group": 0, "index": 0, "items": 100, "seconds": seconds}],
                "note": "",
            }
            for name, seconds in (("taco", taco), ("dense_variable", peer))
        },
        "notes": [],
    }
    return {
        "command": command,
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
        "quick": False,
        "revision": {"commit": "0123456789abcdef", "modified": False},
        "machine": {
            "processor": "some processor",
            "processors": 2,
            "l2": "1M",
            "l3": "32M",
            "memory_bytes": 2**34,
            "system": "Linux",
            "huge_pages": "madvise",
        },
        "versions": {"python": "3.11"},
        "missing": {},
        "results": [result],
        "findings": [finding.to_json() for finding in claims.findings(result)],
    }


@pytest.fixture
def runs(tmp_path):
    """Two runs of one case each, as files."""
    paths = []
    for number, threads in enumerate((1, 2)):
        case = Case("lookup", 16, 1000, "uniform", threads, 0, 100, 4, 3)
        run = results(f"run {number}", case, taco=[0.1, 0.3], peer=[0.4, 0.4])
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(run))
        paths.append(path)
    return paths


def test_several_runs_become_one_page_one_json_and_one_headline(tmp_path, runs):
    page, readme = tmp_path / "page.md", tmp_path / "readme.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    readme.write_text(f"top\n{report.README_BEGIN}\n{report.README_END}\nend\n")
    command = [sys.executable, "-m", "benchmarks.embedding.report", *map(str, runs)]
    subprocess.run([*command, "--page", str(page), "--readme", str(readme)], check=True)

    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "run 0 ; run 1" in text and "lookup/dim16/1k/uniform/t2" in text
    assert "2.00 [2.00, 2.00]" in text
    assert "| Lookup | dense variable | 2.00x | 2.00x | 2.00x | >= 1x | 2 of 2 |" in (
        readme.read_text()
    )
    data = json.loads((tmp_path / "page.json").read_text())
    assert [r["case"]["threads"] for r in data["results"]] == [1, 2]
    times = data["results"][0]["contestants"]["taco"]["rounds"][0]["seconds"]
    assert times["batches"] == 2
    assert times["sum"] == pytest.approx(0.4)
    assert times["longest"] == pytest.approx(0.3)


def test_of_a_case_done_twice_the_last_run_counts():
    case = LOOKUP
    slow = results("slow", case, taco=[0.4], peer=[0.4])
    fast = results("fast", case, taco=[0.1], peer=[0.4])
    merged = report.merge([slow, fast])
    assert len(merged["results"]) == 1
    ratios = [f["value"]["median"] for f in merged["findings"] if f["what"] == "speed over"]
    assert ratios == [pytest.approx(4.0)]


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="no block between"):
        report.rewrite("no marks here", "block")
