"""Who reduces what at which level: worked out from the lengths alone, the same on every rank.

A group holds its sum in shards: each rank of it has the sum over the group of some interval. On
the way up, a group is made of the groups below it, its children. Their cuts differ when they are
of different size, so all cuts are taken together: between two neighbouring cuts, a segment, each
child has exactly one owner. The owners reduce-scatter their segment among themselves, and the new
group holds its sum in shards. Groups of 3 and 2 ranks, over a tensor of length 6:

    group a   |  rank 0 |  rank 1 |  rank 2 |
    group b   |    rank 3    |    rank 4    |
    segments  |  0,3    |1,3 |1,4 |   2,4   |

All bytes that cross between two groups are those of the segments, n in total, whatever the sizes.
"""

import dataclasses
import functools
from collections.abc import Sequence

Level = tuple[tuple[int, ...], ...]
"""A partition of all ranks into groups."""
Shard = tuple[int, int, int]
"""Low and high limit, and the rank that owns the sum of it."""


@dataclasses.dataclass(frozen=True)
class Segment:
    """Elements low to high, which `owners`, one of each child, reduce among themselves."""

    low: int
    high: int
    owners: tuple[int, ...]

    @property
    def bounds(self) -> list[int]:
        """The limits of the owners' shards within the segment."""
        length, parts = self.high - self.low, len(self.owners)
        return [length * part // parts for part in range(parts + 1)]

    def shards(self) -> list[Shard]:
        """What each owner has after the reduce-scatter."""
        cuts = [self.low + bound for bound in self.bounds]
        return list(zip(cuts, cuts[1:], self.owners, strict=False))


def contiguous(size: int, group_size: int) -> list[list[int]]:
    """Ranks 0 ... size - 1 in groups of `group_size`, the last of which may be smaller."""
    if group_size < 1:
        raise ValueError(f"a group of {group_size} ranks")
    return [list(range(at, min(at + group_size, size))) for at in range(0, size, group_size)]


def checked_levels(size: int, levels: Sequence[Sequence[Sequence[int]]]) -> tuple[Level, ...]:
    """The levels from the innermost outwards, closed by one group of all ranks.

    Args:
        size: number of ranks.
        levels: for each level its groups, as lists of ranks: machines, then perhaps racks.

    Raises:
        ValueError: a level is no partition of the ranks, or cuts a group of the level below.
    """
    result: list[Level] = []
    below: Level = tuple((rank,) for rank in range(size))
    for groups in [*levels, [list(range(size))]]:
        level = tuple(tuple(group) for group in groups if group)
        if sorted(rank for group in level for rank in group) != list(range(size)):
            raise ValueError(f"{groups} does not hold each of {size} ranks exactly once")
        for child in below:
            if not any(set(child) <= set(group) for group in level):
                raise ValueError(f"ranks {list(child)} of one group are in several of {groups}")
        result.append(level)
        below = level
    return tuple(result)


@functools.lru_cache(maxsize=256)
def plan(length: int, levels: tuple[Level, ...], rank: int) -> tuple[tuple[Segment, ...], ...]:
    """The segments that a rank takes part in, level by level, from the innermost outwards.

    Args:
        length: elements to reduce.
        levels: as `checked_levels` gives them.
        rank: whose part is wanted.
    """
    size = sum(map(len, levels[-1]))
    children: dict[tuple[int, ...], list[Shard]] = {(r,): [(0, length, r)] for r in range(size)}
    result = []
    for level in levels:
        own: list[Segment] = []
        groups = {}
        for group in level:
            members = set(group)
            inner = [shards for child, shards in children.items() if child[0] in members]
            segments = _refine(inner)
            groups[group] = [shard for segment in segments for shard in segment.shards()]
            own += [segment for segment in segments if rank in segment.owners]
        children = groups
        result.append(tuple(segment for segment in own if len(segment.owners) > 1))
    return tuple(result)


def _refine(children: Sequence[Sequence[Shard]]) -> list[Segment]:
    """The segments between the cuts of all children, none of them empty."""
    cuts = sorted({limit for shards in children for shard in shards for limit in shard[:2]})
    filled = [[shard for shard in shards if shard[0] < shard[1]] for shards in children]
    at = [0] * len(filled)
    segments = []
    for low, high in zip(cuts, cuts[1:], strict=False):
        for child, shards in enumerate(filled):
            while shards[at[child]][1] <= low:
                at[child] += 1
        owners = tuple(shards[at[child]][2] for child, shards in enumerate(filled))
        segments.append(Segment(low, high, owners))
    return segments
