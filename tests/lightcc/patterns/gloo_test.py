"""The patterns over real Gloo processes on the loopback."""

from pathlib import Path

import pytest

from tests.lightcc.patterns._gloo import finish, start


def _all_well(results: list[tuple[int, str]]) -> None:
    for rank, (status, output) in enumerate(results):
        assert status == 0, f"rank {rank}: {output}"


@pytest.mark.parametrize("size", [2, 3, 4])
def test_all_patterns_give_the_reference(tmp_path: Path, size: int) -> None:
    _all_well(finish(start(tmp_path, size, "all_patterns")))


def test_sends_and_receives_behave_as_the_transport_promises(tmp_path: Path) -> None:
    _all_well(finish(start(tmp_path, 2, "point_to_point")))


def test_a_dead_rank_makes_all_others_raise_within_the_timeout(tmp_path: Path) -> None:
    results = finish(start(tmp_path, 4, "one_dies", timeout=10.0))
    assert [status for status, _ in results] == [4, 3, 4, 4], results
