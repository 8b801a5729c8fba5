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
    assert "2 runs put together" in text and "\nrun 0\nrun 1\n" in text
    assert "lookup/dim16/1k/uniform/t2" in text
    assert "Of each case 1 round; where it is one, median, p10 and p90 are that round's." in text
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

    again = [*command[:3], str(tmp_path / "page.json")]
    subprocess.run([*again, "--page", str(page), "--readme", str(readme)], check=True)
    assert page.read_text() == text
    assert json.loads((tmp_path / "page.json").read_text()) == data


def with_rounds(run, *, taco, dense_variable):
    """The run with as many rounds as named; a pair has that many in each of several groups."""
    for name, groups in (("taco", taco), ("dense_variable", dense_variable)):
        contestant = run["results"][0]["contestants"][name]
        round_ = (contestant["rounds"] or [None])[0]
        contestant["rounds"] = [
            {**round_, "group": group, "index": index}
            for group, count in enumerate(groups)
            for index in range(count)
        ]
    return run


@pytest.mark.parametrize(
    ("taco", "dense_variable", "text"),
    [
        ([5], [5], "Of each case 5 rounds."),
        ([3, 3, 3], [3], "Of each case 3 rounds."),
        ([3], [1], "Of each case 1 to 3 rounds, by case and contestant; where it is one,"),
        ([2], [], "Without a peer, TACO and the machine alone: lookup/dim16/1k/uniform/t1."),
    ],
)
def test_what_a_table_rests_on_is_counted(taco, dense_variable, text):
    run = results("run", LOOKUP, taco=[0.1], peer=[0.4])
    block = report.markdown(with_rounds(run, taco=taco, dense_variable=dense_variable))
    assert text in block


def test_the_headline_names_one_command_or_the_number_of_runs():
    runs = [results(f"run {n}", LOOKUP, taco=[0.1], peer=[0.4]) for n in range(2)]
    assert "Measured by `run 0`, 1 round of each case, on some processor." in report.headline(
        runs[0]
    )
    assert "Measured in 2 runs put together, 1 round" in report.headline(report.merge(runs))


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
