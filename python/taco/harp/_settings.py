"""The variables of HARP, as `taco doctor` lists them.

The plugin reads them itself (nccl_plugin/engine/settings.h); they stand here so that they are found
and checked. A test compares names, defaults and bounds with what the plugin says.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Variable:
    """One of them.

    Attributes:
        env: its name.
        default: what the plugin takes without it, as text; None: nothing.
        doc: one sentence: what it does.
        check: text to value; raises ValueError, saying what is allowed.
        secret: whether its value is not to be shown.
    """

    env: str
    default: str | None
    doc: str
    check: Callable[[str], Any]
    secret: bool = False

    @property
    def name(self) -> str:
        """The field's name in reports."""
        return self.env.removeprefix("HARP_").lower()


def _whole(least: int, most: int) -> Callable[[str], int]:
    def check(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return number

    return check


def _number(least: float, most: float) -> Callable[[str], float]:
    def check(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not least <= number <= most:
            raise ValueError(f"must be a number from {least:g} to {most:g}")
        return number

    return check


def _choice(*allowed: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return text

    return check


def _key(text: str) -> str:
    digits = text.strip()
    if len(digits) != 64 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
        raise ValueError("must be 64 hexadecimal digits, as `openssl rand -hex 32` gives")
    return "set"


def _key_file(text: str) -> str:
    try:
        _key(Path(text).read_text(errors="replace"))
    except OSError as error:
        raise ValueError(f"must be a file that can be read: {error.strerror}") from None
    return text


def _dpdk_addresses(text: str) -> str:
    for each in text.split(";"):
        address, _, gateway = each.partition(",")
        try:
            network = ipaddress.ip_interface(address).network
            fits = "/" in address and ("," not in each or ipaddress.ip_address(gateway) in network)
        except ValueError:
            fits = False
        if not fits:
            raise ValueError("must be like 10.9.0.1/24, fd09::1/64, or 10.9.0.1/24,10.9.0.254")
    return text


VARIABLES: tuple[Variable, ...] = (
    Variable(
        "HARP_IO",
        "auto",
        "How packets leave the machine: by the kernel's UDP (as auto), AF_XDP or DPDK.",
        _choice("auto", "udp", "afxdp", "dpdk"),
    ),
    Variable(
        "HARP_HELPER",
        "/run/harp-helper.sock",
        "With afxdp: the socket of harp-helper, for processes without privileges.",
        str,
    ),
    Variable(
        "HARP_DPDK_ADDRESS",
        None,
        "With dpdk: 10.9.0.1/24, fd09::1/64, or either,GATEWAY, of each port, by semicolons.",
        _dpdk_addresses,
    ),
    Variable("HARP_DPDK_ARGS", None, "With dpdk: arguments of its EAL, by spaces.", str),
    Variable(
        "HARP_DPDK_MTU",
        "0",
        "With dpdk: the MTU of its ports; 0: their own.",
        _whole(0, 60000),
    ),
    Variable(
        "HARP_DPDK_ZERO_COPY",
        "0",
        "With dpdk: 1 sends messages from where they lie, where the port can.",
        _whole(0, 1),
    ),
    Variable(
        "HARP_IFACE",
        None,
        "Interfaces, by commas: names or how they begin, =name exactly, ^name all but these. By "
        "default NCCL_SOCKET_IFNAME, or all but the loopback and virtual bridges.",
        str,
    ),
    Variable("HARP_PATHS", "4", "Paths of a connection, each a UDP source port.", _whole(1, 64)),
    Variable(
        "HARP_ENGINES",
        "0",
        "Threads that poll, each pinned to a processor; 0: whoever asks does the work.",
        _whole(0, 64),
    ),
    Variable(
        "HARP_DEAD_SECONDS",
        "30",
        "Silence on all paths after which a peer is given up.",
        _number(0.1, 86400),
    ),
    Variable(
        "HARP_CONNECT_SECONDS",
        "10",
        "Seconds without an answer from a listener after which connecting fails.",
        _number(0.1, 86400),
    ),
    Variable(
        "HARP_CHECKSUM",
        "1",
        "Whether packets carry a CRC32C; 0 by default where they are encrypted.",
        _whole(0, 1),
    ),
    Variable(
        "HARP_SEGMENTATION",
        "1",
        "Whether the kernel cuts and joins packets (GSO, GRO).",
        _whole(0, 1),
    ),
    Variable(
        "HARP_CONGESTION",
        "swift",
        "Congestion control: cubic for links whose queues others fill.",
        _choice("swift", "cubic"),
    ),
    Variable(
        "HARP_QUEUE_US",
        "100",
        "What queues may add to the least round trip before a path's window shrinks.",
        _whole(1, 1_000_000),
    ),
    Variable(
        "HARP_CREDIT_BYTES",
        "0",
        "What may be on its way to all receivers of an interface, where they are many; 0: by its "
        "speed.",
        _whole(0, 10**12),
    ),
    Variable(
        "HARP_SOCKET_BYTES",
        "4194304",
        "Of a socket's queue in the kernel.",
        _whole(65536, 1 << 30),
    ),
    Variable("HARP_STATS", None, "A file for statistics; %p: the process, %h: the host.", str),
    Variable(
        "HARP_STATS_SECONDS",
        "5",
        "Seconds between two lines of a connection.",
        _number(0.01, 86400),
    ),
    Variable(
        "HARP_KEY",
        None,
        "64 hexadecimal digits, the same on all nodes: packets are encrypted.",
        _key,
        secret=True,
    ),
    Variable("HARP_KEY_FILE", None, "A file with such a key.", _key_file),
    Variable("HARP_FAULTS", None, "For tests: packets that are lost, doubled, changed.", str),
)
