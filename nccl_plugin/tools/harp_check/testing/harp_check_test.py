"""harp-check passes a plugin that is right, and names each fault of one that is not."""

import json
import os
import pathlib
import re
import subprocess

import pytest

HERE = pathlib.Path("nccl_plugin/tools/harp_check")
PROGRAM = HERE / "harp-check"
PLUGIN = HERE / "testing/libnccl-net-reference.so"
VERSIONS = [6, 7, 8, 9, 10, 11, 12]

# REFERENCE_FAULT, the case that finds it, how that ends, and what is said.
FAULTS = [
    ("init-fails", "table", "failed", r"init gave ncclSystemError"),
    ("unset", "properties", "failed", r"leaves maxRecvs as it was"),
    ("no-speed", "properties", "failed", r"speed is 0"),
    ("any-device", "no-such-device", "failed", r"getProperties\(1\) succeeds"),
    ("handle", "handle", "failed", r"byte 128 of a handle of 128"),
    ("block-connect", "connect", "failed", r"a connect took \d+ ms"),
    ("block-accept", "connect", "failed", r"an accept \d{4}"),
    ("corrupt", "sizes", "failed", r"byte 4096 is not what was sent"),
    ("early-done", "sizes", "failed", r"test gave done, and byte \d+ is not"),
    ("drop-empty", "empty", "failed", r"receiver: test gave ncclRemoteError"),
    ("never-done", "empty", "hung", r"has not ended"),
    ("short-size", "short", "failed", r"size (\d+), \d+ bytes were sent into a buffer of \1$"),
    ("overrun", "sizes", "failed", r"a byte 0 after its buffer"),
    ("underrun", "sizes", "failed", r"a byte 1 before its buffer"),
    ("reorder", "order", "failed", r"is not what was sent"),
    ("wrong-tag", "multi-receive", "failed", r"receiver: message \d+"),
    ("optional", "optional", "failed", r"\(void\*\)1 in place of a request"),
    ("null-sizes", "null-sizes", "crashed", r"signal 11"),
    ("flush", "flush", "failed", r"iflush gave ncclInternalError"),
    ("crash-on-close", "close-receiver", "crashed", r"signal 11"),
    ("hang-on-close", "close-sender", "hung", r"has not ended"),
    ("done-unsent", "send-then-close", "failed", r"receiver: test gave ncclRemoteError"),
    ("no-join", "reload", "crashed", r"signal 11"),
    ("leak-fd", "leaks", "failed", r"file descriptors after 50 connections"),
    ("leak-thread", "leaks", "failed", r"threads after 50 connections"),
    ("signal", "signals", "failed", r"handler of signal 13"),
]


def harp_check(*arguments, fault="", status=0):
    """Runs it, expects the exit status, and gives what it prints and its JSON."""
    result = pathlib.Path(os.environ.get("TEST_TMPDIR", "/tmp")) / f"harp_check_{os.getpid()}.json"
    run = subprocess.run(
        [PROGRAM, "--json", result, *arguments],
        env={**os.environ, "REFERENCE_FAULT": fault},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == status, run.stdout + run.stderr
    return run.stdout, json.loads(result.read_text()) if result.exists() else None


def test_a_plugin_that_is_right_passes_every_case_in_every_version():
    text, result = harp_check(PLUGIN)
    assert (result["versions"], result["missing"], result["failed"]) == (VERSIONS, [], 0)
    assert result["warnings"] == []
    skipped = {
        (each["version"], each["case"]) for each in result["cases"] if each["result"] != "ok"
    }
    assert skipped == {(v, case) for v in (6, 7, 8) for case in ("optional", "virtual-device")}
    assert re.search(r"^v8 dev0 short ok \d+ ms$", text, re.MULTILINE)
    assert "v6 'reference', 1 devices, lacks regMrDmaBuf" in text


def test_a_plugin_may_say_not_yet(monkeypatch):
    monkeypatch.setenv("REFERENCE_SHY", "1")
    _, result = harp_check(PLUGIN, "--versions", "6,12")
    assert result["failed"] == 0


@pytest.mark.parametrize(("fault", "case", "verdict", "cause"), FAULTS, ids=[f[0] for f in FAULTS])
def test_a_fault_is_found(fault, case, verdict, cause):
    arguments = ["--versions", "9", "--only", case, "--seconds", "1" if verdict == "hung" else "10"]
    text, result = harp_check(PLUGIN, *arguments, fault=fault, status=1)
    found = result["cases"][-1]
    assert found["case"] == ("init" if fault == "init-fails" else case)
    assert found["result"] == verdict
    assert re.search(cause, found["cause"])
    assert f" {verdict.upper()} " in text


@pytest.mark.parametrize("version", VERSIONS)
def test_a_fault_is_found_in_every_version(version):
    arguments = ["--versions", str(version), "--only", "short,order"]
    _, result = harp_check(PLUGIN, *arguments, fault="short-size", status=1)
    assert [each["result"] for each in result["cases"]] == ["ok", "failed", "ok"]


def test_a_hang_tells_where_each_side_was():
    arguments = ["--versions", "12", "--only", "empty,order", "--seconds", "1"]
    text, result = harp_check(PLUGIN, *arguments, fault="never-done", status=1)
    assert re.search(r"^    receiver: 8 of 8 posted, \d done; in ", text, re.MULTILINE)
    assert [each["result"] for each in result["cases"]] == ["ok", "hung", "ok"]


def test_every_device_is_driven_unless_one_is_chosen(monkeypatch):
    monkeypatch.setenv("REFERENCE_DEVICES", "3")
    arguments = ["--versions", "10", "--only", "sizes,no-such-device"]
    _, result = harp_check(PLUGIN, *arguments)
    assert [each["device"] for each in result["cases"]] == [-1, 0, 0, 1, 1, 2, 2]
    _, result = harp_check(PLUGIN, *arguments, "--device", "2")
    assert [each["device"] for each in result["cases"]] == [-1, 2, 2]
    harp_check(PLUGIN, *arguments, "--device", "3", status=1)


def test_a_device_connects_to_another_one(monkeypatch):
    monkeypatch.setenv("REFERENCE_DEVICES", "2")
    arguments = ["--versions", "10", "--only", "sizes,connect,init-again", "--device", "0"]
    _, result = harp_check(PLUGIN, *arguments, "--to", "1")
    assert [each["result"] for each in result["cases"]] == ["ok"] * 4
    text, _ = harp_check(PLUGIN, *arguments, "--to", "2", status=1)
    assert "there is no device 2 to connect to" in text


def test_a_crash_tells_in_which_call():
    text, _ = harp_check(
        PLUGIN, "--versions", "12", "--only", "close-receiver", fault="crash-on-close", status=1
    )
    assert "in closeRecv" in text


def test_exported_symbols_are_warned_of():
    plugin = HERE / "testing/libnccl-net-exports-all.so"
    text, result = harp_check(plugin, "--versions", "8", "--only", "table")
    assert "symbols may clash" in text
    assert len(result["warnings"]) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing.so"],
        [PROGRAM],
        [PLUGIN, "--versions", "5"],
        [PLUGIN, "--only", "nothing"],
        [PLUGIN, "--nothing", "1"],
        [PLUGIN, "--seconds"],
    ],
    ids=str,
)
def test_what_cannot_be_run_is_refused(arguments):
    harp_check(*arguments, status=2)


def test_list_names_every_case_that_finds_a_fault():
    text = subprocess.run([PROGRAM, "--list"], capture_output=True, text=True, check=True).stdout
    names = {line.split()[0] for line in text.splitlines()}
    assert {case for _, case, _, _ in FAULTS} <= names
