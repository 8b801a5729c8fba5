"""third_party/bazel/pytest_main.py: what it makes of a property test when the tests run long."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

PROPERTIES = """
import atexit, collections, time
import pytest
from hypothesis import given, settings, strategies

examples = collections.Counter()
atexit.register(lambda: print("examples", sorted(examples.items())))


@pytest.mark.parametrize("which", ["a", "b"])
@settings(max_examples=3, database=None)
@given(strategies.integers())
def test_of_few(which, number):
    examples[which] += 1


@given(strategies.integers())
@settings(max_examples=5, database=None)
def test_in_the_other_order(number):
    examples["c"] += 1


class TestMethods:
    @settings(max_examples=4, database=None)
    @given(strategies.integers())
    def test_method(self, number):
        examples["d"] += 1


@settings(max_examples=1, database=None)
@given(strategies.just(0.5))
def test_that_takes_long(seconds):
    time.sleep(seconds)


def test_without_examples():
    examples["e"] += 1
"""


@pytest.mark.parametrize(("seconds", "factor"), [(None, 1), ("0", 1), ("100", 11)])
def test_property_tests_try_more_examples_under_soak(tmp_path, seconds, factor):
    test = tmp_path / "some_test.py"
    test.write_text(PROPERTIES)
    environment = {k: v for k, v in os.environ.items() if k != "TACO_SOAK_SECONDS"}
    if seconds is not None:
        environment["TACO_SOAK_SECONDS"] = seconds
    main = ROOT / "third_party" / "bazel" / "pytest_main.py"
    result = subprocess.run(
        [sys.executable, main, test], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout
    counts = {"a": 3, "b": 3, "c": 5, "d": 4}
    expected = [*((name, count * factor) for name, count in counts.items()), ("e", 1)]
    assert f"examples {expected}" in result.stdout
