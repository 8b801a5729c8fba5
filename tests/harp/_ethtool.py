"""What the program ethtool does, as far as tests need it; within a network namespace:

python _ethtool.py link0 channels 2    so many queues each way
python _ethtool.py link0 statistics    the driver's counters, as JSON
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import socket
import struct
import sys

_SIOCETHTOOL = 0x8946
_SET_CHANNELS = 0x3D
_DRIVER, _STRINGS, _STATISTICS = 0x03, 0x1B, 0x1D
_NAMES_OF_STATISTICS = 1
_NAME_BYTES = 32


def ask(interface: str, data: bytes) -> bytes:
    """Hands the kernel a structure of its ethtool.h, and gives it back as it is then."""
    buffer = ctypes.create_string_buffer(data, len(data))
    request = struct.pack("16sQ", interface.encode(), ctypes.addressof(buffer))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
    return buffer.raw


def set_channels(interface: str, count: int) -> None:
    ask(interface, struct.pack("9I", _SET_CHANNELS, 0, 0, 0, 0, count, count, 0, 0))


def statistics(interface: str) -> dict[str, int]:
    # struct ethtool_drvinfo: seven texts, then numbers, of which the second is n_stats.
    driver = ask(interface, struct.pack("I", _DRIVER) + bytes(192))
    (count,) = struct.unpack_from("I", driver, 4 + 4 * 32 + 32 + 12 + 4)
    names = ask(
        interface,
        struct.pack("3I", _STRINGS, _NAMES_OF_STATISTICS, count) + bytes(_NAME_BYTES * count),
    )
    values = ask(interface, struct.pack("2I", _STATISTICS, count) + bytes(8 * count))
    found = {}
    for index in range(count):
        name = names[12 + _NAME_BYTES * index :][:_NAME_BYTES].split(b"\0")[0].decode()
        (found[name],) = struct.unpack_from("Q", values, 8 + 8 * index)
    return found


if __name__ == "__main__":
    if sys.argv[2] == "channels":
        set_channels(sys.argv[1], int(sys.argv[3]))
    else:
        print(json.dumps(statistics(sys.argv[1])))
