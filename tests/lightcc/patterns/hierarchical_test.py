"""Two and three levels give a flat ring's sum, and spare the slow links."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from taco.lightcc.patterns import hierarchical, ring
from taco.lightcc.patterns.plan import contiguous
from taco.lightcc.patterns.reduction import Reduction

from tests.lightcc.patterns._worlds import reference, run, same_bits, whole_numbers

CUT = hierarchical.HierarchicalOptions(
    chunk_bytes=64, lanes=2, inner=ring.RingOptions(20, 2), outer=ring.RingOptions(12, 2)
)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    order=st.randoms(use_true_random=False),
    length=st.integers(0, 70),
    racks=st.integers(1, 3),
    op=st.sampled_from(Reduction),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int32]),
    options=st.sampled_from([None, CUT]),
)
def test_is_the_reference_for_any_groups(sizes, order, length, racks, op, dtype, options) -> None:
    ranks = list(range(sum(sizes)))
    order.shuffle(ranks)
    groups = []
    for size in sizes:
        groups.append(ranks[:size])
        del ranks[:size]
    upper = [sum(groups[at::racks], []) for at in range(min(racks, len(groups)))]
    limit = 1 if op is Reduction.PRODUCT else 4
    inputs = whole_numbers(sum(sizes), length, dtype, limit=limit)
    for levels in ([groups], [groups, upper]):
        results, _ = run(
            lambda t, x, levels=levels: hierarchical.all_reduce(t, x, levels, op, 0, options),
            inputs,
        )
        assert torch.equal(results[0].double(), reference(inputs, op))
        assert same_bits(results)


@pytest.mark.parametrize(
    "groups", [[[0, 1, 2], [3, 4, 5]], [[0, 1, 2], [3, 4]], [[0], [1, 2], [3]]]
)
def test_across_goes_what_has_to_and_no_more(groups: list[list[int]]) -> None:
    size, length = sum(map(len, groups)), 720
    _, network = run(
        lambda t, x: hierarchical.all_reduce(t, x, [groups]), whole_numbers(size, length)
    )
    machine = {rank: number for number, group in enumerate(groups) for rank in group}
    for number, group in enumerate(groups):
        across = sum(
            count
            for (src, dst), count in network.bytes.items()
            if src in group and machine[dst] != number
        )
        assert across == 2 * (len(groups) - 1) * length * 4 // len(groups)


def test_three_levels_spare_the_outermost() -> None:
    size, length = 8, 640
    levels = [contiguous(size, 2), contiguous(size, 4)]
    _, network = run(
        lambda t, x: hierarchical.all_reduce(t, x, levels), whole_numbers(size, length)
    )
    racks = sum(count for (src, dst), count in network.bytes.items() if src < 4 <= dst)
    machines = sum(count for (src, dst), count in network.bytes.items() if src < 2 <= dst < 4)
    assert racks == length * 4
    assert machines == length * 4


def test_inexact_sums_have_the_same_bits_on_every_rank_and_in_every_run() -> None:
    inputs = [torch.randn(999, generator=torch.Generator().manual_seed(r)) for r in range(5)]
    groups = [[0, 1, 2], [3, 4]]
    first, _ = run(lambda t, x: hierarchical.all_reduce(t, x, [groups], options=CUT), inputs)
    second, _ = run(lambda t, x: hierarchical.all_reduce(t, x, [groups], options=CUT), inputs)
    assert same_bits([*first, *second])
    torch.testing.assert_close(first[0].double(), reference(inputs), rtol=1e-5, atol=1e-5)


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="lanes"):
        hierarchical.HierarchicalOptions(lanes=0)
    with pytest.raises(ValueError, match="depth"):
        ring.RingOptions(depth=0)
    assert hierarchical.tags([[[0], [1]]], CUT) == 6
