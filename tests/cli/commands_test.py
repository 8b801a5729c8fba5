"""The `taco` command: help, versions, wrong usage, and handing over."""

import pytest
import taco
from taco.cli import bench, commands


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_shows_examples(arguments, capsys):
    assert commands.run(arguments) == 0
    said = capsys.readouterr().out
    for part in ("doctor", "run", "demo", "bench", "examples:", "taco doctor --json"):
        assert part in said


def test_version(capsys):
    assert commands.run(["--version"]) == 0
    assert capsys.readouterr().out == f"taco {taco.__version__}\n"


@pytest.mark.parametrize(
    ("typed", "meant"), [("docter", "doctor"), ("Demo", "demo"), ("benchmark", "bench")]
)
def test_a_mistyped_command_is_guessed(typed, meant, capsys):
    assert commands.run([typed]) == 2
    assert f"Did you mean `taco {meant}`?" in capsys.readouterr().err


def test_a_strange_command_gets_the_list(capsys):
    assert commands.run(["xyzzy"]) == 2
    assert "There are doctor, run, demo, bench, harp." in capsys.readouterr().err


def test_a_strange_option_is_wrong_usage(capsys):
    assert commands.run(["--verbose"]) == 2
    assert "--verbose" in capsys.readouterr().err


def test_doctor_has_help_of_its_own(capsys):
    assert commands.run(["doctor", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--json" in said
    assert "exit codes" in said


def test_demo_gets_its_arguments_and_gives_its_exit_code(monkeypatch):
    got = []
    monkeypatch.setattr(taco.demo, "main", lambda argv: got.extend(argv) or 5)
    assert commands.run(["demo", "--data", "clicks.csv", "--help"]) == 5
    assert got == ["--data", "clicks.csv", "--help"]


def test_run_has_help_of_its_own_and_gets_its_arguments(capsys, monkeypatch):
    assert commands.run(["run", "--help"]) == 0
    said = capsys.readouterr().out
    for part in ("-np", "--hostfile", "--timeline", "--min-np", "--shim", "examples:"):
        assert part in said
    from taco.lightcc.run import launcher

    got = []
    monkeypatch.setattr(launcher, "main", lambda argv: got.extend(argv) or 7)
    assert commands.run(["run", "-np", "2", "train.py", "--help"]) == 7
    assert got == ["-np", "2", "train.py", "--help"]


def test_an_interrupt_ends_quietly(monkeypatch):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(taco.demo, "main", interrupted)
    assert commands.run(["demo"]) == 130


def test_bench_outside_the_source_tree_says_how(tmp_path, capsys):
    assert bench.main([], source_tree=tmp_path) == 1
    assert "make bench" in capsys.readouterr().err


def test_bench_in_a_source_tree_hands_over(tmp_path):
    package = tmp_path / "benchmarks" / "embedding"
    package.mkdir(parents=True)
    (package / "__main__.py").write_text("import sys, taco; sys.exit(len(sys.argv))")
    (tmp_path / "python").symlink_to(next(p for p in taco.__path__).rpartition("/")[0])
    assert bench.main(["--one", "two"], source_tree=tmp_path) == 3
    assert bench.main(["embedding", "--one"], source_tree=tmp_path) == 2
    package.rename(tmp_path / "benchmarks" / "harp")
    assert bench.main(["harp", "--one", "two", "3"], source_tree=tmp_path) == 4


def test_bench_names_the_parts_that_there_are(capsys):
    assert bench.main(["herp"]) == 2
    assert "one of embedding, lightcc, harp" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error(python):
    code = """
import subprocess, sys
p = subprocess.Popen([sys.executable, "-m", "taco.cli"], stdout=subprocess.PIPE,
                     stderr=subprocess.PIPE)
p.stdout.close()
print(p.wait(), p.stderr.read().decode())
"""
    assert python("-c", code).stdout.strip() == "0"


def test_module_can_be_run(python):
    assert python("-m", "taco.cli", "--version").stdout == f"taco {taco.__version__}\n"
