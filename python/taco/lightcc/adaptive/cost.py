"""What a mode should cost: the time of an allreduce from a few measured numbers.

All times are in seconds. A link's message of b bytes takes `start + b * per_byte`.
"""

from dataclasses import astuple, dataclass

from taco.lightcc.adaptive.mode import Mode
from taco.lightcc.adaptive.places import Levels

# An index and a value: what a kept element costs on the wire. Indices are 32 bits.
_INDEX_BYTES = 4

NUMBERS = 7
"""How many `Costs.numbers()` gives."""


@dataclass(frozen=True)
class Link:
    """Between neighbours at one level, when all ranks of the level are busy.

    Attributes:
        start: of a message.
        per_byte: of a message's bytes.
    """

    start: float
    per_byte: float

    def time(self, count: float) -> float:
        return self.start + count * self.per_byte


@dataclass(frozen=True)
class Costs:
    """What was measured of a set of ranks.

    Attributes:
        inside: between ranks of a machine; with one rank a machine: a copy in memory.
        across: between machines; if there is one machine only: as inside.
        select: TopK's selection, an element.
        scatter: adding what arrived, a kept element.
        cast: to float16 and back, an element.
    """

    inside: Link
    across: Link
    select: float
    scatter: float
    cast: float

    def numbers(self) -> list[float]:
        """As seven numbers, for the wire."""
        return [*astuple(self.inside), *astuple(self.across), self.select, self.scatter, self.cast]

    @staticmethod
    def of(numbers: list[float]) -> "Costs":
        """The reverse of `numbers`."""
        a, b, c, d, *rest = numbers
        return Costs(Link(a, b), Link(c, d), *rest)


def predict(mode: Mode, elements: int, item_bytes: int, levels: Levels, costs: Costs) -> float:
    """Seconds that an allreduce should take.

    Args:
        mode: how.
        elements: of the tensor.
        item_bytes: of an element.
        levels: the groups of the ranks.
        costs: as measured.
    """
    groups = len(levels.hosts)
    ranks = sum(len(group) for group in levels.hosts)
    local = max(len(group) for group in levels.hosts)
    slow = costs.across if groups > 1 else costs.inside
    if mode.ratio:
        return _sparse(mode, elements, item_bytes, (ranks, groups, local), slow, costs)
    cast = 0.0
    if mode.half and item_bytes == 4:
        cast, item_bytes = elements * costs.cast, 2
    size = elements * item_bytes
    if mode.levels == 1 or levels.deep == 1:
        return cast + 2 * (ranks - 1) * slow.time(size / ranks)
    inner = 2 * (local - 1) * costs.inside.time(size / local)
    # All ranks of a machine share its link.
    outer = 2 * (groups - 1) * slow.time(size / groups)
    if mode.levels > 2 and levels.racks:  # as many bytes, in fewer steps
        racks = len(levels.racks)
        near = max(sum(group[0] in rack for group in levels.hosts) for rack in levels.racks)
        outer = 2 * (near - 1) * slow.time(size / near)
        outer += 2 * (racks - 1) * slow.time(size / near / racks)
    # The levels work at the same time, on different chunks.
    return cast + max(inner, outer) + min(inner, outer) / 4


def _sparse(
    mode: Mode,
    elements: int,
    item_bytes: int,
    shape: tuple[int, int, int],
    slow: Link,
    costs: Costs,
) -> float:
    ranks, groups, local = shape
    kept = elements * mode.ratio
    each = _INDEX_BYTES + (2 if mode.half else item_bytes)
    if mode.levels == 1 or local == 1:
        select = elements * costs.select
        if mode.balanced:
            return (
                select
                + 2 * ranks * slow.start
                + 6 * kept * each * slow.per_byte
                + (4 * kept * costs.scatter)
            )
        gather = (ranks - 1) * slow.time(kept * each)
        return select + gather + ranks * kept * costs.scatter
    dense = elements * item_bytes
    scatter_in = (local - 1) * costs.inside.time(dense / local)
    select = elements / local * costs.select
    gather = (groups - 1) * slow.time(kept * each)
    spread = (local - 1) * costs.inside.time(min(groups * kept * each, dense) / local)
    return scatter_in + select + gather + spread + groups * kept * costs.scatter
