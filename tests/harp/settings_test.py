"""What `taco doctor` says of HARP's variables is what the plugin takes."""

import os
import pathlib
import re
import subprocess

import pytest
from taco import _tunables
from taco.harp._settings import VARIABLES

CHECK = pathlib.Path("nccl_plugin/tools/harp_check/harp-check")
PLUGIN = pathlib.Path("nccl_plugin/libnccl-net-harp.so")


def log_of(**variables):
    """What the plugin logs when it begins."""
    environment = {name: value for name, value in os.environ.items() if "HARP_" not in name}
    run = subprocess.run(
        [CHECK, "--versions", "12", "--only", "table", PLUGIN],
        env={**environment, "HARP_CHECK_VERBOSE": "1", "HARP_IFACE": "=lo", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return run.stdout + run.stderr


def test_names_and_defaults_are_the_plugins():
    (settings,) = set(re.findall(r"HARP over UDP on lo .*?; (.*)", log_of()))
    read = dict(part.split("=", 1) for part in settings.split())
    assert read.pop("HARP_IFACE") == "=lo"
    listed = {each.env: each.default or "" for each in VARIABLES}
    # What is said of these only where they are set.
    for quiet in ("HARP_KEY", "HARP_KEY_FILE", "HARP_FAULTS", "HARP_IFACE"):
        assert listed.pop(quiet) == ""
    # And of these only with HARP_IO=afxdp and dpdk.
    for name in [name for name in listed if name.startswith(("HARP_DPDK_", "HARP_HELPER"))]:
        del listed[name]
    assert read == listed


@pytest.mark.parametrize(
    "name, value",
    [
        ("HARP_IO", "rdma"),
        ("HARP_DPDK_MTU", "60001"),
        ("HARP_DPDK_ZERO_COPY", "2"),
        ("HARP_PATHS", "65"),
        ("HARP_PATHS", "0"),
        ("HARP_ENGINES", "65"),
        ("HARP_ENGINES", "-1"),
        ("HARP_DEAD_SECONDS", "0"),
        ("HARP_CONNECT_SECONDS", "x"),
        ("HARP_CHECKSUM", "2"),
        ("HARP_SEGMENTATION", "yes"),
        ("HARP_CONGESTION", "reno"),
        ("HARP_QUEUE_US", "0.5"),
        ("HARP_CREDIT_BYTES", "-1"),
        ("HARP_SOCKET_BYTES", "65535"),
        ("HARP_STATS_SECONDS", "0"),
        ("HARP_KEY", "secret"),
        ("HARP_KEY_FILE", "/nowhere/key"),
    ],
)
def test_what_one_refuses_so_does_the_other(name, value):
    (reading,) = [r for r in _tunables.read({name: value}).values() if r.error]
    assert reading.tunable.env == name
    # The plugin names the variable, and the value unless it is a secret.
    said = name if name == "HARP_KEY" else f"{name}={value}"
    log = log_of(**{name: value})
    assert re.search(rf"{re.escape(said)}\b.* (is|holds|cannot)", log), log
