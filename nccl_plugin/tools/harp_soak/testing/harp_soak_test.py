"""harp-soak: HARP at work on a bad network; and that a plugin with faults does not get through."""

import json
import os
import pathlib
import subprocess

import pytest

PROGRAM = pathlib.Path("nccl_plugin/tools/harp_soak/harp-soak")
HARP = pathlib.Path("nccl_plugin/libnccl-net-harp.so")
REFERENCE = pathlib.Path("nccl_plugin/tools/harp_check/testing/libnccl-net-reference.so")
# Half an hour where `make soak` has its ten minutes for each test.
SECONDS = 3 * float(os.environ.get("TACO_SOAK_SECONDS", "5"))


def soak(plugin, seconds, *words, **environment):
    """A run of the program: what came of it."""
    return subprocess.run(
        [PROGRAM, plugin, "--minutes", str(seconds / 60), *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 400,
    )


def test_nothing_is_wrong_and_nothing_is_left_behind(tmp_path):
    file = tmp_path / "soak.json"
    shift = max(4.0, min(20.0, SECONDS / 3))
    done = soak(HARP, SECONDS, "--shift", str(shift), "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    sums = json.loads(file.read_text())
    assert sums["failed"] == 0 and sums["shifts"] >= 2
    assert sums["messages"] > 100 and sums["bytes"] > 1e6
    assert "ok      the long shift" in done.stdout


@pytest.mark.parametrize(("fault", "cause"), [
    ("corrupt", "is not what was sent"),
    ("leak-fd", "more file descriptors"),
    ("crash-on-close", "signal 11"),
])  # fmt: skip
def test_a_plugin_with_a_fault_fails(fault, cause):
    done = soak(REFERENCE, 3, "--shift", "3", REFERENCE_FAULT=fault)
    assert done.returncode == 1, done.stdout + done.stderr
    assert cause in done.stdout


@pytest.mark.parametrize(("words", "why"), [
    (["absent.so"], "cannot be read"),
    ([str(HARP), "--minutes", "soon"], "--minutes wants a number"),
    ([str(HARP), "--days", "1"], "no option --days"),
    ([str(HARP), "--seed"], "wants a value"),
])  # fmt: skip
def test_what_cannot_run_says_why(words, why):
    done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert why in done.stderr
