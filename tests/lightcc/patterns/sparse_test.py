"""Sums of sparse lists: exact, the same everywhere, and nothing is lost without being returned."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from taco.lightcc.patterns import sparse, sparse_hierarchical
from taco.lightcc.patterns.plan import contiguous
from taco.lightcc.patterns.sparse_hierarchical import SparseOptions
from taco.lightcc.patterns.sparse_list import SparseList, accumulate
from taco.lightcc.patterns.sparse_wire import WireError, WireFormat

from tests.lightcc.patterns._worlds import dense, lists, run, same_bits, whole_numbers

FEW = settings(max_examples=40, deadline=None)


def _empty(size: int, length: int) -> list[torch.Tensor]:
    return [torch.full((length,), 5.0) for _ in range(size)]


@FEW
@given(
    size=st.integers(1, 9),
    length=st.integers(0, 300),
    k=st.integers(0, 60),
    compact=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_gather_is_the_sum_of_all_lists(
    size: int, length: int, k: int, compact: bool, seed: int
) -> None:
    parts = lists(size, length, k, seed)
    wire = WireFormat(compact=compact)
    results, _ = run(
        lambda t, x: sparse.all_reduce(t, parts[t.rank], x, wire), _empty(size, length)
    )
    assert torch.equal(results[0].double(), sum(map(dense, parts)))
    assert same_bits(results)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_the_wire_rounds_off_is_returned(dtype: torch.dtype) -> None:
    parts = lists(3, 500, 40, limit=100_000 if dtype is torch.bfloat16 else 60_000)
    left = [torch.zeros(500) for _ in parts]

    def reduce(transport, out) -> None:
        for lost in sparse.all_reduce(transport, parts[transport.rank], out, WireFormat(dtype)):
            accumulate(left[transport.rank], lost)

    results, _ = run(reduce, _empty(3, 500))
    assert same_bits(results)
    assert any(bool(each.any()) for each in left)
    assert torch.equal((results[0] + sum(left)).double(), sum(map(dense, parts)))


def test_lists_that_make_no_sense_are_refused() -> None:
    good = lists(1, 10, 3)[0]
    bad = {
        "ascend": SparseList(good.indices.flip(0), good.values, 10),
        "int32": SparseList(good.indices.long(), good.values, 10),
        "do not fit": SparseList(good.indices + 9, good.values, 10),
        "as many values": SparseList(good.indices, good.values[:1], 10),
        "32-bit": SparseList(good.indices, good.values, 1 << 31),
    }
    for complaint, part in bad.items():
        length = 10 if part.length == 10 else 0
        with pytest.raises(ValueError, match=f"{complaint}|does not fit"):
            run(lambda t, x, part=part: sparse.all_reduce(t, part, x), _empty(1, length))
    with pytest.raises(ValueError, match="does not fit"):
        run(lambda t, x: sparse.all_reduce(t, good, x), _empty(1, 11))


def _largest(shard: torch.Tensor, k: int) -> SparseList:
    indices = shard.abs().topk(min(k, len(shard))).indices.sort().values
    return SparseList(indices.int(), shard[indices], len(shard))


@FEW
@given(
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    length=st.integers(0, 120),
    k=st.integers(0, 50),
    chunk=st.integers(1, 400),
    compact=st.booleans(),
)
def test_two_levels_sum_what_compress_chose(
    sizes: list[int], length: int, k: int, chunk: int, compact: bool
) -> None:
    groups, at = [], 0
    for size in sizes:
        groups.append(list(range(at, at + size)))
        at += size
    inputs = whole_numbers(at, length, limit=50)
    options = SparseOptions(WireFormat(compact=compact), chunk_bytes=chunk)
    chosen = [torch.zeros(length) for _ in range(at)]

    def reduce(transport, tensor) -> None:
        def compress(shard: torch.Tensor, low: int) -> SparseList:
            part = _largest(shard, k)
            accumulate(chosen[transport.rank][low : low + len(shard)], part)
            return part

        sparse_hierarchical.all_reduce(transport, tensor, groups, compress, options)

    results, _ = run(reduce, inputs)
    assert same_bits(results)
    assert torch.equal(results[0], sum(chosen))
    if k >= length:
        assert torch.equal(results[0], sum(inputs))


def test_two_levels_send_lists_across_and_dense_shards_inside() -> None:
    groups, length, k = contiguous(4, 2), 4000, 20
    inputs = whole_numbers(4, length, limit=1000)

    def reduce(transport, tensor) -> None:
        sparse_hierarchical.all_reduce(transport, tensor, groups, lambda x, low: _largest(x, k))

    _, network = run(reduce, inputs)
    across = sum(count for (src, dst), count in network.bytes.items() if src < 2 <= dst)
    inside = network.bytes[0, 1]
    assert across == 2 * (8 * k + 32 + 8)  # two owners: list, header, its length
    assert 2 * length < inside < 2 * length + 8 * 2 * k + 200  # half of the tensor, then lists


def test_dense_lists_are_gathered_as_a_dense_shard() -> None:
    inputs = whole_numbers(4, 400, limit=9)

    def reduce(transport, tensor) -> None:
        sparse_hierarchical.all_reduce(
            transport, tensor, contiguous(4, 2), lambda x, low: _largest(x, len(x))
        )

    results, network = run(reduce, inputs)
    assert torch.equal(results[0], sum(inputs))
    assert network.bytes[0, 1] == 2 * 200 * 4 + 8


def test_two_levels_return_what_the_wire_rounds_off() -> None:
    inputs = whole_numbers(4, 300, limit=40_000)
    left = [torch.zeros(300) for _ in inputs]
    options = SparseOptions(WireFormat(torch.float16), chunk_bytes=400)

    def reduce(transport, tensor) -> None:
        lost = sparse_hierarchical.all_reduce(
            transport, tensor, [[0], [1, 2, 3]], lambda x, low: _largest(x, len(x)), options
        )
        for low, part in lost:
            accumulate(left[transport.rank][low : low + part.length], part)

    results, _ = run(reduce, [each / 4 for each in inputs])
    assert same_bits(results)
    assert torch.equal(results[0] + sum(left), sum(inputs) / 4)


def test_a_compress_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="length 3"):
        run(
            lambda t, x: sparse_hierarchical.all_reduce(
                t, x, [[0], [1]], lambda shard, low: lists(1, 3, 1)[0]
            ),
            whole_numbers(2, 9),
        )


def test_blobs_that_make_no_sense_are_refused() -> None:
    segment = sparse_hierarchical.Segment(0, 4, (0, 1))
    for table in ([], [8, -8], [8, 8], [1 << 40, 0]):
        blob = torch.tensor([*table, 0], dtype=torch.int64).view(torch.uint8)
        with pytest.raises(WireError, match="hold 2 lists"):
            sparse_hierarchical._parsed(blob[: 8 * len(table) + 8 * (len(table) > 0)], [segment])
