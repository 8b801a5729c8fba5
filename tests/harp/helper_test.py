"""harp-helper: AF_XDP for processes that have no privilege, and what it makes of whoever asks.

Over a veth pair between two network namespaces; root is needed to begin with.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

import pytest

from benchmarks.lightcc.links import INTERFACE

BUILT = {
    "helper": pathlib.Path("nccl_plugin/tools/harp_helper/harp-helper"),
    "check": pathlib.Path("nccl_plugin/tools/harp_check/harp-check"),
    "perf": pathlib.Path("nccl_plugin/tools/harp_perf/harp-perf"),
    "plugin": pathlib.Path("nccl_plugin/libnccl-net-harp.so"),
}
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
USER, GROUP = 65534, 42424  # nobody, and a group that nobody else is in

REQUEST, REPLY = struct.Struct("<IHH16sH6s"), struct.Struct("<IHHHHI496s1024s")
MAGIC, VERSION = 0x50524148, 1
OPEN, CLAIM, DROP = 1, 2, 3


@pytest.fixture(name="place", scope="module")
def fixture_place():
    """A folder that everybody can read, with what was built and the helpers' sockets."""
    if shutil.which("setpriv") is None or shutil.which("prlimit") is None:
        pytest.skip("setpriv and prlimit (util-linux) are not here")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="harp-helper-"))
    folder.chmod(0o755)
    for file in BUILT.values():
        shutil.copy(file, folder / file.name)
        (folder / file.name).chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextlib.contextmanager
def helper(links, machine, place, *words):
    """A helper on a machine, which listens; its path. It ends by SIGTERM, if it is still there."""
    path = place / f"socket{machine}"
    argv = [str(place / "harp-helper"), "--socket", str(path), "--group", str(GROUP), *words]
    child = links.popen(machine, argv, **PIPES)
    try:
        ready = child.stderr.readline()
        assert "ready" in ready, ready + child.stderr.read()
        child.path = path
        yield child
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            assert child.wait(timeout=10) == 0
            assert not path.exists()
    finally:
        child.kill()
        child.wait()


def unprivileged(place, machine, *argv, groups=str(GROUP), **variables):
    words = {
        "HARP_IO": "afxdp",
        "HARP_IFACE": f"={INTERFACE}",
        "HARP_PATHS": "3",
        "HARP_HELPER": str(place / f"socket{machine}"),
        **variables,
    }
    pairs = [f"{name}={value}" for name, value in words.items()]
    # Less memory that may be locked than a queue has.
    limit = ["prlimit", "--memlock=65536"]
    drop = [f"--reuid={USER}", f"--regid={USER}", f"--groups={groups}", "--no-new-privs"]
    drop += ["--bounding-set=-all", "--inh-caps=-all"]
    return ["env", *pairs, *limit, "setpriv", *drop, *map(str, argv)]


def ends(links, place, seconds, **variables):
    """harp-perf on both machines, without privileges: server and client."""
    address = f"{links.address(0)}:5000"
    perf, plugin = place / "harp-perf", place / "libnccl-net-harp.so"
    words = ["--listen", address, "--processor", "0"]
    server = links.popen(0, unprivileged(place, 0, perf, *words, **variables), **PIPES)
    words = ["--connect", address, "--processor", "1", "--io", plugin, "--rounds", "1"]
    words += ["--seconds", str(seconds), "--sizes", "300000", "--pings", "200", "--json"]
    client = links.popen(1, unprivileged(place, 1, perf, *words, **variables), **PIPES)
    return server, client


def finish(server, client):
    out, said = client.communicate(timeout=100)
    said += server.communicate(timeout=20)[1]
    assert (client.returncode, server.returncode) == (0, 0), said
    assert "uses UDP" not in said
    return out


def kernel_datagrams(links, machine):
    shown = links.popen(machine, ["cat", "/proc/net/snmp"], **PIPES).communicate()[0]
    names, values = (line.split() for line in shown.splitlines() if line.startswith("Udp:"))
    udp = dict(zip(names, values, strict=True))
    return int(udp["InDatagrams"]), int(udp["OutDatagrams"])


def has_xdp(links, machine):
    shown = links.popen(machine, ["ip", "link", "show", INTERFACE], **PIPES).communicate()[0]
    return "xdp" in shown


def wait_for(holds):
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_processes_without_privileges_go_past_the_kernel_again_and_again(links, place):
    with helper(links, 0, place), helper(links, 1, place):
        for _ in range(2):
            finish(*ends(links, place, 0.2))
            for machine in (0, 1):
                # But for the first ones, until the neighbour is known; thousands went.
                assert max(kernel_datagrams(links, machine)) < 1000
        wait_for(lambda: not has_xdp(links, 0) and not has_xdp(links, 1))


@pytest.mark.parametrize(
    "variables",
    [{"HARP_FAULTS": "loss=0.02,duplicate=0.02,corrupt=0.02"}, {"HARP_ENGINES": "1"}],
    ids=["faults", "engine"],
)
def test_what_is_around_packets_is_around_these(links, place, variables):
    with helper(links, 0, place), helper(links, 1, place):
        finish(*ends(links, place, 0.1, **variables))


def test_a_helper_that_dies_breaks_no_connection(links, place):
    with helper(links, 0, place) as one, helper(links, 1, place) as two:
        server, client = ends(links, place, 2)
        time.sleep(1.5)
        assert client.poll() is None
        before = [max(kernel_datagrams(links, machine)) for machine in (0, 1)]
        one.kill()
        two.kill()
        assert '"what": "ping"' in finish(server, client)
        after = [max(kernel_datagrams(links, machine)) for machine in (0, 1)]
        # Frames have come as frames until the end.
        assert all(later - first < 500 for first, later in zip(before, after, strict=True))
        assert not has_xdp(links, 0) and not has_xdp(links, 1)


def test_a_process_that_is_killed_gives_the_interface_back(links, place):
    with helper(links, 0, place) as one, helper(links, 1, place):
        server, client = ends(links, place, 60)
        wait_for(lambda: has_xdp(links, 0))
        time.sleep(0.5)
        for each in (server, client):
            each.kill()
            each.communicate()
        assert f"{INTERFACE} goes to process" in one.stderr.readline()
        assert f"{INTERFACE} is free again" in one.stderr.readline()
        wait_for(lambda: not has_xdp(links, 0) and not has_xdp(links, 1))
        finish(*ends(links, place, 0.1))


def check_log(links, place, **words):
    check = [place / "harp-check", "--versions", "12", "--only", "sizes"]
    argv = unprivileged(
        place, 0, *check, place / "libnccl-net-harp.so", HARP_CHECK_VERBOSE="1", **words
    )
    child = links.popen(0, argv, **PIPES)
    said = "".join(child.communicate(timeout=60))
    assert child.returncode == 0, said
    assert "uses UDP" in said
    return said


def test_who_is_not_in_the_group_is_refused_and_uses_udp(links, place):
    with helper(links, 0, place) as one:
        said = check_log(links, place, groups=str(GROUP + 1))
        assert "has to be in its group" in said
        # It is not the file's mode alone that keeps others out.
        one.path.chmod(0o666)
        said = check_log(links, place, groups=str(GROUP + 1))
        assert f"user {USER} is not in harp-helper's group" in said


def test_interfaces_that_it_was_not_told_of_are_refused(links, place):
    with helper(links, 0, place, "--interfaces", "=other0"):
        assert "harp-helper was not told to open" in check_log(links, place)


def test_without_a_helper_its_socket_is_named(links, place):
    said = check_log(links, place, HARP_HELPER="/nowhere/harp.sock")
    assert "harp-helper cannot be reached at /nowhere/harp.sock" in said


class Client:
    """Speaks to a helper by itself."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(10)
        self.socket.connect(str(path))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data, *files):
        descriptors = [file.fileno() for file in files]
        socket.send_fds(self.socket, [data], descriptors)

    def reply(self):
        """(failed, what it says, how many descriptors came); None where it has hung up."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.socket, 4096, 200)
        except ConnectionError:
            return None
        for descriptor in descriptors:
            os.close(descriptor)
        if not data:
            return None
        magic, version, _, failed, _, _, error, _ = REPLY.unpack(data)
        assert (magic, version) == (MAGIC, VERSION)
        return failed, error.split(b"\0")[0].decode(), len(descriptors)

    def ask(self, what, *files, interface=b"", port=0, magic=MAGIC, version=VERSION, zeros=b""):
        self.send(REQUEST.pack(magic, version, what, interface, port, zeros), *files)
        return self.reply()


def udp_socket(links, machine):
    """One of a machine's namespace, bound to its address."""
    ours = os.open("/proc/self/ns/net", os.O_RDONLY)
    anyone = links.popen(machine, ["sleep", "60"])
    try:
        wait_for(lambda: namespace(anyone.pid) != namespace("self"))
        with open(f"/proc/{anyone.pid}/ns/net") as theirs:
            setns(theirs.fileno())
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((links.address(machine), 0))
    finally:
        setns(ours)
        os.close(ours)
        anyone.kill()
    return made


def namespace(process):
    return os.readlink(f"/proc/{process}/ns/net")


def setns(descriptor):
    import ctypes

    assert ctypes.CDLL(None, use_errno=True).setns(descriptor, 0) == 0


def still_serves(path):
    with Client(path) as client:
        failed, said, _ = client.ask(OPEN, interface=b"nowhere0")
        assert failed and "there is no interface nowhere0" in said


def test_requests_that_make_no_sense_are_refused_with_a_sentence(links, place):
    with helper(links, 0, place) as one:
        for words, said in [
            ({"what": OPEN, "interface": INTERFACE.encode(), "magic": 1}, "no request of HARP"),
            ({"what": OPEN, "interface": b"x", "version": 2}, "speaks version 1"),
            ({"what": 9}, "makes no sense"),
            ({"what": OPEN}, "makes no sense"),
            ({"what": OPEN, "interface": b"x" * 16}, "makes no sense"),
            ({"what": OPEN, "interface": b"x", "port": 5}, "makes no sense"),
            ({"what": DROP}, "makes no sense"),
            ({"what": DROP, "port": 1, "zeros": b"\1"}, "makes no sense"),
            ({"what": CLAIM}, "wrong number of descriptors"),
        ]:
            with Client(one.path) as client:
                failed, error, given = client.ask(**words)
                assert failed and said in error and given == 0, error
                assert client.reply() is None, "it ends a connection in which nonsense came"
        with Client(one.path) as client, open("/dev/null") as null:
            client.send(REQUEST.pack(MAGIC, VERSION, CLAIM, b"", 0, b""), *[null] * 100)
            assert "wrong number of descriptors" in client.reply()[1]
        still_serves(one.path)


def test_random_bytes_of_any_length_do_no_harm(links, place):
    chance = random.Random(5)
    with helper(links, 0, place) as one:
        for size in [
            1,
            31,
            32,
            33,
            64,
            4096,
            60000,
            *(chance.randrange(1, 200) for _ in range(200)),
        ]:
            with Client(one.path) as client:
                client.send(chance.randbytes(size))
                failed, said, _ = client.reply()
                assert failed and said
        before = len(os.listdir(f"/proc/{helper_process(one)}/fd"))
        still_serves(one.path)
        wait_for(lambda: len(os.listdir(f"/proc/{helper_process(one)}/fd")) <= before)


def helper_process(child):
    """The helper's own, which may be a child of what entered the namespace."""
    found = [child.pid]
    while children := pathlib.Path(f"/proc/{found[-1]}/task/{found[-1]}/children").read_text():
        found.append(int(children.split()[0]))
    return found[-1]


def test_what_a_process_asks_for_has_to_be_its_own(links, place):
    with helper(links, 0, place) as one, Client(one.path) as client:
        mine = udp_socket(links, 0)
        assert "before an interface was opened" in client.ask(CLAIM, mine)[1]
        failed, said, given = client.ask(OPEN, interface=INTERFACE.encode())
        assert not failed and given >= 3, said
        assert "has an interface already" in client.ask(OPEN, interface=INTERFACE.encode())[1]
        with Client(one.path) as other:
            failed, said, _ = other.ask(OPEN, interface=INTERFACE.encode())
            assert failed and "one process an interface" in said
        with socket.socket() as stream:
            assert "no UDP socket" in client.ask(CLAIM, stream)[1]
        with open("/dev/null") as null:
            assert "no UDP socket" in client.ask(CLAIM, null)[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.1", 0))
            assert "another network namespace" in client.ask(CLAIM, stranger)[1]
        port = mine.getsockname()[1]
        assert client.ask(CLAIM, mine)[0] == 0
        assert "claimed already" in client.ask(CLAIM, mine)[1]
        assert "is not claimed" in client.ask(DROP, port=port % 65535 + 1)[1]
        assert client.ask(DROP, port=port)[0] == 0
        assert client.ask(CLAIM, mine)[0] == 0
        mine.close()


def test_clients_are_so_many_at_most_and_one_that_does_not_listen_is_dropped(links, place):
    with helper(links, 0, place, "--clients", "2") as one:
        with Client(one.path) as first, Client(one.path) as second:
            for each in (first, second):
                assert each.ask(OPEN, interface=b"nowhere0")[0]
            with Client(one.path) as third:
                assert "as many as it may have" in third.reply()[1]
            request = REQUEST.pack(MAGIC, VERSION, OPEN, b"nowhere0", 0, b"")
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                for _ in range(10_000):  # whose answers nobody reads
                    first.send(request)
            assert second.ask(OPEN, interface=b"nowhere0")[0]
        still_serves(one.path)


def test_a_second_helper_at_the_same_place_says_so(links, place):
    with helper(links, 0, place) as one:
        argv = [str(place / "harp-helper"), "--socket", str(one.path)]
        child = links.popen(1, argv, **PIPES)
        _, said = child.communicate(timeout=10)
        assert child.returncode == 1 and "another harp-helper is at" in said
        still_serves(one.path)
