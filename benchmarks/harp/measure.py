"""Runs harp-perf on two machines that are network namespaces. START HERE."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.lightcc.links import INTERFACE, Links, LinksUnavailable

ROOT = pathlib.Path(__file__).resolve().parents[2]
_PORT = 5000


def _built(path: str) -> pathlib.Path:
    """A file that Bazel has built: among the runfiles of a test, or of the source tree."""
    return ROOT / path if (ROOT / path).is_file() else ROOT / "bazel-bin" / path


PERF = _built("nccl_plugin/tools/harp_perf/harp-perf")
PLUGIN = _built("nccl_plugin/libnccl-net-harp.so")

# Not everybody's PATH has the administrator's folders.
_PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
_IPTABLES = shutil.which("iptables", path=_PLACES)

# Names of contestants, and what harp-perf calls them. Each sets what another one sets: a process
# runs all of them, one after the other, and a variable stays.
CONTESTANTS: Mapping[str, str] = {
    "tcp": "tcp",
    "tcp4": "tcp4",
    "harp": f"HARP_IO=udp HARP_PATHS=4 HARP_CHECKSUM=1 {PLUGIN}",
    "harp_1_path": f"HARP_IO=udp HARP_PATHS=1 HARP_CHECKSUM=1 {PLUGIN}",
    "harp_8_paths": f"HARP_IO=udp HARP_PATHS=8 HARP_CHECKSUM=1 {PLUGIN}",
    "harp_no_crc": f"HARP_IO=udp HARP_PATHS=1 HARP_CHECKSUM=0 {PLUGIN}",
    "harp_afxdp": f"HARP_IO=afxdp HARP_PATHS=4 HARP_CHECKSUM=1 {PLUGIN}",
    "harp_dpdk": f"HARP_IO=dpdk HARP_DPDK_MTU=9000 HARP_PATHS=4 HARP_CHECKSUM=1 {PLUGIN}",
}

# Those of a run that names none. AF_XDP and DPDK have to be asked for: they are not everywhere.
USUAL = tuple(name for name in CONTESTANTS if name not in ("harp_afxdp", "harp_dpdk"))

_HUGE_PAGES = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
_HUGE_PAGES_NEEDED = 256  # by both sides together


# What `ethtool -K INTERFACE tso off gso off gro off` does, for whoever has no ethtool.
_NO_OFFLOAD = """
import ctypes, fcntl, socket, struct, sys
SIOCETHTOOL, TSO, GSO, GRO = 0x8946, 0x1F, 0x24, 0x2C
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    for setting in (TSO, GSO, GRO):
        value = ctypes.create_string_buffer(struct.pack("II", setting, 0))
        request = struct.pack("16sP16x", sys.argv[1].encode(), ctypes.addressof(value))
        fcntl.ioctl(any_socket, SIOCETHTOOL, request)
"""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        contestants: of CONTESTANTS; USUAL by default.
        rounds: turns of each.
        seconds: about, of a stream.
        pings: round trips of 8 bytes.
        sizes: bytes of streamed messages.
        mbits: rate of the link; None: no limit.
        loss: part of the packets that both machines drop as they come in.
        offload: whether the link takes packets larger than its MTU.
    """

    contestants: tuple[str, ...] = USUAL
    rounds: int = 7
    seconds: float = 1.0
    pings: int = 20_000
    sizes: tuple[int, ...] = (8, 65536, 1048576)
    mbits: int | None = None
    loss: float = 0.0
    offload: bool = True


def measure(plan: Plan) -> Iterator[dict[str, Any]]:
    """Each measurement as it comes: what harp-perf prints, `contestant` and `round`.

    Raises:
        LinksUnavailable: no namespaces can be made here, or packets cannot be dropped.
        RuntimeError: harp-perf failed; the message has its words.
    """
    # The kernel's flag for UDP is another than those that _NO_OFFLOAD clears.
    offload = f"HARP_SEGMENTATION={int(plan.offload)} "
    kinds = {name: CONTESTANTS[name] for name in plan.contestants}
    names = {(offload + kind if kind.startswith("HARP") else kind): n for n, kind in kinds.items()}
    with Links(2, plan.mbits, rtt_us=0) as links, tempfile.TemporaryDirectory() as folder:
        for machine in (0, 1):
            _prepare(links, machine, plan)
        address = f"{links.address(0)}:{_PORT}"
        server_words, client_words = (
            ["env", f"HARP_IFACE=={INTERFACE}", *_dpdk(machine, folder), str(PERF)]
            for machine in (0, 1)
        )
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        server = links.popen(0, [*server_words, "--listen", address, "--processor", "0"], **pipes)
        words = [word for kind in names for word in ("--io", kind)]
        words += ["--json", "--rounds", str(plan.rounds), "--seconds", str(plan.seconds)]
        words += ["--pings", str(plan.pings), "--sizes", ",".join(map(str, plan.sizes))]
        client = links.popen(
            1, [*client_words, "--connect", address, "--processor", "1", *words], **pipes
        )
        seen: dict[str, int] = {}
        for line in client.stdout or ():
            each = json.loads(line)
            each["contestant"] = names[each.pop("io")]
            key = f"{each['contestant']} {each['what']} {each['bytes']}"
            each["round"] = seen[key] = seen.get(key, -1) + 1
            yield each
        said = [child.communicate()[1] for child in (client, server)]
        if client.returncode or server.returncode:
            raise RuntimeError("harp-perf failed: " + " ".join(said))


def _dpdk(machine: int, folder: str) -> list[str]:
    """Settings of `harp_dpdk`: the two processes share memory by memif, whatever the link is."""
    role = ("server", "client")[machine]
    vdev = f"net_memif0,role={role},socket-abstract=no,socket={folder}/memif,bsize=9216,rsize=6"
    huge = _HUGE_PAGES.is_file() and int(_HUGE_PAGES.read_text()) >= _HUGE_PAGES_NEEDED
    memory = "" if huge else " --no-huge -m 256 --no-shconf"
    return [
        f"HARP_DPDK_ADDRESS=10.9.0.{machine + 1}/24",
        f"HARP_DPDK_ARGS=--no-pci{memory} --vdev={vdev}",
    ]


def _prepare(links: Links, machine: int, plan: Plan) -> None:
    if not plan.offload:
        _run(links, machine, sys.executable, "-c", _NO_OFFLOAD, INTERFACE)
    if plan.loss:
        match = ("-m", "statistic", "--mode", "random", "--probability", str(plan.loss))
        drop = (_IPTABLES or "iptables", "-A", "INPUT", "-i", INTERFACE)
        # The connection over which the two programs agree is left in peace.
        _run(links, machine, *drop, "-p", "tcp", "--dport", str(_PORT), "-j", "ACCEPT")
        _run(links, machine, *drop, "-p", "tcp", "--sport", str(_PORT), "-j", "ACCEPT")
        _run(links, machine, *drop, *match, "-j", "DROP")


def _run(links: Links, machine: int, *command: str) -> None:
    child = links.popen(machine, command, stderr=subprocess.PIPE, text=True)
    _, said = child.communicate()
    if child.returncode:
        raise LinksUnavailable(f"`{' '.join(command)}`: {said.strip()}")
