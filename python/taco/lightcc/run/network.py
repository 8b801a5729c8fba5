"""Which hosts are this one, and under which address others reach it."""

import fcntl
import socket
import struct
from collections.abc import Iterable

_SIOCGIFADDR = 0x8915
_OUTSIDE = "192.0.2.1"  # belongs to nobody (RFC 5737): stands for the default route
_OWN_NAMES = ("localhost", "127.0.0.1", "::1")


def is_local(host: str) -> bool:
    """Whether a name or address means this host."""
    if host in _OWN_NAMES or host in (socket.gethostname(), socket.getfqdn()):
        return True
    address = _resolve(host)
    if address is None:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))  # possible with own addresses alone
        except OSError:
            return False
    return True


def own_address(hosts: Iterable[str], interface: str | None, anywhere: bool = False) -> str:
    """The address of this host for all ranks.

    Args:
        hosts: the job's hosts that are not this one.
        interface: the network interface to use, if the user named one.
        anywhere: whether other hosts may come later.

    Raises:
        OSError: the interface does not exist or has no IPv4 address.
    """
    others = list(hosts)
    if not others and not anywhere:
        return "127.0.0.1"
    if interface:
        return _interface_address(interface)
    for address in (*map(_resolve, others), _OUTSIDE):
        own = address and _towards(address)
        if own:
            return own
    return "127.0.0.1"


def _towards(address: str) -> str | None:
    """The own address from which packets to another one leave."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))  # sends nothing: asks the routing table
        except OSError:
            return None
        return str(probe.getsockname()[0])


def listen(everywhere: bool) -> socket.socket:
    """A listening socket at a free port: of all interfaces, or of loopback alone."""
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("" if everywhere else "127.0.0.1", 0))
    server.listen(4096)
    return server


def _resolve(host: str) -> str | None:
    try:
        return str(socket.getaddrinfo(host, None, socket.AF_INET)[0][4][0])
    except OSError:
        return None


def _interface_address(interface: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            request = struct.pack("256s", interface.encode()[:15])
            return socket.inet_ntoa(fcntl.ioctl(probe, _SIOCGIFADDR, request)[20:24])
        except OSError as error:
            raise OSError(f"network interface {interface!r}: {error.strerror}") from error
