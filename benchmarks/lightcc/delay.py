"""Round trips that take time, on kernels without netem. Run inside a network namespace:

    python -m benchmarks.lightcc.delay hold link0 100     what arrives waits for up to 100 us
    python -m benchmarks.lightcc.delay plain port1        for the other end of such a link
    python -m benchmarks.lightcc.delay answer 10.83.0.2   until it is killed
    python -m benchmarks.lightcc.delay measure 10.83.0.2  prints the median round trip in us

An interface that moderates its interrupts looks for packets at intervals only: veth does so too,
once it may join packets (GRO) and its peer leaves cutting them (TSO) to nobody. So that packets
stay as large as with TSO, the interfaces get an MTU of 64 KiB.
"""

import ctypes
import fcntl
import pathlib
import socket
import statistics
import struct
import sys
import time

_SIOCETHTOOL = 0x8946
_SET_TSO, _SET_GRO = 0x1F, 0x2C  # ETHTOOL_STSO, ETHTOOL_SGRO
_MTU = 65000
_PORT = 9
_PINGS = 200


def plain(interface: str) -> None:
    """Sends packets as they are.

    Raises:
        OSError: the kernel or the interface does not do that.
    """
    _switch(interface, _SET_TSO, False)
    pathlib.Path(f"/sys/class/net/{interface}/mtu").write_text(str(_MTU))


def hold(interface: str, microseconds: int) -> None:
    """Looks for packets that arrive at intervals.

    Raises:
        OSError: the kernel or the interface does not do that.
    """
    plain(interface)
    _switch(interface, _SET_GRO, True)
    folder = pathlib.Path(f"/sys/class/net/{interface}")
    (folder / "napi_defer_hard_irqs").write_text("1000000000")  # looks that find nothing, in a row
    (folder / "gro_flush_timeout").write_text(str(microseconds * 1000))


def answer(host: str) -> None:
    """Sends back what arrives, until it is killed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.bind((host, _PORT))
        while True:
            data, sender = end.recvfrom(64)
            end.sendto(data, sender)


def measure(host: str) -> float:
    """The median round trip to where `answer` runs, in microseconds.

    Raises:
        OSError: nobody answers.
    """
    times = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.settimeout(0.2)
        end.connect((host, _PORT))
        for ping in range(_PINGS + 20):
            began = time.perf_counter()
            try:
                end.send(b"x")
                end.recv(64)
            except OSError:  # it has not begun yet
                if ping >= 20:
                    raise
                time.sleep(0.05)
            times.append(time.perf_counter() - began)
            time.sleep(ping % 13 * 5e-5)  # at all times within an interval
    return statistics.median(times[20:]) * 1e6


def _switch(interface: str, command: int, on: bool) -> None:
    value = ctypes.create_string_buffer(struct.pack("II", command, on))
    request = struct.pack("16sQ", interface.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        fcntl.ioctl(end, _SIOCETHTOOL, request)


if __name__ == "__main__":
    if sys.argv[1] == "hold":
        hold(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1] == "plain":
        plain(sys.argv[2])
    elif sys.argv[1] == "answer":
        answer(sys.argv[2])
    else:
        print(measure(sys.argv[2]))
