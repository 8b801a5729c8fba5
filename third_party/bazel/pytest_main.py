"""Runs one pytest file as a Bazel test: the main of every taco_py_test."""

import os
import pathlib
import sys

import pytest


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
    return pytest.main([str(test_file.absolute()), *options, *args[1:]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
