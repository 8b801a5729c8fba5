"""Every element has one owner a group, whatever the groups' sizes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taco.lightcc.patterns.plan import checked_levels, contiguous, plan

SETTINGS = settings(max_examples=100, deadline=None)


@SETTINGS
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5), length=st.integers(0, 60))
def test_each_element_is_reduced_once_at_each_level(sizes: list[int], length: int) -> None:
    groups, at = [], 0
    for size in sizes:
        groups.append(list(range(at, at + size)))
        at += size
    levels = checked_levels(at, [groups])
    plans = [plan(length, levels, rank) for rank in range(at)]
    if len(groups) > 1:
        across = {segment for each in plans for segment in each[-1]}
        cover = sorted((segment.low, segment.high) for segment in across)
        assert [element for low, high in cover for element in range(low, high)] == list(
            range(length)
        )
        for segment in across:
            assert [sum(rank in group for rank in segment.owners) for group in groups] == [1] * len(
                groups
            )
    for group in groups:
        inside = {segment for rank in group for segment in plans[rank][0]}
        assert len(inside) == (len(group) > 1 and length > 0)


@SETTINGS
@given(size=st.integers(1, 20), inner=st.integers(1, 4), outer=st.integers(1, 3))
def test_all_owners_of_a_segment_know_of_it(size: int, inner: int, outer: int) -> None:
    levels = checked_levels(size, [contiguous(size, inner), contiguous(size, inner * outer)])
    plans = [plan(37, levels, rank) for rank in range(size)]
    for rank, stages in enumerate(plans):
        for level, segments in enumerate(stages):
            for segment in segments:
                assert rank in segment.owners
                assert all(segment in plans[owner][level] for owner in segment.owners)


@pytest.mark.parametrize(
    ("levels", "complaint"),
    [
        ([[[0, 1], [2]]], "exactly once"),
        ([[[0, 1], [1, 2, 3]]], "exactly once"),
        ([[[0, 1], [2, 4]]], "exactly once"),
        ([[[0, 1], [2, 3]], [[0, 2], [1, 3]]], "several of"),
    ],
)
def test_levels_that_make_no_sense_are_refused(levels: list, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        checked_levels(4, levels)


def test_contiguous_groups() -> None:
    assert contiguous(5, 3) == [[0, 1, 2], [3, 4]]
    with pytest.raises(ValueError, match="0 ranks"):
        contiguous(5, 0)
