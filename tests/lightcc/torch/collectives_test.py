"""What every collective gives, on two and three ranks, against the same thing computed here."""

import pytest


@pytest.mark.parametrize("size", [2, 3])
def test_reductions_of_every_dtype(ranks, size):
    ranks(
        size,
        """
        ints = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
        floats = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
        for dtype in ints + floats:
            for shape in [(), (0,), (5,), (3, 4), (2, 3, 7)]:
                count = torch.Size(shape).numel()
                all_ranks = [(torch.arange(count).reshape(shape) % 3 + r + 1).to(dtype)
                             for r in range(size)]
                stacked = torch.stack([t.double() for t in all_ranks])
                expected = {
                    hvd.Sum: stacked.sum(0),
                    hvd.Min: stacked.min(0).values if count else stacked.sum(0),
                    hvd.Max: stacked.max(0).values if count else stacked.sum(0),
                    hvd.Product: stacked.prod(0),
                }
                for op, value in expected.items():
                    mine = all_ranks[rank].clone()
                    got = hvd.allreduce(mine, op=op)
                    assert got.dtype == dtype and got.shape == mine.shape
                    assert torch.equal(mine, all_ranks[rank]), "the input was changed"
                    assert torch.equal(got.double(), value), (dtype, shape, op, got, value)
                average = hvd.allreduce(all_ranks[rank], op=hvd.Average).double()
                mean = stacked.mean(0)
                if dtype in ints:
                    mean = mean.trunc()
                    assert torch.equal(average, mean.to(dtype).double()), (dtype, average, mean)
                else:
                    assert torch.allclose(average, mean, rtol=1e-2)
        """,
    )


def test_results_are_the_same_bits_on_all_ranks(ranks):
    ranks(
        3,
        """
        torch.manual_seed(rank)
        for op in (hvd.Sum, hvd.Average):
            reduced = hvd.allreduce(torch.randn(10_001), op=op)
            assert all(torch.equal(reduced, other) for other in hvd.allgather_object(reduced))
        """,
    )


def test_tensors_that_move(ranks):
    ranks(
        3,
        """
        for dtype in [torch.bool, torch.int16, torch.bfloat16, torch.complex64]:
            mine = torch.full((rank, 2), rank).to(dtype)  # rank 0 has no rows
            joined = hvd.allgather(mine)
            assert joined.tolist() == torch.cat(
                [torch.full((r, 2), r).to(dtype) for r in range(size)]).tolist()
            for root in range(size):
                assert torch.equal(hvd.broadcast(torch.full((3,), rank).to(dtype), root),
                                   torch.full((3,), root).to(dtype))
        rows = torch.arange(rank * 10, rank * 10 + 6)
        splits = torch.tensor([1, 0, 2])  # three rows stay here
        got, received = hvd.alltoall(rows, splits)
        start, length = [0, 1, 1][rank], [1, 0, 2][rank]
        assert got.tolist() == [r * 10 + start + i for r in range(size) for i in range(length)]
        assert received.tolist() == [length] * size
        shared = hvd.reducescatter(torch.ones(7, 2), op=hvd.Sum)  # 3, 2 and 2 rows
        assert shared.shape == ([3, 2, 2][rank], 2) and bool((shared == size).all())
        assert hvd.allgather(torch.tensor(float(rank))).tolist() == [0.0, 1.0, 2.0]
        """,
    )


def test_many_tensors_at_once_in_another_order_on_every_rank(ranks):
    ranks(
        3,
        """
        import random
        order = list(range(50))
        random.Random(rank).shuffle(order)
        handles = {i: hvd.allreduce_async(torch.full((i,), float(rank)), name=f"t{i}", op=hvd.Sum)
                   for i in order}
        for i in range(50):
            assert torch.equal(hvd.synchronize(handles[i]), torch.full((i,), 3.0))
        """,
    )


def test_disagreement_is_an_error_on_every_rank_and_the_job_goes_on(ranks):
    ranks(
        2,
        """
        def refused(call, *words):
            try:
                call()
            except (hvd.HorovodInternalError, ValueError) as error:
                assert all(word in str(error) for word in words), error
            else:
                raise AssertionError("no error")

        refused(lambda: hvd.allreduce(torch.ones(3 + rank), name="n"), "allreduce.n", "shapes",
                "rank 0", "rank 1")
        refused(lambda: hvd.allreduce(torch.ones(3, dtype=[torch.int32, torch.float32][rank])),
                "data types")
        refused(lambda: hvd.allreduce(torch.ones(3), op=[hvd.Sum, hvd.Max][rank]), "reduction ops")
        refused(lambda: hvd.broadcast(torch.ones(3), rank), "root ranks")
        refused(lambda: hvd.broadcast(torch.ones(3), 5), "root rank 5")
        # One rank's mistake does not leave the other waiting.
        refused(lambda: hvd.alltoall(torch.ones(2 + rank)))
        if rank == 0:
            refused(lambda: hvd.allreduce(torch.ones(3, 3).t()), "contiguous")
            refused(lambda: hvd.allreduce([1.0]), "torch.Tensor")
            refused(lambda: hvd.allreduce(torch.ones(3), op=17), "no reduction")
            refused(lambda: hvd.poll(12345), "handle")
        assert hvd.allreduce(torch.ones(1), op=hvd.Sum).item() == 2
        """,
    )


def test_joined_ranks_take_part_with_zeros(ranks):
    ranks(
        3,
        """
        for step in range(rank + 1):
            got = hvd.allreduce(torch.ones(4), op=hvd.Sum, name=f"s{step}")
            assert got[0].item() == size - step
        last = hvd.join()
        assert last == 2, last
        assert hvd.allreduce(torch.ones(1), op=hvd.Sum).item() == size
        """,
    )


def test_process_sets(ranks):
    ranks(
        4,
        """
        evens, odds = hvd.add_process_set([0, 2]), hvd.add_process_set(hvd.ProcessSet([1, 3]))
        mine = evens if rank % 2 == 0 else odds
        assert mine.size() == 2 and mine.rank() == rank // 2 and mine.included()
        got = hvd.allreduce(torch.tensor([rank]), op=hvd.Sum, process_set=mine)
        assert got.item() == (2 if rank % 2 == 0 else 4)
        assert hvd.broadcast_object(rank, mine.ranks[1], process_set=mine) == mine.ranks[1]
        other = odds if rank % 2 == 0 else evens
        try:
            hvd.allreduce(torch.ones(1), process_set=other)
        except ValueError as error:
            assert "not part of" in str(error)
        else:
            raise AssertionError
        assert hvd.remove_process_set(odds) and not hvd.remove_process_set(odds)
        try:
            hvd.add_process_set([0, 9])
        except ValueError as error:
            assert "ranks 0 to 3" in str(error)
        """,
    )


def test_adasum_of_two_and_four_ranks(ranks):
    for size in (2, 4):
        ranks(
            size,
            """
            def combine(a, b):
                dot, na, nb = (a * b).sum(), (a * a).sum(), (b * b).sum()
                return a * (1 - dot / (2 * na)) + b * (1 - dot / (2 * nb))

            tensors = [torch.randn(33, generator=torch.Generator().manual_seed(r),
                                   dtype=torch.float64) for r in range(size)]
            expected = list(tensors)
            while len(expected) > 1:
                expected = [combine(a, b) for a, b in zip(expected[::2], expected[1::2])]
            got = hvd.allreduce(tensors[rank].clone(), op=hvd.Adasum)
            assert torch.allclose(got, expected[0], rtol=1e-12)
            # Equal gradients are averaged, orthogonal ones added; nought changes nothing.
            assert torch.allclose(hvd.allreduce(torch.ones(4), op=hvd.Adasum), torch.ones(4))
            eye = torch.eye(size)[rank].contiguous()
            assert torch.allclose(hvd.allreduce(eye, op=hvd.Adasum), torch.ones(size))
            assert hvd.allreduce(torch.zeros(3), op=hvd.Adasum).tolist() == [0, 0, 0]
            """,
        )


def test_a_job_can_be_left_and_joined_again(ranks):
    ranks(
        2,
        """
        for _ in range(5):
            assert hvd.allreduce(torch.ones(1), op=hvd.Sum).item() == 2
            hvd.shutdown()
            assert not hvd.is_initialized()
            try:
                hvd.rank()
            except ValueError as error:
                assert "hvd.init()" in str(error)
            hvd.init()
        """,
    )
