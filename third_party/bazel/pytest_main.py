"""Runs one pytest file as a Bazel test: the main of every taco_py_test."""

import os
import pathlib
import sys

import pytest


class Properties:
    """Makes Hypothesis try `factor` times as many examples in each of its tests.

    It also lets an example take as long as it takes: on a busy machine that says nothing.
    """

    def __init__(self, factor: int):
        self._factor = factor

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        # By identity: the parameters of one test share its function.
        tests = {id(each.obj): each.obj for each in items if hasattr(each, "obj")}
        for test in tests.values():
            test = getattr(test, "__func__", test)
            if not getattr(test, "is_hypothesis_test", False):
                continue
            import hypothesis

            # A profile would not do: what a test says of its examples outranks it.
            own = test._hypothesis_internal_use_settings
            test._hypothesis_internal_use_settings = hypothesis.settings(
                own, max_examples=own.max_examples * self._factor, deadline=None
            )


def soak_factor() -> int:
    """How many times more work than usual: `make soak` sets TACO_SOAK_SECONDS."""
    return 1 + int(os.environ.get("TACO_SOAK_SECONDS") or 0) // 10


def main(args: list[str]) -> int:
    test_file = pathlib.Path(args[0])
    if not test_file.is_file():
        raise SystemExit(f"{test_file}: no such file among the test's runfiles")
    # Helpers stand beside the test; this file's own folder is of no use to it.
    sys.path[0] = str(test_file.absolute().parent)
    options = [
        "--rootdir=.",
        "--import-mode=importlib",
        "-p",
        "no:cacheprovider",
        "-rfEs",
        "--durations=5",
    ]
    report = os.environ.get("XML_OUTPUT_FILE")
    if report:
        options.append(f"--junitxml={report}")
    only = os.environ.get("TESTBRIDGE_TEST_ONLY")  # bazel test --test_filter
    if only:
        options += ["-k", only]
    return pytest.main(
        [str(test_file.absolute()), *options, *args[1:]], plugins=[Properties(soak_factor())]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
