"""Order statistics over all ranks, by counting: limits of equal load, and the k-th largest value.

Both are exact, whatever the distribution, and cost a few rounds of a small allreduce; nothing is
estimated that an unusual distribution could upset.
"""

import torch

from taco.lightcc.patterns import tree
from taco.lightcc.patterns.gather import exchange_counts
from taco.lightcc.patterns.transport import Transport


def count(transport: Transport, numbers: torch.Tensor, tag: int) -> torch.Tensor:
    """Sums (m,) int32 over all ranks; at most 2 m words and a little are sent."""
    padded = numbers.new_zeros(max(len(numbers), transport.size))
    padded[: len(numbers)] = numbers
    tree.all_reduce(transport, padded, tag=tag, small_bytes=0)
    return padded[: len(numbers)]


def balanced_limits(
    transport: Transport, indices: torch.Tensor, length: int, tolerance: int, tag: int
) -> list[int]:
    """Limits of size regions of [0, length) that hold equal shares of all ranks' indices.

    The first guess is the mean of the ranks' own quantiles, as in Ok-Topk; usually it is good
    enough, and one round of counting says so. If not, each limit is found by bisection.

    Args:
        transport: joins the ranks.
        indices: (k,) int32, ascending.
        length: of the dense tensor.
        tolerance: elements that may lie on the wrong side of a limit, on top of those of one index.
        tag: of all messages.

    Returns:
        size + 1 ascending limits from 0 to `length`.
    """
    size = transport.size
    total = int(count(transport, torch.tensor([len(indices)], dtype=torch.int32), tag))
    targets = torch.arange(1, size) * total // size
    low, high = torch.zeros(size - 1, dtype=torch.int64), torch.full((size - 1,), length)
    if len(indices):
        own = indices[torch.arange(1, size) * len(indices) // size]
    else:
        own = torch.arange(1, size) * length // size
    guess = count(transport, (own // size).to(torch.int32), tag).long().clamp(1, max(length - 1, 1))
    best, error = torch.zeros(size - 1, dtype=torch.int64), targets.clone()
    while True:
        mine = torch.searchsorted(indices, guess.to(torch.int32))
        before = count(transport, mine.to(torch.int32), tag).long()
        missed = (before - targets).abs()
        best = torch.where(missed < error, guess, best)
        error = torch.minimum(error, missed)
        few = before < targets
        low, high = torch.where(few, guess, low), torch.where(few, high, guess)
        open_ = (error > tolerance) & (high - low > 1)
        if not bool(open_.any()):
            break
        guess = torch.where(open_, (low + high) // 2, guess)
    return [0, *torch.cummax(best, 0).values.tolist(), length]


def kth_largest(transport: Transport, keys: torch.Tensor, k: int, tag: int) -> tuple[int, int, int]:
    """The k-th largest key over all ranks, and how many to take so that there are k.

    Finds the key's bits from the highest down, several at a time: the more, the larger k is.

    Args:
        transport: joins the ranks.
        keys: (m,) int32, none negative.
        k: at least 1.
        tag: of all messages.

    Returns:
        The key; how many of the keys that equal it this rank may take, so that they are k with all
        larger ones of all ranks (the lowest ranks take first); how many keys there are in all.
    """
    total = int(count(transport, torch.tensor([len(keys)], dtype=torch.int32), tag))
    wanted = min(k, total)
    if wanted == 0:
        return 0, 0, 0
    width = bits_at_a_time(k, transport.size)
    prefix, left = 0, 31
    inside = keys
    while left:
        width = min(width, left)
        left -= width
        digits = (inside >> left) & ((1 << width) - 1)
        histogram = count(transport, torch.bincount(digits, minlength=1 << width).int(), tag)
        from_top = histogram.flip(0).cumsum(0)
        place = int(torch.searchsorted(from_top, wanted))
        wanted -= int(from_top[place - 1]) if place else 0
        digit = (1 << width) - 1 - place
        inside = inside[digits == digit]
        prefix |= digit << left
    own = torch.full((transport.size, 1), len(inside), dtype=torch.int32)
    ties = exchange_counts(transport, own, tag).squeeze(1)
    before = int(ties[: transport.rank].sum())
    return prefix, min(len(inside), max(0, wanted - before)), total


def bits_at_a_time(k: int, size: int) -> int:
    """The most bits whose counting costs at most k / 8 words, at least one."""
    words = [(-(-31 // bits) * 2 * max(1 << bits, size), bits) for bits in (11, 8, 6, 4, 3, 2)]
    return next((bits for cost, bits in words if 8 * cost <= k), 1)
