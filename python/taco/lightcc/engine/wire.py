"""Messages between a rank and the coordinator: JSON with its length before it.

    | 4 bytes: length of the text, big-endian | text: one JSON object, UTF-8 |

Only descriptions travel here, never a tensor's data. A first message names the job's key, so that
a stranger who finds the port is not taken for a rank.
"""

import json
import socket
import struct
from typing import Any

Message = dict[str, Any]

# A request is about 200 bytes; the longest is a bucket of many tensors, or an object's description.
MAX_MESSAGE = 64 << 20
_HEADER = struct.Struct(">I")


class ProtocolError(Exception):
    """The other side sent what no rank of this job sends."""


def encode(message: Message) -> bytes:
    """The bytes of one message.

    Raises:
        ProtocolError: it is longer than MAX_MESSAGE.
    """
    text = json.dumps(message, separators=(",", ":")).encode()
    if len(text) > MAX_MESSAGE:
        raise ProtocolError(f"a message of {len(text)} bytes is longer than {MAX_MESSAGE}")
    return _HEADER.pack(len(text)) + text


class Decoder:
    """Turns a stream of bytes, however cut, into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Takes more bytes, gives the messages that are complete now.

        Raises:
            ProtocolError: the bytes are no messages of ours.
        """
        self._buffer += data
        messages = []
        start = 0
        while len(self._buffer) - start >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer, start)
            if length > MAX_MESSAGE:
                raise ProtocolError(f"a message announces {length} bytes, over {MAX_MESSAGE}")
            end = start + _HEADER.size + length
            if len(self._buffer) < end:
                break
            messages.append(_parse(bytes(self._buffer[start + _HEADER.size : end])))
            start = end
        del self._buffer[:start]
        return messages


def _parse(text: bytes) -> Message:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a message is no JSON: {error}") from None
    if not isinstance(message, dict):
        raise ProtocolError(f"a message is a {type(message).__name__}, not an object")
    return message


def tune(connection: socket.socket) -> None:
    """Small messages at once; a dead machine is noticed by the kernels, in about half a minute.

    A process that is alive and busy is not taken for dead, however long it says nothing.
    """
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),  # ms, for what was sent
    ):
        connection.setsockopt(level, option, value)


def address_towards(host: str) -> str:
    """The address that this machine sends from when it talks to `host`. Nothing is sent."""
    try:
        family, _, _, _, target = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"
