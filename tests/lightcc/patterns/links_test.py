"""Links of the benchmarks: as fast as asked, counted, and gone afterwards."""

import subprocess
import sys

import pytest

from benchmarks.lightcc.links import Links, LinksUnavailable

SERVER = """
import socket, sys, time
with socket.create_server((sys.argv[1], 5000)) as server:
    print("listens", flush=True)
    connection, _ = server.accept()
    start, count, buffer = time.perf_counter(), 0, bytearray(1 << 20)
    while got := connection.recv_into(buffer):
        count += got
    print(count / (time.perf_counter() - start))
"""
CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], 5000)) as connection:
    connection.sendall(bytes(int(sys.argv[2])))
"""


@pytest.fixture(name="links", params=[2, 3])
def _links(request: pytest.FixtureRequest):
    try:
        with Links(request.param, mbits=100) as links:
            yield links
    except LinksUnavailable as error:
        pytest.skip(str(error))


def test_the_rate_holds_and_bytes_are_counted(links: Links) -> None:
    last, size = links.machines - 1, 10_000_000
    command = [sys.executable, "-c", SERVER, links.address(0)]
    server = links.popen(0, command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None and server.stdout.readline() == "listens\n"
    before = links.counters(last)
    client = links.popen(last, [sys.executable, "-c", CLIENT, links.address(0), str(size)])
    assert client.wait(30) == 0
    rate = float(server.communicate(timeout=30)[0])
    assert rate < 1.05 * 12.5e6
    assert size <= links.counters(last).sent - before.sent < 1.1 * size


def test_round_trips_take_what_was_asked_for(links: Links) -> None:
    assert 100 < links.delay_us < 2000  # 200 asked for, and what a busy machine adds


def test_nothing_is_left_behind() -> None:
    try:
        with Links(2, mbits=100) as links:
            child = links.popen(0, ["sleep", "60"])
            name = links._name(0)
            assert (
                name in subprocess.run(["ls", "/run/netns"], capture_output=True, text=True).stdout
            )
    except LinksUnavailable as error:
        pytest.skip(str(error))
    assert child.poll() is not None
    assert name not in subprocess.run(["ls", "/run/netns"], capture_output=True, text=True).stdout


def test_a_terminated_program_leaves_nothing_behind() -> None:
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "from benchmarks.lightcc.links import Links, LinksUnavailable\n"
        "try:\n"
        "    with Links(2) as links:\n"
        "        print(links._name(0), flush=True)\n"
        "        sys.stdin.read()\n"
        "except LinksUnavailable as error:\n"
        "    print('unavailable', error, flush=True)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        name = child.stdout.readline().strip()
        if name.startswith("unavailable"):
            pytest.skip(name)
        child.terminate()
    assert child.returncode == 143
    assert name not in subprocess.run(["ls", "/run/netns"], capture_output=True, text=True).stdout


def test_says_why_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.lightcc.links._TC", "")
    with pytest.raises(LinksUnavailable, match="iproute2"), Links(2):
        pass
