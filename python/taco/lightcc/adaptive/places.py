"""Which ranks share a machine or a rack: the levels of an allreduce."""

from collections.abc import Sequence
from dataclasses import dataclass

Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Place:
    """Where one rank runs.

    Attributes:
        host: its machine.
        rack: its rack or zone; empty if nobody says.
    """

    host: str
    rack: str = ""


@dataclass(frozen=True)
class Levels:
    """The groups of a set of ranks, as positions in the set.

    Attributes:
        hosts: the ranks of each machine.
        racks: the ranks of each rack; empty if there is only one, or each machine has its own.
    """

    hosts: Groups
    racks: Groups = ()

    @property
    def deep(self) -> int:
        """How many levels make sense: 1, 2 or 3."""
        if len(self.hosts) < 2 or all(len(group) == 1 for group in self.hosts):
            return 1
        return 3 if self.racks else 2

    def of(self, levels: int) -> list[Groups]:
        """What `patterns.hierarchical` takes for so many levels, as far as they make sense."""
        return [self.hosts, self.racks][: max(0, min(levels, self.deep) - 1)]

    @property
    def singles(self) -> Groups:
        """Every rank a group of its own."""
        return tuple((rank,) for group in self.hosts for rank in group)

    def level_between(self, a: int, b: int) -> str:
        """The slowest level between two ranks: "inside", "rack" or "across"."""
        if any(a in group and b in group for group in self.hosts):
            return "inside"
        if any(a in group and b in group for group in self.racks):
            return "rack"
        return "across"


def levels_of(
    places: Sequence[Place], ranks: Sequence[int], intra_size: int | None = None
) -> Levels:
    """The groups of some ranks.

    Args:
        places: of every rank of the job.
        ranks: the members, in order.
        intra_size: so many neighbours are a group, whatever the machines; None: the machines are.
    """
    count = len(ranks)
    if intra_size is not None:
        starts = range(0, count, intra_size)
        return Levels(tuple(tuple(range(at, min(at + intra_size, count))) for at in starts))
    hosts = _grouped([places[rank].host for rank in ranks])
    names = [places[rank].rack for rank in ranks]
    racks: Groups = ()
    if all(names):
        # A machine is in one rack: that of its first rank.
        first = {rank: group[0] for group in hosts for rank in group}
        found = _grouped([names[first[rank]] for rank in range(count)])
        racks = found if 1 < len(found) < len(hosts) else ()
    return Levels(hosts, racks)


def _grouped(names: Sequence[str]) -> Groups:
    groups: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        groups.setdefault(name, []).append(position)
    return tuple(tuple(group) for group in groups.values())
