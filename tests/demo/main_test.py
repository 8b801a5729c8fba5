"""`taco demo` from end to end.

The runs with TACO's own table need its library. It is found as for any user, by `taco._loader`:
TACO_TF_LIBRARY, TACO_LIBRARY_PATH, the installed package, or bazel-bin after `make build`. Where it
is in none of these places those tests fail; they are never skipped.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from demo_logs import criteo_line
from taco.demo import main

ROOT = Path(__file__).resolve().parents[2]
MOVIELENS = Path(os.environ.get("TACO_MOVIELENS", ROOT / "../shared/data/movielens-latest-small"))
TINY = ["--rows", "6000", "--dim", "4", "--batch", "256", "--window", "1024"]


def results(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def check_finished(folder, kinds, samples):
    content = results(folder)
    assert [one["kind"] for one in content["results"]] == kinds
    for one in content["results"]:
        assert one["samples"] == samples and one["windows"]["end"][-1] == samples
        assert 0.0 < one["auc"] < 1.0 and one["log_loss"] > 0.0
        assert one["bytes"] > 0 and one["rows"] > 0
    assert (folder / "auc.png").read_bytes().startswith(b"\x89PNG")
    return content


def test_stock_alone_on_the_generated_stream(tmp_path, capsys):
    assert main(["--kinds", "stock,exact", "--out", str(tmp_path), *TINY]) == 0
    content = check_finished(tmp_path, ["stock", "exact"], 6000)
    assert content["ceiling"]["auc"] > 0.75 and content["difference"] is None
    stock, exact = content["results"]
    assert stock["rows"] == exact["rows"] == content["log"]["distinct_ids"]
    shown = capsys.readouterr().out
    assert "hashed buckets: 6,000 of 6,000 samples" in shown and "AUC" in shown
    assert "\x1b" not in shown  # no terminal, no escape codes


def test_taco_and_stock_in_the_same_memory(tmp_path, capsys):
    assert main(["--out", str(tmp_path), *TINY]) == 0
    content = check_finished(tmp_path, ["taco", "stock"], 6000)
    taco, stock = content["results"]
    assert taco["rows"] == content["log"]["distinct_ids"]
    row = 4 * 5 * 3
    assert taco["bytes"] - row < stock["bytes"] <= taco["bytes"]
    assert content["difference"]["standard_error"] > 0
    assert "difference" in capsys.readouterr().out


def test_json_alone_on_stdout(tmp_path, capsys):
    assert main(["--kinds", "stock", "--json", "--out", str(tmp_path), *TINY]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == results(tmp_path)


def test_the_same_seed_gives_the_same_numbers(tmp_path):
    runs = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        assert main(["--kinds", "stock", "--seed", "3", "--out", str(folder), *TINY]) == 0
        (one,) = results(folder)["results"]
        runs.append((one["auc"], one["log_loss"], one["windows"]))
    assert runs[0] == runs[1]


def test_criteo_with_bad_lines(tmp_path, capsys):
    lines = [criteo_line((i % 3 == 0 and 1) or 0, i % 7, f"{i % 5:08x}") for i in range(900)]
    lines[10] = "broken"
    log = tmp_path / "train.txt"
    log.write_text("\n".join(lines))
    out = tmp_path / "out"
    options = ["--kinds", "stock", "--batch", "64", "--window", "128", "--out", str(out)]
    assert main(["--data", str(log), *options]) == 0
    content = check_finished(out, ["stock"], 899)
    assert content["log"]["set_aside"] == {"not 40 columns": 1}
    assert "set aside: 1 of 900 lines: not 40 columns (first: train.txt:11)" in (
        capsys.readouterr().out
    )


@pytest.mark.skipif(not MOVIELENS.exists(), reason=f"{MOVIELENS} (TACO_MOVIELENS) is not there")
def test_movielens_for_real(tmp_path):
    options = ["--rows", "20000", "--dim", "8", "--batch", "256", "--window", "2048"]
    assert main(["--data", str(MOVIELENS), "--out", str(tmp_path), *options]) == 0
    content = check_finished(tmp_path, ["taco", "stock"], 20_000)
    assert content["log"]["set_aside"] == {}
    assert all(one["auc_second_half"] > 0.52 for one in content["results"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "nowhere"], ["nowhere: no such file", "remedy:"]),
        (["--kinds", "stock,magic"], ["stock,magic", "choose among taco,stock,exact"]),
        (["--batch", "64", "--window", "32"], ["--window 32 is below --batch 64"]),
        (["--rows", "1"], ["--rows 1 is below two windows", "--rows of 8192 or more"]),
        (["--rows", "50", "--window", "26", "--batch", "8"], ["--rows of 52 or more"]),
        (["--out", "/dev/null/x"], ["/dev/null/x", "choose another --out"]),
    ],
)
def test_mistakes_end_with_code_2_cause_and_remedy(tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    assert main(options) == 2
    captured = capsys.readouterr()
    assert all(word in captured.err for word in words)
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("option", "values", "allowed"),
    [
        ("--learning-rate", ["nan", "-1", "0", "inf", "11", "x"], "above 0, up to 10"),
        ("--dim", ["0", "4096", "x"], "from 1 to 4095"),
        ("--rows", ["0", "-5", "1.5"], "from 1 to"),
        ("--seed", ["-1", "x"], "from 0 to"),
        *((name, ["0", "x"], "from 1 to") for name in ("--epochs", "--batch", "--window")),
        ("--buckets", ["0"], "from 1 to"),
    ],
)
def test_impossible_options_name_what_is_allowed(capsys, option, values, allowed):
    for value in values:
        with pytest.raises(SystemExit) as caught:
            main([f"{option}={value}"])
        assert caught.value.code == 2
        shown = capsys.readouterr().err
        assert f"argument {option}: {value} is no" in shown and allowed in shown


@pytest.mark.parametrize(
    ("clicks", "cause"),
    [
        ([0, 1] * 63, "126 examples are fewer than two windows of 64"),
        ([0] * 128, "all 128 labels are 0"),
        ([1] * 128, "all 128 labels are 1"),
    ],
)
def test_logs_without_a_meaningful_auc_end_with_code_2(tmp_path, capsys, clicks, cause):
    log = tmp_path / "train.txt"
    log.write_text("\n".join(criteo_line(label, i % 7, "0a") for i, label in enumerate(clicks)))
    options = ["--batch", "64", "--window", "64", "--out", str(tmp_path / "out")]
    assert main(["--data", str(log), *options]) == 2
    captured = capsys.readouterr()
    assert cause in captured.err and "remedy:" in captured.err


def test_windows_of_one_label_are_not_compared(tmp_path, capsys):
    log = tmp_path / "train.txt"
    clicks = [0] * 64 + [1] * 64
    log.write_text("\n".join(criteo_line(label, i % 7, "0a") for i, label in enumerate(clicks)))
    options = ["--batch", "64", "--window", "64", "--out", str(tmp_path / "out")]
    assert main(["--data", str(log), *options]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "fewer than two windows have both labels" in shown
    assert "nan" not in shown and " none " in shown  # the AUC of the second half


def test_an_empty_file_ends_with_code_2(tmp_path, capsys):
    (tmp_path / "train.txt").touch()
    assert main(["--data", str(tmp_path / "train.txt"), "--out", str(tmp_path)]) == 2
    assert "empty file" in capsys.readouterr().err


def run_python(code, **environment):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)


def test_a_missing_library_ends_with_code_2_and_a_remedy(tmp_path):
    code = f"from taco.demo import main; exit(main(['--rows', '9000', '--out', {str(tmp_path)!r}]))"
    done = run_python(code, TACO_TF_LIBRARY=str(tmp_path / "none.so"))
    assert done.returncode == 2, done.stderr
    assert "cannot be loaded" in done.stderr and "make build" in done.stderr


def test_importing_the_demo_imports_no_framework():
    done = run_python(
        "import sys, taco.demo; "
        "exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'matplotlib')))"
    )
    assert done.returncode == 0
