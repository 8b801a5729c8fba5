"""Hosts, their slots, and which rank goes where."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_HOST = re.compile(r"([\w.-]+)(?::(\d+))?")
_LINE = re.compile(r"([\w.-]+)(?::(\d+))?(?:\s+slots\s*=\s*(\d+))?")


class HostsError(ValueError):
    """The hosts do not read as hosts, or do not suffice."""


@dataclass(frozen=True)
class Host:
    """A host, and how many ranks it takes."""

    name: str
    slots: int


@dataclass(frozen=True)
class Slot:
    """One rank's place; the numbers are those of `taco.lightcc.topology.Topology`."""

    hostname: str
    rank: int
    size: int
    local_rank: int
    local_size: int
    cross_rank: int
    cross_size: int

    @property
    def name(self) -> str:
        """The place, whichever rank it has: stable while the hosts of an elastic job change."""
        return f"{self.hostname}:{self.local_rank}"


def parse_hosts(text: str) -> list[Host]:
    """Reads `host1:2,host2:4`; one slot where no number stands.

    Raises:
        HostsError: this is no such list.
    """
    found = [_HOST.fullmatch(part.strip()) for part in text.split(",")]
    if not all(found):
        raise HostsError(f"-H {text!r} is not like worker-0:2,worker-1:2.")
    return _merged([Host(each[1], int(each[2] or 1)) for each in found if each])


def parse_hostfile(path: Path) -> list[Host]:
    """Reads a file with a line `host slots=2` for each host; `#` begins a comment.

    Raises:
        HostsError: it cannot be read, or a line is different.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise HostsError(f"--hostfile {path}: {error.strerror}.") from error
    hosts = []
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = _LINE.fullmatch(text)
        if found is None:
            raise HostsError(f"{path}:{number}: {line!r} is not like `host slots=2`.")
        hosts.append(Host(found[1], int(found[3] or found[2] or 1)))
    if not hosts:
        raise HostsError(f"--hostfile {path} names no host.")
    return _merged(hosts)


def _merged(hosts: Sequence[Host]) -> list[Host]:
    slots: dict[str, int] = {}
    for host in hosts:
        slots[host.name] = slots.get(host.name, 0) + host.slots
    return [Host(name, count) for name, count in slots.items()]


def assign(hosts: Sequence[Host], least: int, most: int | None) -> list[Slot]:
    """Fills the hosts with ranks, one host after the other.

    Args:
        hosts: in the order in which they are filled.
        least: ranks that there must be.
        most: ranks that there may be; None for as many as there are slots.

    Raises:
        HostsError: there are fewer than `least` slots.
    """
    counts: dict[str, int] = {}
    size = 0
    for host in hosts:
        counts[host.name] = host.slots if most is None else min(host.slots, most - size)
        size += counts[host.name]
    if size < least:
        raise HostsError(
            f"Requested more processes ({least}) than there are available slots ({size})."
        )
    slots: list[Slot] = []
    for index, (name, count) in enumerate(counts.items()):
        before = list(counts.values())[:index]
        for local in range(count):
            slots.append(
                Slot(
                    hostname=name,
                    rank=len(slots),
                    size=size,
                    local_rank=local,
                    local_size=count,
                    cross_rank=sum(each > local for each in before),
                    cross_size=sum(each > local for each in counts.values()),
                )
            )
    return slots


def local_sizes(slots: Sequence[Slot]) -> Mapping[str, int]:
    """Ranks on each host."""
    return {slot.hostname: slot.local_size for slot in slots}
