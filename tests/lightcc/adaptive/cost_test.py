"""Predictions are sane for any ranks on any machines, and say what is known of networks."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taco.lightcc.adaptive.cost import NUMBERS, Costs, Link, predict
from taco.lightcc.adaptive.mode import DENSE, Mode
from taco.lightcc.adaptive.places import Levels, Place, levels_of

# 10 Gbit/s between machines, 10 GB/s inside; TopK's costs as measured on a processor core.
COSTS = Costs(Link(5e-6, 1e-10), Link(5e-5, 8e-10), 4e-10, 4e-9, 2e-10)


def machines(*ranks, racks=1):
    """Levels of machines with so many ranks each, dealt to racks in turn."""
    places = [
        Place(f"host{at}", f"rack{at * racks // len(ranks)}")
        for at, count in enumerate(ranks)
        for _ in range(count)
    ]
    return levels_of(places, range(len(places)))


def modes(levels):
    for deep in range(1, levels.deep + 1):
        for half in (False, True):
            yield Mode(deep, half=half)
            for balanced in (False, True):
                yield Mode(deep, 0.01, half, balanced)


links = st.builds(Link, st.floats(1e-7, 1e-2), st.floats(1e-12, 1e-6))
small = st.floats(1e-12, 1e-6)
costs = st.builds(Costs, links, links, small, small, small)
shapes = st.lists(st.integers(1, 8), min_size=1, max_size=9)


@given(costs, shapes, st.integers(1, 3), st.integers(0, 1 << 30), st.sampled_from([2, 4, 8]))
def test_any_mode_on_any_machines_takes_a_finite_time_that_grows(costs, ranks, racks, n, item):
    levels = machines(*ranks, racks=racks)
    for mode in modes(levels):
        time = predict(mode, n, item, levels, costs)
        assert math.isfinite(time)
        assert time >= 0
        assert predict(mode, 2 * n + 1, item, levels, costs) > time or sum(ranks) == 1


@given(costs)
def test_numbers_travel(costs):
    assert len(costs.numbers()) == NUMBERS
    assert Costs.of(costs.numbers()) == costs


@pytest.mark.parametrize("ranks", [(1,), (2,), (8,), (1, 1), (1, 1, 1, 1)])
def test_where_levels_make_no_sense_they_cost_as_flat(ranks):
    levels = machines(*ranks)
    assert predict(Mode(2), 1 << 20, 4, levels, COSTS) == predict(DENSE, 1 << 20, 4, levels, COSTS)


def test_one_rank_sends_nothing():
    assert predict(DENSE, 1 << 20, 4, machines(1), COSTS) == 0


def test_on_one_machine_the_network_does_not_matter():
    slow = Costs(COSTS.inside, Link(1.0, 1.0), COSTS.select, COSTS.scatter, COSTS.cast)
    for mode in (DENSE, Mode(half=True), Mode(1, 0.01)):
        assert predict(mode, 1 << 20, 4, machines(4), slow) == predict(
            mode, 1 << 20, 4, machines(4), COSTS
        )


def test_a_flat_ring_sends_twice_the_bytes():
    # 25.6 M gradients, 8 ranks on 8 machines: 2 * 7/8 of 102 MB at 1.25 GB/s.
    time = predict(DENSE, 25_600_000, 4, machines(*[1] * 8), COSTS)
    assert time == pytest.approx(2 * 7 / 8 * 102.4e6 * 8e-10, rel=0.01)


def test_slow_networks_make_two_levels_and_topk_worth_while_and_fast_ones_do_not():
    levels, n = machines(8, 8), 25_600_000
    flat, two, topk = (predict(m, n, 4, levels, COSTS) for m in (DENSE, Mode(2), Mode(2, 0.01)))
    assert topk < two < flat
    fast = Costs(COSTS.inside, COSTS.inside, COSTS.select, COSTS.scatter, COSTS.cast)
    assert predict(DENSE, n, 4, machines(1, 1), fast) < predict(
        Mode(1, 0.01), n, 4, machines(1, 1), fast
    )


def test_small_messages_are_bound_by_their_number():
    # 2 (G - 1) steps across in place of 2 (size - 1).
    levels = machines(8, 8)
    assert predict(Mode(2), 256, 4, levels, COSTS) < 0.3 * predict(DENSE, 256, 4, levels, COSTS)


def test_three_levels_save_steps():
    levels = machines(2, 2, 2, 2, 2, 2, 2, 2, racks=2)
    assert levels.deep == 3
    assert predict(Mode(3), 256, 4, levels, COSTS) < predict(Mode(2), 256, 4, levels, COSTS)
    large = [predict(Mode(deep), 1 << 26, 4, levels, COSTS) for deep in (2, 3)]
    assert large[1] == pytest.approx(large[0], rel=0.01)  # as many bytes


def test_many_ranks_make_lists_that_everybody_gathers_long():
    levels = machines(*[1] * 64)
    gathered, balanced = (
        predict(Mode(1, 0.05, balanced=each), 1 << 24, 4, levels, COSTS) for each in (False, True)
    )
    assert balanced < 0.3 * gathered


def test_uneven_machines_cost_as_their_fullest_one():
    even, uneven = machines(4, 4), machines(4, 1)
    assert predict(Mode(2), 1 << 24, 4, uneven, COSTS) == predict(Mode(2), 1 << 24, 4, even, COSTS)


def test_float16_halves_the_bytes_of_float32_alone():
    levels = machines(1, 1)
    slow = Costs(COSTS.inside, Link(0.0, 1e-6), 0.0, 0.0, 0.0)
    for item, factor in ((4, 0.5), (2, 1.0), (8, 1.0)):
        half = predict(Mode(half=True), 1 << 20, item, levels, slow)
        assert half == pytest.approx(factor * predict(DENSE, 1 << 20, item, levels, slow))


def test_levels_without_racks_have_two():
    assert Levels(((0, 1), (2, 3))).deep == 2
