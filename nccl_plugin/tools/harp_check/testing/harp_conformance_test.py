"""libnccl-net-harp.so keeps NCCL's rules in every version, over the loopback's real sockets."""

import os
import pathlib
import subprocess

import pytest

PROGRAM = pathlib.Path("nccl_plugin/tools/harp_check/harp-check")
PLUGIN = pathlib.Path("nccl_plugin/libnccl-net-harp.so")


def check(versions, **variables):
    """Runs harp-check on the plugin and expects that every case passes."""
    run = subprocess.run(
        [PROGRAM, "--versions", versions, PLUGIN],
        env={**os.environ, "HARP_IFACE": "=lo", **variables},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " 0 failed" in run.stdout.splitlines()[-1]


@pytest.mark.parametrize("paths", ["1", "8"])
def test_every_case_of_every_version_passes(paths):
    check("6,7,8,9,10,11,12", HARP_PATHS=paths)


@pytest.mark.parametrize("version", ["9", "12"])
def test_every_case_passes_over_a_network_that_loses_doubles_and_changes_packets(version):
    check(version, HARP_FAULTS="loss=0.03,duplicate=0.03,corrupt=0.03")


@pytest.mark.parametrize("engines", ["1", "2"])
def test_every_case_passes_with_threads_that_poll(engines):
    check("8,12", HARP_ENGINES=engines)


@pytest.mark.parametrize("faults", ["", "loss=0.02,duplicate=0.02,corrupt=0.02"])
def test_every_case_passes_encrypted(faults):
    check("12", HARP_KEY="8f" * 32, HARP_FAULTS=faults)


def test_a_key_that_cannot_be_had_means_no_connection():
    run = subprocess.run(
        [PROGRAM, "--versions", "12", "--only", "sizes", PLUGIN],
        env={**os.environ, "HARP_IFACE": "=lo", "HARP_KEY_FILE": "/nowhere/key"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert "HARP_KEY_FILE=/nowhere/key cannot be read" in run.stdout


def test_its_soname_is_the_one_that_nccl_looks_for_and_it_is_never_unmapped():
    dynamic = subprocess.run(
        ["readelf", "-d", PLUGIN], check=True, capture_output=True, text=True
    ).stdout
    assert "[libnccl-net.so]" in dynamic
    assert "NODELETE" in dynamic


def test_it_exports_the_tables_of_calls_and_what_harp_perf_reads():
    symbols = subprocess.run(
        ["nm", "--dynamic", "--defined-only", PLUGIN], check=True, capture_output=True, text=True
    ).stdout
    names = sorted(line.split()[-1] for line in symbols.splitlines())
    tables = [f"ncclNetPlugin_v{version}" for version in range(6, 13)]
    assert names == sorted([*tables, "taco_harp_counters"])
