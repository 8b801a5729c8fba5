"""Where to cut the order of arrival into buckets, so that communication hides behind backward."""

import functools
from collections.abc import Callable, Sequence

# What a bucket costs the processor, whenever it travels: threads that wake and ask each other.
PRICE = 3e-4
_MOST = 256  # gradients looked at one by one; neighbours are taken together above that

# One way to cut what has come so far: when it is through, in how many buckets, where the last one
# begins, and the way up to there.
_Way = tuple[float, int, int, "_Way | None"]


def cut(
    arrivals: Sequence[float],
    sizes: Sequence[int],
    cost: Callable[[int], float],
    limit: int,
) -> list[int]:
    """The cuts for which the last bucket is through soonest, the price of all buckets added.

    Buckets travel one after the other, each from when its last gradient has come. Found by dynamic
    programming over the position of the last cut. An early bucket more may cost nothing in the
    end, as the next one waits for its gradients anyway, or may cost its price: of each position
    all ways are kept that may still turn out best. So it is exact, for up to 256 gradients.

    Args:
        arrivals: seconds at which each gradient comes, ascending.
        sizes: bytes of each.
        cost: seconds that a bucket of so many bytes takes.
        limit: bytes of a bucket, unless one gradient alone is larger.

    Returns:
        For each bucket the position behind its last gradient; the last is len(sizes).
    """
    arrivals, sizes, ends = _coarse(arrivals, sizes, limit)
    cost = functools.cache(cost)
    total = [0]
    for size in sizes:
        total.append(total[-1] + size)
    ways: list[list[_Way]] = [[(0.0, 0, 0, None)]]  # of the first j gradients
    for j in range(1, len(sizes) + 1):
        soonest: dict[int, _Way] = {}  # by buckets
        for i in range(j - 1, -1, -1):
            size = total[j] - total[i]
            if size > limit and j - i > 1:
                break
            took = cost(size)
            for way in ways[i]:
                through = max(way[0], arrivals[j - 1]) + took
                known = soonest.get(way[1] + 1)
                if known is None or through < known[0]:
                    soonest[way[1] + 1] = (through, way[1] + 1, i, way)
                if way[0] <= arrivals[j - 1]:
                    break  # those behind have more buckets, and wait like this one
        ways.append(_promising(soonest, arrivals[-1]))
    best: _Way | None = min(ways[-1], key=_paid)
    cuts, at = [], len(sizes)
    while at and best is not None:
        cuts.append(ends[at - 1])
        at, best = best[2], best[3]
    return cuts[::-1]


def _paid(way: _Way) -> float:
    return way[0] + PRICE * way[1]


def _promising(soonest: dict[int, _Way], last: float) -> list[_Way]:
    """The ways that may turn out best, fewest buckets first, and so latest first.

    More buckets have to pay. Fewer buckets win if what they are late is waited for anyway: but
    nobody waits longer than until the last gradient comes.
    """
    front: list[_Way] = []
    for _, way in sorted(soonest.items()):
        if not front or _paid(way) < _paid(front[-1]):
            front.append(way)
    return [
        way
        for at, way in enumerate(front)
        if all(_paid(way) - _paid(other) < last - other[0] for other in front[at + 1 :])
    ]


def _coarse(
    arrivals: Sequence[float], sizes: Sequence[int], limit: int
) -> tuple[Sequence[float], Sequence[int], Sequence[int]]:
    """About _MOST entries, each of neighbours that fit the limit; and the position behind each."""
    step = -(-len(sizes) // _MOST)
    ends: list[int] = []
    count = filled = 0
    for position, size in enumerate(sizes):
        if count == step or (count and filled + size > limit):
            ends.append(position)
            count = filled = 0
        count, filled = count + 1, filled + size
    ends += [len(sizes)] if sizes else []
    starts = [0, *ends[:-1]]
    pairs = list(zip(starts, ends, strict=False))
    return (
        [arrivals[end - 1] for _, end in pairs],
        [sum(sizes[start:end]) for start, end in pairs],
        ends,
    )
