"""harp-perf between two processes on the loopback; what the plugin does when one of them dies."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest

PROGRAM = pathlib.Path("nccl_plugin/tools/harp_perf/harp-perf")
PLUGIN = pathlib.Path("nccl_plugin/libnccl-net-harp.so")
SHORT = ["--rounds", "1", "--seconds", "0.05", "--pings", "100", "--sizes", "8,100000"]
COSTS = ["processor", "cycles_byte", "calls_mib", "user_copies", "kernel_copies"]


def free_port():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


@contextlib.contextmanager
def pair(*client_words, **variables):
    """The two processes; they are killed in the end."""
    environment = {**os.environ, "HARP_IFACE": "=lo", "HARP_PATHS": "4", **variables}
    address = f"127.0.0.1:{free_port()}"
    options = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    server = subprocess.Popen([PROGRAM, "--listen", address], text=True, **options)
    client = subprocess.Popen([PROGRAM, "--connect", address, *client_words], text=True, **options)
    try:
        yield server, client
    finally:
        for each in (server, client):
            each.kill()
            each.communicate()


@pytest.mark.parametrize("kind", ["tcp", "tcp4", str(PLUGIN), f"HARP_PATHS=1 {PLUGIN}"])
def test_it_measures_streams_and_round_trips(kind):
    with pair("--io", kind, "--json", *SHORT) as (server, client):
        out, err = client.communicate(timeout=60)
        assert client.returncode == 0, err
        assert server.wait(timeout=10) == 0
    measured = [json.loads(line) for line in out.splitlines()]
    assert [(each["what"], each["bytes"]) for each in measured] == [
        ("stream", 8),
        ("stream", 100000),
        ("ping", 8),
    ]
    assert {each["io"] for each in measured} == {kind}
    for each in measured:
        numbers = [value for value in each.values() if isinstance(value, int | float)]
        assert numbers and min(numbers) >= 0
    ping = measured[2]
    assert ping["p50_us"] <= ping["p99_us"] <= ping["p999_us"]
    # What the machine alone makes of so long a time is no less than that.
    assert 0.9 * ping["p50_us"] <= ping["machine_p50_us"] <= ping["machine_p999_us"]
    bounds = [bound for bound, _ in ping["histogram"]]
    assert bounds == sorted(bounds) and sum(count for _, count in ping["histogram"]) == 100
    assert ping["p50_us"] <= bounds[-1]
    for side in ("sender", "receiver"):
        cost = {name: measured[1][f"{side}_{name}"] for name in COSTS}
        assert min(cost["processor"], cost["cycles_byte"], cost["calls_mib"]) > 0
        # Over sockets the kernel copies once a side, packets' heads and those sent again included.
        # HARP copies once where it receives.
        assert 1.0 <= cost["kernel_copies"] < 1.5
        assert cost["user_copies"] == (1.0 if "harp" in kind and side == "receiver" else 0.0)


def test_words_say_the_same_as_json():
    with pair("--io", "tcp", "--histogram", *SHORT) as (_, client):
        out, err = client.communicate(timeout=60)
        assert client.returncode == 0, err
    assert "tcp, stream of 100000 bytes:" in out and "tcp, ping of 8 bytes:" in out
    for words in (
        "Gb/s",
        "cycles a byte",
        "system calls a MiB",
        "times by the kernel",
        "us (p99.9)",
        "a loop that reads the clock for as long",
        " us          ",
    ):
        assert words in out


def test_a_plugin_that_counts_nothing_is_measured_all_the_same(tmp_path):
    plain = tmp_path / PLUGIN.name
    # As if it were somebody else's, who has no such symbol.
    plain.write_bytes(PLUGIN.read_bytes().replace(b"taco_harp_counters", b"taco_harp_c0unters"))
    with pair("--io", str(plain), "--json", *SHORT) as (_, client):
        out, err = client.communicate(timeout=60)
        assert client.returncode == 0, err
    measured = [json.loads(line) for line in out.splitlines()]
    assert "sender_cycles_byte" in measured[0] and "sender_calls_mib" not in measured[0]


@pytest.mark.parametrize("dies", ["server", "client"])
def test_a_peer_that_is_killed_is_an_error_that_names_it(dies):
    words = ["--io", str(PLUGIN), "--sizes", "1000000", "--seconds", "60", "--pings", "0"]
    with pair(*words, HARP_DEAD_SECONDS="1") as processes:
        time.sleep(2.0)
        killed, other = processes if dies == "server" else processes[::-1]
        assert killed.poll() is None and other.poll() is None
        begin = time.monotonic()
        killed.send_signal(signal.SIGKILL)
        _, err = other.communicate(timeout=30)
        assert other.returncode == 1
        assert "is lost: nothing was heard" in err
        assert "127.0.0.1:" in err
        assert time.monotonic() - begin < 15


def test_a_peer_that_is_stopped_for_a_while_is_waited_for():
    words = ["--io", str(PLUGIN), "--sizes", "1000000", "--seconds", "3", "--pings", "0"]
    with pair(*words, "--rounds", "1") as (server, client):
        time.sleep(1.5)
        server.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        server.send_signal(signal.SIGCONT)
        _, err = client.communicate(timeout=60)
        assert client.returncode == 0, err


def test_wrong_words_are_named():
    for words, said in [
        ([], "--listen or --connect"),
        (["--connect", "nowhere", "--io", "tcp"], "nowhere is no ADDRESS:PORT"),
        (["--connect", "127.0.0.1:9", "--sideways", "1"], "no option --sideways"),
    ]:
        run = subprocess.run(
            [PROGRAM, *words], capture_output=True, text=True, timeout=30, check=False
        )
        assert run.returncode != 0
        assert said in run.stderr


@pytest.mark.parametrize("paths", ["1", "8"])
def test_all_messages_arrive_over_a_bad_network(paths):
    faults = "loss=0.03,duplicate=0.02,corrupt=0.02"
    words = ["--io", str(PLUGIN), "--sizes", "8,3000,1000000", "--seconds", "0.5", "--rounds", "1"]
    words += ["--json", "--pings", "500"]
    with pair(*words, HARP_FAULTS=faults, HARP_PATHS=paths) as (server, client):
        out, err = client.communicate(timeout=100)
        assert client.returncode == 0, err
        assert server.wait(timeout=10) == 0
    assert len(out.splitlines()) == 4
