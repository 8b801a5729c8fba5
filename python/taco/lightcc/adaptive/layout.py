"""Where to cut the order of arrival into buckets, so that communication hides behind backward."""

from collections.abc import Callable, Sequence

# What a bucket costs the processor, whenever it travels: threads that wake and ask each other.
_PRICE = 3e-4
_MOST = 512  # gradients looked at one by one; neighbours are taken together above that


def cut(
    arrivals: Sequence[float],
    sizes: Sequence[int],
    cost: Callable[[int], float],
    limit: int,
) -> list[int]:
    """The cuts with which the last bucket is through soonest.

    Buckets travel one after the other, each from when its last gradient has come, and each has a
    price besides. Found by dynamic programming over the position of the last cut.

    Args:
        arrivals: seconds at which each gradient comes, ascending.
        sizes: bytes of each.
        cost: seconds that a bucket of so many bytes takes.
        limit: bytes of a bucket, unless one gradient alone is larger.

    Returns:
        For each bucket the position behind its last gradient; the last is len(sizes).
    """
    arrivals, sizes, ends = _coarse(arrivals, sizes)
    count = len(sizes)
    total = [0]
    for size in sizes:
        total.append(total[-1] + size)
    # For the first j gradients: (when they are through, with the price; without), and the last cut.
    best: list[tuple[float, float]] = [(0.0, 0.0)]
    before = [0]
    for j in range(1, count + 1):
        found: tuple[tuple[float, float], int] | None = None
        for i in range(j - 1, -1, -1):
            size = total[j] - total[i]
            if size > limit and j - i > 1:
                break
            through = max(best[i][1], arrivals[j - 1]) + cost(size)
            paid = best[i][0] - best[i][1]
            candidate = ((through + paid + _PRICE, through), i)
            if found is None or candidate < found:
                found = candidate
        assert found is not None
        best.append(found[0])
        before.append(found[1])
    cuts = []
    at = count
    while at:
        cuts.append(ends[at - 1])
        at = before[at]
    return cuts[::-1]


def _coarse(
    arrivals: Sequence[float], sizes: Sequence[int]
) -> tuple[Sequence[float], Sequence[int], Sequence[int]]:
    """At most _MOST entries, each of neighbours; and the position behind each."""
    count = len(sizes)
    step = -(-count // _MOST) if count else 1
    ends = [min(at + step, count) for at in range(0, count, step)]
    starts = [0, *ends[:-1]]
    pairs = list(zip(starts, ends, strict=True))
    return (
        [arrivals[end - 1] for _, end in pairs],
        [sum(sizes[start:end]) for start, end in pairs],
        ends,
    )
