"""A rank that dies at any point makes all the others raise; none waits for ever."""

import threading

import pytest
import torch
from taco.lightcc.patterns import (
    hierarchical,
    ring,
    sparse,
    sparse_balanced,
    sparse_hierarchical,
    tree,
)
from taco.lightcc.patterns.simulated import NetworkError, SimulatedNetwork

from tests.lightcc.patterns._worlds import lists

GROUPS = [[0, 1], [2, 3]]
CUT = hierarchical.HierarchicalOptions(chunk_bytes=400, inner=ring.RingOptions(40))
LISTS = lists(4, 1000, 50)


def _every_tenth(shard: torch.Tensor, low: int):
    return lists(1, shard.numel(), shard.numel() // 10)[0]


PATTERNS = {
    "ring": lambda t, x: ring.all_reduce(t, x, options=ring.RingOptions(100)),
    "doubling": lambda t, x: tree.all_reduce(t, x),
    "halving": lambda t, x: tree.all_reduce(t, x, small_bytes=0),
    "2d": lambda t, x: hierarchical.all_reduce(t, x, [GROUPS], options=CUT),
    "sparse": lambda t, x: sparse.all_reduce(t, LISTS[t.rank], x),
    "balanced": lambda t, x: sparse_balanced.all_reduce(t, LISTS[t.rank], 50, x),
    "2d sparse": lambda t, x: sparse_hierarchical.all_reduce(
        t, x, GROUPS, _every_tenth, sparse_hierarchical.SparseOptions(chunk_bytes=1000)
    ),
}


@pytest.mark.parametrize("victim", [0, 3])
@pytest.mark.parametrize("moment", [1, 2, 5])
@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_all_ranks_raise(pattern: str, victim: int, moment: int) -> None:
    network = SimulatedNetwork(4, timeout=5, fail_at={victim: moment})
    before = threading.active_count()
    _, errors = network.outcomes(lambda t: PATTERNS[pattern](t, torch.zeros(1000)))
    if pattern != "doubling" or moment < 5:  # four messages in all
        assert sorted(errors) == [0, 1, 2, 3]
        assert all(isinstance(error, NetworkError) for error in errors.values())
    assert threading.active_count() == before


def test_what_compress_raises_comes_out() -> None:
    def refuse(shard: torch.Tensor, low: int):
        raise OverflowError("no room")

    network = SimulatedNetwork(4, timeout=5)
    _, errors = network.outcomes(
        lambda t: sparse_hierarchical.all_reduce(t, torch.zeros(8000), GROUPS, refuse)
    )
    assert sorted(errors) == [0, 1, 2, 3]
    assert any(isinstance(error, OverflowError) for error in errors.values())
