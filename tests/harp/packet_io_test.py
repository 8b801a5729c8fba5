"""Each kind of packet I/O carries messages, alone and to ends of another kind.

`afxdp` runs over a veth pair between two network namespaces, `dpdk` over memif between two
processes and over such a pair: no hardware is needed, but root is.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import pytest

from benchmarks.lightcc.links import INTERFACE

CHECK = pathlib.Path("nccl_plugin/tools/harp_check/harp-check").absolute()
PERF = pathlib.Path("nccl_plugin/tools/harp_perf/harp-perf").absolute()
PLUGIN = pathlib.Path("nccl_plugin/libnccl-net-harp.so").absolute()
DPDK = pathlib.Path("nccl_plugin/libharp-dpdk.so").absolute()

# DPDK without huge pages, PCI and files.
EAL = "--no-pci --no-huge -m 256 --no-shconf"
SHORT = ["--json", "--rounds", "1", "--seconds", "0.1", "--pings", "200", "--sizes", "8,300000"]
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


@pytest.fixture(name="dpdk")
def fixture_dpdk():
    """Skips where the library was built without DPDK."""
    log = check_log(HARP_IO="dpdk", HARP_DPDK_ADDRESS="10.9.0.1/24", HARP_DPDK_ARGS=EAL)
    if "there was no DPDK" in log:
        pytest.skip("built without DPDK")


def check_log(plugin=PLUGIN, **variables):
    """What harp-check and the plugin say when the plugin begins."""
    run = subprocess.run(
        [CHECK, "--versions", "12", "--only", "table", plugin],
        env={**os.environ, "HARP_CHECK_VERBOSE": "1", "HARP_IFACE": "=lo", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return run.stdout + run.stderr


def environment(interface, variables):
    words = {"HARP_IFACE": f"={INTERFACE}", "HARP_PATHS": "3", **variables}
    pairs = [f"{name}={value}" for name, value in words.items()]
    return ["env", *pairs, str(PERF), "--interface", interface]


def carry(start, address, server, client):
    """Messages from one end to the other and back; each end is (interface, variables).

    Returns what was measured, and what both said.
    """
    # Each polls, and the system may leave both on one processor.
    first, second = ("--processor", "0"), ("--processor", str(min(1, (os.cpu_count() or 1) - 1)))
    listening = start(0, [*environment(*server), *first, "--listen", address])
    words = [*second, "--connect", address, "--io", str(PLUGIN), *SHORT]
    connecting = start(1, [*environment(*client), *words])
    try:
        out, said = connecting.communicate(timeout=100)
        assert connecting.returncode == 0, said
        said += listening.communicate(timeout=20)[1]
        assert listening.returncode == 0, said
    finally:
        for each in (connecting, listening):
            each.kill()
            each.wait()
    measured = [json.loads(line) for line in out.splitlines()]
    assert [(each["what"], each["bytes"]) for each in measured] == [
        ("stream", 8),
        ("stream", 300000),
        ("ping", 8),
    ]
    return measured, said


def over_links(links, server, client):
    return carry(
        lambda machine, argv: links.popen(machine, argv, **PIPES),
        f"{links.address(0)}:5000",
        server,
        client,
    )


def kernel_datagrams(links, machine):
    """How many UDP datagrams the kernel of a machine has given to sockets, and sent."""
    shown = links.popen(machine, ["cat", "/proc/net/snmp"], **PIPES).communicate()[0]
    names, values = (line.split() for line in shown.splitlines() if line.startswith("Udp:"))
    udp = dict(zip(names, values, strict=True))
    return int(udp["InDatagrams"]), int(udp["OutDatagrams"])


def kind(io, **variables):
    return INTERFACE, {"HARP_IO": io, **variables}


def test_afxdp_goes_past_the_kernel(links):
    _, said = over_links(links, kind("afxdp"), kind("afxdp"))
    assert "uses UDP" not in said
    for machine in (0, 1):
        received, sent = kernel_datagrams(links, machine)
        # But for the first ones, until the neighbour is known; thousands went.
        assert received < 500 and sent < 500


@pytest.mark.parametrize("server, client", [("afxdp", "udp"), ("udp", "afxdp")])
def test_afxdp_and_udp_understand_each_other(links, server, client):
    _, said = over_links(links, kind(server), kind(client))
    assert "uses UDP" not in said


@pytest.mark.parametrize(
    "variables",
    [
        {"HARP_FAULTS": "loss=0.02,duplicate=0.02,corrupt=0.02"},
        {"HARP_KEY": "8f" * 32},
        {"HARP_ENGINES": "1"},
    ],
    ids=["faults", "encrypted", "engine"],
)
def test_what_is_around_packets_is_around_those_of_afxdp(links, variables):
    over_links(links, kind("afxdp", **variables), kind("afxdp", **variables))


def ethtool(links, machine, *words):
    program = pathlib.Path(__file__).with_name("_ethtool.py")
    child = links.popen(machine, [sys.executable, str(program), INTERFACE, *words], **PIPES)
    out, said = child.communicate(timeout=20)
    assert child.returncode == 0, said
    return out


@pytest.mark.parametrize("engines", ["0", "1"])
def test_afxdp_sends_and_receives_by_every_queue(links, engines):
    for machine in (0, 1):
        ethtool(links, machine, "channels", "2")
    variables = {"HARP_ENGINES": engines}
    _, said = over_links(links, kind("afxdp", **variables), kind("afxdp", **variables))
    assert "uses UDP" not in said
    for machine in (0, 1):
        counted = json.loads(ethtool(links, machine, "statistics"))
        # Over veth a queue receives what the same queue of the other end has sent.
        assert all(counted[f"rx_queue_{queue}_xdp_packets"] > 100 for queue in (0, 1)), counted


def test_afxdp_leaves_the_interface_as_it_was(links):
    over_links(links, kind("afxdp"), kind("afxdp"))
    shown = links.popen(0, ["ip", "link", "show", INTERFACE], **PIPES).communicate()[0]
    assert "xdp" not in shown


def test_without_the_privilege_afxdp_becomes_udp_and_says_why(links):
    setpriv = shutil.which("setpriv")
    if setpriv is None or not os.access(PLUGIN, os.R_OK):
        pytest.skip("setpriv (util-linux) is not here")
    drop = [setpriv, "--bounding-set=-all", "--inh-caps=-all"]
    argv = ["env", "HARP_IO=afxdp", f"HARP_IFACE=={INTERFACE}", "HARP_CHECK_VERBOSE=1"]
    child = links.popen(
        0, [*argv, *drop, str(CHECK), "--versions", "12", "--only", "sizes", str(PLUGIN)], **PIPES
    )
    said = "".join(child.communicate(timeout=60))
    assert child.returncode == 0, said
    assert "by AF_XDP, and uses UDP" in said
    assert "CAP_NET_ADMIN" in said
    assert f"HARP over UDP on {INTERFACE}" in said


def test_what_afxdp_costs_is_counted(links):
    measured, _ = over_links(links, kind("afxdp"), kind("afxdp"))
    large = measured[1]
    assert large["sender_calls_mib"] > 0
    # Into a frame, and from it to its place. The kernel copies where the driver does not take it.
    assert 1.0 <= large["sender_user_copies"] < 1.5 and 1.0 <= large["receiver_user_copies"] < 1.5
    assert 1.0 <= large["sender_kernel_copies"] < 1.5


def test_every_case_of_harp_check_passes_with_afxdp(links):
    argv = ["env", "HARP_IO=afxdp", f"HARP_IFACE=={INTERFACE}", str(CHECK), str(PLUGIN)]
    child = links.popen(0, [*argv, "--versions", "6,12"], **PIPES)
    said = "".join(child.communicate(timeout=250))
    assert child.returncode == 0, said


def memif(tmp_path, role, number, network="10.9.0.{}/24", **variables):
    vdev = f"--vdev=net_memif0,role={role},socket-abstract=no,socket={tmp_path}/memif"
    return "net_memif0", {
        "HARP_IO": "dpdk",
        "HARP_DPDK_ADDRESS": network.format(number),
        "HARP_DPDK_ARGS": f"{EAL} {vdev},bsize={variables.pop('bsize', 2048)}",
        **variables,
    }


def on_this_machine(server, client):
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{made.getsockname()[1]}"
    return carry(lambda _, argv: subprocess.Popen(argv, **PIPES), address, server, client)


@pytest.mark.usefixtures("dpdk")
@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"bsize": 9216, "HARP_DPDK_MTU": "9000"},
        {"bsize": 9216, "HARP_DPDK_MTU": "9000", "HARP_DPDK_ZERO_COPY": "1"},
        {"network": "fd09::{}/64"},
        {"HARP_FAULTS": "loss=0.02,duplicate=0.02,corrupt=0.02"},
        {"HARP_KEY": "8f" * 32},
        {"HARP_ENGINES": "1"},
    ],
    ids=["plain", "large", "large-zero-copy", "ipv6", "faults", "encrypted", "engine"],
)
def test_dpdk_over_memif(tmp_path, variables):
    server = memif(tmp_path, "server", 1, **variables)
    measured, _ = on_this_machine(server, memif(tmp_path, "client", 2, **variables))
    for side in ("sender", "receiver"):
        assert measured[1][f"{side}_calls_mib"] == measured[1][f"{side}_kernel_copies"] == 0
        assert measured[1][f"{side}_user_copies"] >= 1.0
    if variables.get("HARP_DPDK_ZERO_COPY") == "1":
        assert measured[1]["sender_user_copies"] < 1.2  # the driver's own, and heads


@pytest.mark.usefixtures("dpdk")
@pytest.mark.parametrize(
    "variables",
    [{}, {"HARP_DPDK_ZERO_COPY": "1"}, {"HARP_DPDK_ZERO_COPY": "1", "HARP_ENGINES": "1"}],
    ids=["copies", "zero-copy", "zero-copy-engine"],
)
def test_every_case_of_harp_check_passes_from_a_memif_to_another(variables):
    # Two ports of one process: every byte of every message is compared, and ends are closed and
    # memory is taken back while messages are under way.
    place = f"socket=harp-{os.getpid()},bsize=9216"
    ports = f"--vdev=net_memif0,role=server,{place} --vdev=net_memif1,role=client,{place}"
    run = subprocess.run(
        [CHECK, PLUGIN, "--versions", "8,12", "--device", "0", "--to", "1"],
        env={
            **os.environ,
            "HARP_IO": "dpdk",
            "HARP_DPDK_ADDRESS": "10.9.0.1/24;10.9.0.2/24",
            "HARP_DPDK_ARGS": f"{EAL} {ports}",
            "HARP_DPDK_MTU": "9000",
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.usefixtures("dpdk")
@pytest.mark.parametrize("zero_copy, engines", [("0", "0"), ("1", "2")])
def test_every_case_of_harp_check_passes_with_several_queues_of_dpdk(links, zero_copy, engines):
    veth = "ip link add veth0 type veth peer name veth1 && ip link set veth0 up"
    script = f'{veth} && ip link set veth1 up && exec "$@"'
    ports = " ".join(f"--vdev=net_af_packet{i},iface=veth{i},qpairs=3" for i in (0, 1))
    variables = {
        "HARP_IO": "dpdk",
        "HARP_DPDK_ADDRESS": "10.9.0.1/24;10.9.0.2/24",
        "HARP_DPDK_ARGS": f"{EAL} {ports}",
        "HARP_DPDK_ZERO_COPY": zero_copy,
        "HARP_ENGINES": engines,
    }
    argv = ["env", *(f"{name}={value}" for name, value in variables.items()), str(CHECK)]
    argv += [str(PLUGIN), "--versions", "12", "--device", "0", "--to", "1"]
    child = links.popen(0, ["sh", "-c", script, "sh", *argv], **PIPES)
    said = "".join(child.communicate(timeout=250))
    assert child.returncode == 0, said


@pytest.mark.usefixtures("dpdk")
@pytest.mark.parametrize("zero_copy", ["0", "1"])
@pytest.mark.parametrize("server", ["dpdk", "udp"])
def test_dpdk_and_udp_understand_each_other(links, server, zero_copy):
    # Beside the kernel's address, on the same link: only HARP answers for it.
    by_dpdk = (
        "net_af_packet0",
        {
            "HARP_IO": "dpdk",
            "HARP_DPDK_ADDRESS": "10.83.0.101/24",
            "HARP_DPDK_ARGS": f"{EAL} --vdev=net_af_packet0,iface={INTERFACE}",
            "HARP_DPDK_ZERO_COPY": zero_copy,
        },
    )
    # What the kernel puts together for a veth pair is larger than a frame.
    by_udp = kind("udp", HARP_SEGMENTATION="0")
    ends = (by_dpdk, by_udp) if server == "dpdk" else (by_udp, by_dpdk)
    over_links(links, *ends)


@pytest.mark.usefixtures("dpdk")
@pytest.mark.parametrize("server", ["dpdk", "udp"])
def test_dpdk_finds_the_kernel_by_ipv6_and_is_found(links, server):
    by_kernel = 1 if server == "dpdk" else 0
    address = links.address(by_kernel)
    # The kernel's end has IPv6 alone there, as HARP prefers IPv4; programs still meet by IPv4.
    commands = [
        f"address add {address}/32 dev lo",
        f"address del {address}/24 dev {INTERFACE}",
        f"route add 10.83.0.0/24 dev {INTERFACE} src {address}",
        f"address add fd83::2/64 dev {INTERFACE} nodad",
    ]
    for command in commands:
        _, said = links.popen(by_kernel, ["ip", *command.split()], **PIPES).communicate()
        assert not said, said
    by_dpdk = (
        "net_af_packet0",
        {
            "HARP_IO": "dpdk",
            "HARP_DPDK_ADDRESS": "fd83::101/64",
            "HARP_DPDK_ARGS": f"{EAL} --vdev=net_af_packet0,iface={INTERFACE}",
        },
    )
    by_udp = kind("udp", HARP_SEGMENTATION="0")
    over_links(links, *((by_dpdk, by_udp) if server == "dpdk" else (by_udp, by_dpdk)))
    shown = links.popen(by_kernel, ["ip", "-6", "neighbour"], **PIPES).communicate()[0]
    assert "fd83::101 dev" in shown and "lladdr" in shown


@pytest.mark.usefixtures("dpdk")
def test_every_case_of_harp_check_passes_with_dpdk():
    run = subprocess.run(
        [CHECK, PLUGIN, "--versions", "6,12"],
        env={
            **os.environ,
            "HARP_IO": "dpdk",
            "HARP_DPDK_ADDRESS": "10.9.0.1/24",
            "HARP_DPDK_ARGS": f"{EAL} --vdev=net_ring0",
        },
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    "variables, cause",
    [
        ({}, "HARP_DPDK_ADDRESS: it needs an address"),
        ({"HARP_DPDK_ADDRESS": "fd00::1"}, "no address with the length of its network"),
        ({"HARP_DPDK_ADDRESS": "10.9.0.1/24", "HARP_DPDK_ARGS": EAL}, "--vdev"),
    ],
)
def test_dpdk_that_cannot_be_used_steps_aside_with_one_line(variables, cause, request):
    if "HARP_DPDK_ARGS" in variables:
        request.getfixturevalue("dpdk")
    log = check_log(HARP_IO="dpdk", **variables)
    (line,) = [each for each in log.splitlines() if "cannot use DPDK" in each]
    assert "NCCL goes on with its own transport" in line
    assert cause in line


def test_dpdk_without_its_library_names_it(tmp_path):
    alone = tmp_path / PLUGIN.name
    shutil.copyfile(PLUGIN, alone)
    log = check_log(alone, HARP_IO="dpdk", HARP_DPDK_ADDRESS="10.9.0.1/24")
    assert f"cannot open {DPDK.name}" in log
    assert "it stands beside the plugin where" in log


@pytest.mark.usefixtures("dpdk")
def test_dpdk_whose_own_libraries_are_missing_says_what_to_install(tmp_path):
    alone = tmp_path / PLUGIN.name
    shutil.copyfile(PLUGIN, alone)
    text = DPDK.read_bytes()
    assert b"librte_ethdev.so.23" in text
    (tmp_path / DPDK.name).write_bytes(text.replace(b"librte_ethdev.so.", b"librte_nothere.so"))
    log = check_log(alone, HARP_IO="dpdk", HARP_DPDK_ADDRESS="10.9.0.1/24")
    (line,) = [each for each in log.splitlines() if "cannot use DPDK" in each]
    assert "NCCL goes on with its own transport" in line
    assert "librte_nothere" in line and "install DPDK 22.11" in line
