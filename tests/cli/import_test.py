"""`import taco` is cheap: it imports no framework and takes less than 50 ms."""

import json
import statistics

import pytest

LIMIT_MS = 50
FRAMEWORKS = ("tensorflow", "torch", "keras", "numpy", "rich", "matplotlib")


def test_import_brings_no_framework(python):
    done = python("-c", "import taco, sys, json; print(json.dumps(sorted(sys.modules)))")
    assert done.returncode == 0, done.stderr
    imported = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert imported.isdisjoint(FRAMEWORKS)


def test_import_takes_less_than_50_ms(python):
    def milliseconds():
        done = python("-X", "importtime", "-c", "import taco")
        assert done.returncode == 0, done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.split("|")[-1] == " taco"]
        return int(line.split("|")[1]) / 1000

    assert statistics.median(milliseconds() for _ in range(7)) < LIMIT_MS


@pytest.mark.parametrize(
    "statement",
    [
        "taco.library_path",
        "from taco import _loader, _tunables",
        "taco.cli",
        "taco.demo",
        "from taco.cli import commands; commands.run(['--help'])",
    ],
)
def test_only_what_needs_a_framework_imports_it(python, statement):
    code = f"import taco; {statement}; import sys; print('tensorflow' in sys.modules)"
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"


def test_submodules_come_at_first_use(python):
    code = """
import sys, taco
assert "taco.demo" not in sys.modules and {"tf", "demo", "cli"} <= set(dir(taco))
assert taco.demo is sys.modules["taco.demo"]
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


def test_unknown_attribute_is_an_attribute_error():
    import taco

    with pytest.raises(AttributeError, match="'taco' has no attribute 'nonsense'"):
        _ = taco.nonsense
    assert not hasattr(taco, "nonsense")


def test_version_is_one_and_the_same(run_taco):
    import taco

    assert run_taco("--version").stdout == f"taco {taco.__version__}\n"
