"""Groups are found from what ranks say of themselves, and are what the patterns take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taco.lightcc.adaptive.places import Levels, Place, levels_of
from taco.lightcc.patterns.plan import checked_levels

places = st.lists(st.builds(Place, st.sampled_from("abcde"), st.sampled_from("xyz")), min_size=1)


def spread(text):
    """Places as "a a b", or "a/x a/x b/y" with racks."""
    return [Place(*each.split("/")) for each in text.split()]


@given(places, st.data())
def test_patterns_take_the_groups_of_any_ranks(places, data):
    ranks = data.draw(st.permutations(range(len(places))))[: data.draw(st.integers(1, len(places)))]
    size = data.draw(st.one_of(st.none(), st.integers(1, len(places) + 1)))
    levels = levels_of(places, ranks, size)
    for wanted in range(1, 5):
        found = levels.of(wanted)
        checked_levels(len(ranks), found)  # raises if they are no partitions, or cut one another
        assert len(found) == min(wanted, levels.deep) - 1
    assert sorted(rank for (rank,) in levels.singles) == list(range(len(ranks)))
    for a in range(len(ranks)):
        for b in range(len(ranks)):
            inside = any(a in group and b in group for group in levels.hosts)
            assert (levels.level_between(a, b) == "inside") == inside
            assert levels.level_between(a, b) == levels.level_between(b, a)
            if size is None:
                assert inside == (places[ranks[a]].host == places[ranks[b]].host)


@pytest.mark.parametrize(
    ("text", "deep"),
    [
        ("a", 1),
        ("a a a", 1),  # one machine
        ("a b c", 1),  # a rank each
        ("a a b", 2),
        ("a b a b", 2),
        ("a/x a/x b/x b/x", 2),  # one rack
        ("a/x a/x b/y b/y", 2),  # a machine each
        ("a/x a/x b/x b/x c/y", 3),
        ("a/x a/x b/x b/x c", 2),  # one does not know its rack
        ("a/x b/x c/y d/y", 1),  # no two ranks share a machine
    ],
)
def test_how_many_levels_make_sense(text, deep):
    places = spread(text)
    assert levels_of(places, range(len(places))).deep == deep


def test_groups_are_positions_in_the_set_not_ranks():
    assert levels_of(spread("a b a b c"), [4, 3, 1]).hosts == ((0,), (1, 2))


def test_a_machine_is_in_one_rack_whatever_its_ranks_say():
    levels = levels_of(spread("a/x a/y b/x c/y c/y"), range(5))
    assert levels.racks == ((0, 1, 2), (3, 4))


def test_the_users_groups_come_before_machines():
    levels = levels_of(spread("a a a a a"), range(5), 2)
    assert levels == Levels(((0, 1), (2, 3), (4,)))
    assert levels.deep == 2
    assert levels.level_between(1, 2) == "across"


def test_racks_lie_between():
    levels = levels_of(spread("a/x a/x b/x c/y"), range(4))
    assert [levels.level_between(0, other) for other in (1, 2, 3)] == ["inside", "rack", "across"]
