"""Buckets are cut where the last one is through soonest: exactly, against all cuts there are."""

import itertools
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taco.lightcc.adaptive.layout import PRICE, cut

COSTS = {
    "a start and bytes": lambda size: 1e-4 + size * 1e-9,
    "bytes": lambda size: size * 1e-9,
    "starts": lambda size: 2e-3,
    "free": lambda size: 0.0,
    # TopK from a megabyte on: a longer bucket may be the shorter way.
    "TopK from a threshold on": lambda size: 1e-4 + size * (1e-9 if size < 1 << 20 else 1e-10),
}


def paid(cuts, arrivals, sizes, cost):
    """When the last bucket is through, with the price of all."""
    through = 0.0
    for start, end in itertools.pairwise([0, *cuts]):
        through = max(through, arrivals[end - 1]) + cost(sum(sizes[start:end]))
    return through + PRICE * len(cuts)


def fits(cuts, sizes, limit):
    return all(
        end - start == 1 or sum(sizes[start:end]) <= limit
        for start, end in itertools.pairwise([0, *cuts])
    )


def all_cuts(count):
    for inner in itertools.product([False, True], repeat=count - 1):
        yield [at + 1 for at, here in enumerate(inner) if here] + [count]


gradients = st.lists(
    st.tuples(st.floats(0, 0.02), st.one_of(st.integers(0, 5000), st.integers(0, 8 << 20))),
    min_size=1,
    max_size=9,
)


@settings(max_examples=150, deadline=None)
@given(gradients, st.sampled_from(sorted(COSTS)), st.sampled_from([0, 1 << 20, 8 << 20, 1 << 30]))
def test_no_cuts_are_better(gradients, name, limit):
    arrivals = sorted(came for came, _ in gradients)
    sizes = [size for _, size in gradients]
    cost = COSTS[name]
    cuts = cut(arrivals, sizes, cost, limit)
    assert cuts[-1] == len(sizes)
    assert cuts == sorted(set(cuts))
    assert fits(cuts, sizes, limit)
    best = min(
        paid(each, arrivals, sizes, cost)
        for each in all_cuts(len(sizes))
        if fits(each, sizes, limit)
    )
    assert paid(cuts, arrivals, sizes, cost) <= best + 1e-12


def test_early_buckets_are_not_cut_for_a_gain_that_is_waited_for_anyway():
    # Ten gradients early on, one late: whenever the early ones are through, the late one is last.
    arrivals = [0.001 * at for at in range(10)] + [1.0]
    assert cut(arrivals, [1 << 20] * 11, COSTS["a start and bytes"], 1 << 30) == [10, 11]


def test_communication_that_is_slower_than_backward_goes_in_one_bucket_at_the_end():
    arrivals = [1e-4 * at for at in range(50)]
    cuts = cut(arrivals, [1000] * 50, lambda size: 5e-3, 1 << 30)
    assert cuts == [50]


def test_it_hides_what_it_can():
    # 100 gradients of a megabyte in 0.1 s, 1 ms each to reduce: all but the last hide.
    arrivals = [1e-3 * at for at in range(100)]
    sizes = [1 << 20] * 100
    cost = COSTS["bytes"]
    cuts = cut(arrivals, sizes, cost, 1 << 30)
    assert paid(cuts, arrivals, sizes, cost) < 0.115
    assert paid([100], arrivals, sizes, cost) > 0.2


def test_nothing_makes_no_bucket():
    assert cut([], [], COSTS["bytes"], 1 << 20) == []


@pytest.mark.parametrize("count", [257, 600, 3000])
@pytest.mark.parametrize("limit", [1, 3 << 20, 1 << 30])
def test_thousands_of_gradients_are_cut_within_the_limit_and_in_time(count, limit):
    rng = random.Random(count)
    sizes = [rng.choice([256, 4096, 1 << 20, 4 << 20]) for _ in range(count)]
    arrivals = sorted(rng.uniform(0, 0.3) for _ in range(count))
    cost = COSTS["a start and bytes"]
    started = time.process_time()
    cuts = cut(arrivals, sizes, cost, limit)
    assert time.process_time() - started < 10  # some tenths of a second, on an idle machine
    assert cuts[-1] == count
    assert fits(cuts, sizes, limit)
    # Neighbours are taken together: not much worse than cuts of even size.
    if limit == 1 << 30:
        even = [
            paid([*range(step, count, step), count], arrivals, sizes, cost)
            for step in (20, 50, 100, 200)
        ]
        assert paid(cuts, arrivals, sizes, cost) < 1.02 * min(even)
