"""The exchange of a bucket among many ranks, in threads."""

import pytest
import torch
from taco.lightcc.adaptive.residuals import BucketState
from taco.lightcc.hooks import exchange
from taco.lightcc.hooks.exchange import Selection, average
from taco.lightcc.hooks.held_back import Bucket, HeldBack
from taco.lightcc.patterns import sparse_balanced
from taco.lightcc.patterns.simulated import SimulatedNetwork


def _run(size, steps, selection, elements=4000, zero=lambda step: False):
    """What was applied, what is held back and what there was, summed over ranks and steps."""
    params = [torch.zeros(elements // 4), torch.zeros(elements - elements // 4)]
    buckets = [Bucket(params, BucketState(), 0) for _ in range(size)]
    maker = torch.Generator().manual_seed(size)
    applied, due = torch.zeros(elements).double(), torch.zeros(elements).double()
    for step in range(steps):
        grads = [torch.randn(elements, generator=maker) for _ in range(size)]
        for grad in grads:
            if zero(step):  # what is held back of it would be the largest
                grad *= 0.01
                grad[: elements // 4] = 0
            due += grad.double()
        results = SimulatedNetwork(size).run(
            lambda link, grads=grads: average(
                link, grads[link.rank], buckets[link.rank], selection
            ).clone()
        )
        assert all(torch.equal(each, results[0]) for each in results)
        if zero(step):
            assert not results[0][: elements // 4].any()
        applied += results[0].double() * size
    left = sum(bucket.state.residual.double() for bucket in buckets)
    return applied, left, due


@pytest.mark.parametrize("size", [2, 8, 9, 12])
def test_nothing_is_lost_among_many_ranks(size, monkeypatch):
    balanced = []
    original = sparse_balanced.all_reduce
    monkeypatch.setattr(
        sparse_balanced,
        "all_reduce",
        lambda *args, **options: balanced.append(1) or original(*args, **options),
    )
    applied, left, due = _run(size, 4, Selection(0.05))
    assert bool(left.any())
    assert torch.allclose(applied + left, due, rtol=1e-5, atol=1e-5)
    assert bool(balanced) == (size > 8)


@pytest.mark.parametrize("groups", [None, ((0, 1), (2, 3)), ((0, 1, 2), (3,))])
def test_nothing_is_sent_of_a_parameter_whose_gradient_is_zero(groups):
    """DDP would throw it away."""
    selection = Selection(0.05, groups=groups)
    applied, left, due = _run(4, 6, selection, zero=lambda step: step in (2, 3))
    assert torch.allclose(applied + left, due, rtol=1e-5, atol=1e-5)


def test_flushing_keeps_what_the_gradients_cannot_hold():
    bucket = Bucket([torch.zeros(3)], BucketState(residual=torch.tensor([1.0, 2.0**-12, 0.0])), 0)
    buffer = torch.tensor([1.0, 1.0, 0.0], dtype=torch.bfloat16)
    assert exchange.flush(buffer, bucket)
    assert buffer.tolist() == [2.0, 1.0, 0.0]
    assert bucket.state.residual.tolist() == [0.0, 2.0**-12, 0.0]


def test_buckets_that_are_cut_anew_keep_what_each_parameter_held_back():
    a, b, c = (torch.zeros(n) for n in (2, 3, 4))
    held_back = HeldBack()
    settled = []
    first = held_back.bucket([a, b], lambda: settled.append(1))
    first.state.residual = torch.arange(5.0)
    first.steps = 7
    held_back.bucket([c], lambda: settled.append(1))
    assert not settled
    new = held_back.bucket([c, a], lambda: settled.append(1))
    assert settled
    assert new.state.residual.tolist() == [0, 0, 0, 0, 0, 1]
    assert (new.steps, new.bounds) == (7, [0, 4, 6])
    last = held_back.bucket([b], lambda: None)
    assert last.state.residual.tolist() == [2, 3, 4]
    assert held_back.bucket([b], lambda: None) is last


def test_it_does_not_keep_the_parameters_alive():
    held_back = HeldBack()
    param = torch.zeros(5)
    held_back.bucket([param], lambda: None)
    assert len(held_back.record(0, 1)["parameters"]) == 1
    del param
    assert held_back.record(0, 1)["parameters"] == []
