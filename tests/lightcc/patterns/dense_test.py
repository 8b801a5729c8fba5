"""Rings and trees give the sum of all ranks, the same bits everywhere, for the fewest bytes."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from taco.lightcc.patterns import ring, tree
from taco.lightcc.patterns.reduction import Reduction

from tests.lightcc.patterns._worlds import reference, run, same_bits, sent, whole_numbers

SMALL = ring.RingOptions(piece_bytes=24, depth=2)
PATTERNS: dict[str, Callable[..., None]] = {
    "ring": lambda transport, tensor, op: ring.all_reduce(transport, tensor, op),
    "ring in pieces": lambda transport, tensor, op: ring.all_reduce(
        transport, tensor, op, options=SMALL
    ),
    "doubling": lambda transport, tensor, op: tree.all_reduce(transport, tensor, op),
    "halving": lambda transport, tensor, op: tree.all_reduce(transport, tensor, op, small_bytes=0),
}
FEW = settings(max_examples=40, deadline=None)


@FEW
@given(
    pattern=st.sampled_from(sorted(PATTERNS)),
    size=st.integers(1, 9),
    length=st.integers(0, 70),
    op=st.sampled_from(Reduction),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 99),
)
def test_is_the_reference_and_the_same_everywhere(
    pattern: str, size: int, length: int, op: Reduction, dtype: torch.dtype, seed: int
) -> None:
    limit = 1 if op is Reduction.PRODUCT else 4
    inputs = whole_numbers(size, length, dtype, seed, limit)
    results, _ = run(lambda transport, tensor: PATTERNS[pattern](transport, tensor, op), inputs)
    assert torch.equal(results[0].double(), reference(inputs, op))
    assert same_bits(results)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_adds_whatever_torch_adds(pattern: str, dtype: torch.dtype) -> None:
    inputs = [torch.tensor([0, 1, 1, 0, 1] * 5).to(dtype) for _ in range(3)]
    results, _ = run(lambda t, x: PATTERNS[pattern](t, x, Reduction.SUM), inputs)
    assert all(torch.equal(each, inputs[0] + inputs[1] + inputs[2]) for each in results)


@FEW
@given(size=st.integers(2, 7), seed=st.integers(0, 99), pattern=st.sampled_from(sorted(PATTERNS)))
def test_inexact_sums_have_the_same_bits_on_every_rank_and_in_every_run(
    size: int, seed: int, pattern: str
) -> None:
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(101, generator=generator) for _ in range(size)]
    inputs[0][3], inputs[1][3] = float("nan"), float("inf")
    first, _ = run(lambda t, x: PATTERNS[pattern](t, x, Reduction.SUM), inputs)
    second, _ = run(lambda t, x: PATTERNS[pattern](t, x, Reduction.SUM), inputs)
    assert same_bits([*first, *second])
    torch.testing.assert_close(
        first[0].double(), reference(inputs), rtol=1e-5, atol=1e-5, equal_nan=True
    )


@FEW
@given(
    length=st.integers(0, 40),
    cuts=st.lists(st.integers(0, 40), max_size=7),
    depth=st.integers(1, 5),
    piece=st.integers(1, 50),
)
def test_scatter_and_gather_take_any_parts(
    length: int, cuts: list[int], depth: int, piece: int
) -> None:
    bounds = [0, *sorted(min(cut, length) for cut in cuts), length]
    inputs = whole_numbers(len(bounds) - 1, length)
    want = reference(inputs)
    options = ring.RingOptions(piece, depth)

    def both(transport, tensor) -> None:
        part = ring.reduce_scatter(transport, tensor, bounds, options=options)
        low, high = bounds[transport.rank], bounds[transport.rank + 1]
        assert torch.equal(part.double(), want[low:high])
        tensor[:low], tensor[high:] = 7, 7
        ring.all_gather(transport, tensor, bounds, options=options)

    results, _ = run(both, inputs)
    assert all(torch.equal(each.double(), want) for each in results)


@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_a_ring_sends_no_more_than_it_must(size: int) -> None:
    inputs = whole_numbers(size, 84 * size)
    _, network = run(lambda t, x: ring.all_reduce(t, x), inputs)
    assert [sent(network, rank) for rank in range(size)] == [2 * (size - 1) * 84 * 4] * size


@pytest.mark.parametrize("size", [2, 4, 8])
def test_halving_and_doubling_sends_no_more_than_a_ring(size: int) -> None:
    inputs = whole_numbers(size, 84 * size)
    _, network = run(lambda t, x: tree.all_reduce(t, x, small_bytes=0), inputs)
    assert [sent(network, rank) for rank in range(size)] == [2 * (size - 1) * 84 * 4] * size


@FEW
@given(size=st.integers(1, 9), length=st.integers(0, 50), data=st.data())
def test_broadcast_gives_everybody_the_roots(size: int, length: int, data) -> None:
    root = data.draw(st.integers(0, size - 1))
    inputs = whole_numbers(size, length)
    results, network = run(lambda t, x: tree.broadcast(t, x, root, piece_bytes=20), inputs)
    assert all(torch.equal(each, inputs[root]) for each in results)
    assert sum(network.bytes.values()) == (size - 1) * length * 4


def test_nobody_passes_a_barrier_before_all_have_come() -> None:
    for size in range(1, 10):
        come: list[int] = []

        def meet(transport, tensor, come=come, size=size) -> None:
            come.append(transport.rank)
            tree.barrier(transport)
            assert len(come) == size

        run(meet, whole_numbers(size, 0))


def test_other_shapes_are_refused() -> None:
    for tensor in (torch.zeros(2, 3), torch.zeros(8)[::2]):
        for pattern in PATTERNS.values():
            with pytest.raises(ValueError, match="contiguous"):
                run(lambda t, x, p=pattern, y=tensor: p(t, y, Reduction.SUM), whole_numbers(2, 3))
    with pytest.raises(ValueError, match="bounds"):
        run(lambda t, x: ring.all_gather(t, x, [0, 4, 3]), whole_numbers(2, 3))
    with pytest.raises(ValueError, match="do not ascend"):
        run(lambda t, x: ring.all_gather(t, x, [0, 3, 1, 3]), whole_numbers(3, 3))
    with pytest.raises(ValueError, match="root"):
        run(lambda t, x: tree.broadcast(t, x, 2), whole_numbers(2, 3))
