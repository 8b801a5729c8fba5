"""What is shown: the paired difference, JSON without NaN, progress with and without a terminal."""

import io
import json
import math

import numpy as np
import pytest
from rich.console import Console
from taco.demo.embedding import Memory
from taco.demo.plot import save_plot
from taco.demo.progress import Reporter
from taco.demo.report import difference, table, to_json
from taco.demo.runner import Result, RunConfig
from taco.demo.sources.synthetic import ClickStreamConfig, ClickStreamSource
from taco.demo.survey import Survey


def result(kind, aucs, sizes=None):
    made = Result(kind, memory=Memory(10, 2040))
    labels = np.array([0.0, 1.0], np.float32)
    made.metrics.update(labels, np.array([0.1, 0.2]))
    made.aucs, made.losses = list(aucs), [0.5] * len(aucs)
    made.ends = np.cumsum(sizes or [100] * len(aucs)).tolist()
    return made


def test_difference_pairs_the_windows():
    gaps = np.array([0.01, 0.03, 0.02])
    ours, stock = result("taco", 0.6 + gaps), result("stock", [0.6] * 3)
    mean, error = difference(ours, stock)
    assert mean == pytest.approx(0.02) and error == pytest.approx(0.01 / math.sqrt(3))


def test_difference_leaves_out_the_short_last_window_and_windows_of_one_class():
    sizes = [100, 100, 100, 7]
    ours = result("taco", [0.7, math.nan, 0.8, 0.1], sizes)
    assert ours.whole == 3
    assert difference(ours, result("stock", [0.6, math.nan, 0.6, 0.9], sizes))[0] == pytest.approx(
        0.15
    )
    assert all(math.isnan(value) for value in difference(result("taco", [1]), result("stock", [1])))


def test_json_has_no_nan_and_knows_the_settings():
    source = ClickStreamSource(ClickStreamConfig(rows=10))
    found = Survey(4, 3, 0.5, None)
    runs = [result("taco", [math.nan, 0.5]), result("stock", [0.5, 0.5])]
    content = to_json(source, RunConfig(), found, runs)
    text = json.dumps(content, allow_nan=False)
    assert json.loads(text)["results"][0]["windows"]["auc"] == [None, 0.5]
    assert content["config"]["learning_rate"] == RunConfig().learning_rate


def test_the_table_fits_80_columns():
    console = Console(file=io.StringIO(), width=80)
    runs = [result(kind, [0.5, 0.6]) for kind in ("taco", "stock", "exact")]
    for run in runs:
        run.memory = Memory(1_234_567, 3 << 30)
    console.print(table(Survey(4, 3, 0.5, result("ceiling", [0.8, 0.8])), runs))
    lines = console.file.getvalue().splitlines()
    for words in ("TACO table", "hashed buckets", "a row an id", "difference", "ceiling"):
        assert sum(words in line for line in lines) == 1
    assert not any("…" in line for line in lines)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_speed_and_auc(terminal):
    out = io.StringIO()
    reporter = Reporter(Console(file=out, force_terminal=terminal, width=120))
    done = result("stock", [0.5, 0.6])
    done.seconds, done.timed_samples = 2.0, 5000
    with reporter.training("stock", total=2) as update:
        update(done)
    assert "2,500 samples/s, AUC 1.0000" in out.getvalue()
    assert ("\x1b" in out.getvalue()) == terminal


def test_silence_where_there_is_no_console(capsys):
    reporter = Reporter(None)
    reporter.note("nothing")
    with reporter.training("stock", total=2) as update:
        update(result("stock", [0.5]))
    assert capsys.readouterr() == ("", "")


def test_the_plot_is_a_png_even_of_one_window(tmp_path):
    path = tmp_path / "new" / "auc.png"
    runs = [result("taco", [0.5]), result("stock", [math.nan])]
    save_plot(path, "log", runs, result("ceiling", [0.8]))
    assert path.read_bytes().startswith(b"\x89PNG")
