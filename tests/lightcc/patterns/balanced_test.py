"""The balanced exchange: the k largest sums, O(k) bytes a rank, and every cut returned."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from taco.lightcc.patterns import selection, sparse_balanced
from taco.lightcc.patterns.sparse_list import SparseList, accumulate
from taco.lightcc.patterns.sparse_wire import WireFormat

from tests.lightcc.patterns._worlds import (
    dense,
    lists,
    received,
    run,
    same_bits,
    sent,
    whole_numbers,
)

KINDS = ["random", "equal", "interleaved", "one region", "same dense start", "a block each"]


def _check(parts: list[SparseList], k: int, wire: WireFormat):
    """Runs the exchange, checks all it promises but the bytes, and returns the network."""
    size, length = len(parts), parts[0].length
    left = [torch.zeros(length) for _ in parts]

    def reduce(transport, out) -> None:
        part = parts[transport.rank]
        for lost in sparse_balanced.all_reduce(transport, part, k, out, wire):
            accumulate(left[transport.rank], lost)

    results, network = run(reduce, [torch.full((length,), 5.0) for _ in range(size)])
    total = sum(map(dense, parts))
    assert same_bits(results)
    if wire.value_dtype is None:
        want = total.abs().sort(descending=True).values[:k]
        got = results[0].double().abs().sort(descending=True).values
        assert torch.equal(got[:k], want)
        assert not bool(got[k:].any())
    assert torch.equal((results[0] + sum(left)).double(), total)
    return network


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [2, 3, 4, 7, 8, 13, 16, 32])
def test_at_most_six_k_words_a_rank(size: int, kind: str) -> None:
    k = max(128 * size, 512)
    network = _check(lists(size, 2 * k * size, k, kind=kind), k, WireFormat())
    for rank in range(size):
        assert sent(network, rank) <= 6 * k * 4
        assert received(network, rank) <= 6 * k * 4


@pytest.mark.parametrize("kind", ["random", "one region"])
def test_at_most_six_k_words_a_rank_of_64(kind: str) -> None:
    k = 128 * 64
    network = _check(lists(64, 2 * k * 64, k, kind=kind), k, WireFormat())
    assert max(max(sent(network, rank), received(network, rank)) for rank in range(64)) <= 24 * k


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 9),
    length=st.integers(1, 200),
    most=st.integers(0, 60),
    k=st.integers(1, 80),
    kind=st.sampled_from(KINDS),
    compact=st.booleans(),
    limit=st.sampled_from([2, 3, 1000]),
    seed=st.integers(0, 99),
)
def test_the_k_largest_sums_and_all_else_is_returned(
    size: int, length: int, most: int, k: int, kind: str, compact: bool, limit: int, seed: int
) -> None:
    _check(lists(size, length, most, seed, limit, kind), k, WireFormat(compact=compact))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_the_wire_rounds_off_is_returned(dtype: torch.dtype) -> None:
    parts = lists(4, 400, 90, limit=9_000)
    _check(parts, 90, WireFormat(dtype))


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 6),
    length=st.integers(0, 40),
    k=st.integers(1, 300),
    seed=st.integers(0, 99),
)
def test_the_kth_largest_of_all_ranks(size: int, length: int, k: int, seed: int) -> None:
    keys = [each.abs().int() for each in whole_numbers(size, length, torch.int64, seed, limit=20)]
    results: dict[int, tuple[int, int, int]] = {}

    def select(transport, own) -> None:
        results[transport.rank] = selection.kth_largest(transport, own, k, 0)

    run(select, keys)
    everything = torch.cat(keys).sort(descending=True).values
    if not len(everything):
        return
    key = int(everything[min(k, len(everything)) - 1])
    assert {each[0] for each in results.values()} == {key}
    above = int((everything > key).sum())
    assert above + sum(each[1] for each in results.values()) == min(k, len(everything))


def test_arguments_that_make_no_sense_are_refused() -> None:
    part = lists(1, 10, 3)[0]
    for k, length in ((0, 10), (3, 11)):
        with pytest.raises(ValueError, match="k = "):
            run(lambda t, x, k=k: sparse_balanced.all_reduce(t, part, k, x), [torch.zeros(length)])
