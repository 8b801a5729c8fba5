"""Ranks of a machine that read each other's memory: the same promises as over Gloo alone."""

from pathlib import Path

import pytest

from tests.lightcc.patterns._gloo import finish, start


def _all_well(results: list[tuple[int, str]]) -> None:
    for rank, (status, output) in enumerate(results):
        assert status == 0, f"rank {rank}: {output}"


@pytest.mark.parametrize(
    "machines", [[[0, 1]], [[0, 1, 2]], [[0], [1, 2]], [[0, 1], [2, 3]], [[0, 1, 2, 3]]]
)
def test_all_patterns_give_the_reference(tmp_path: Path, machines: list[list[int]]) -> None:
    size = sum(map(len, machines))
    _all_well(finish(start(tmp_path, size, "all_patterns", machines=machines)))


def test_sends_and_receives_behave_as_the_transport_promises(tmp_path: Path) -> None:
    _all_well(finish(start(tmp_path, 2, "point_to_point", machines=[[0, 1]])))


def test_where_one_is_not_willing_all_go_through_the_group(tmp_path: Path) -> None:
    children = start(tmp_path, 3, "all_patterns", machines=[[0, 1, 2]], unwilling=[1])
    _all_well(finish(children))


def test_a_dead_rank_makes_all_others_raise_within_the_timeout(tmp_path: Path) -> None:
    results = finish(start(tmp_path, 4, "one_dies", timeout=10.0, machines=[[0, 1], [2, 3]]))
    assert [status for status, _ in results] == [4, 3, 4, 4], results


def test_a_wrong_length_is_an_error_that_names_both(tmp_path: Path) -> None:
    _all_well(finish(start(tmp_path, 2, "wrong_length", machines=[[0, 1]])))


def test_leaving_ends_waits(tmp_path: Path) -> None:
    _all_well(finish(start(tmp_path, 2, "one_leaves", machines=[[0, 1]])))
