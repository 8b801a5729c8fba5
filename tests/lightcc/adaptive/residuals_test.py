"""What TopK holds back survives another cut of the buckets, to the bit, in its place."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from taco.lightcc.adaptive.residuals import THRESHOLD_FIELDS, BucketState, join, split

shapes = st.lists(st.lists(st.integers(0, 4), max_size=3).map(torch.Size), min_size=1, max_size=6)


def named(shapes):
    return [(f"p{at}", shape) for at, shape in enumerate(shapes)]


def state_of(shapes, seed, velocity):
    count = sum(shape.numel() for shape in shapes)
    random = torch.Generator().manual_seed(seed)
    return BucketState(
        0.9 if velocity else 0.0,
        torch.randn(count, generator=random),
        torch.randn(count, generator=random) if velocity else None,
    )


@settings(deadline=None)
@given(shapes, st.integers(0, 99), st.booleans())
def test_join_is_the_reverse_of_split(shapes, seed, velocity):
    state = state_of(shapes, seed, velocity)
    parts = split(state, named(shapes))
    for name, shape in named(shapes):
        assert parts[name]["residual"].shape == shape
        assert ("velocity" in parts[name]) == velocity
    again = join(parts, named(shapes), state.momentum)
    assert torch.equal(again.residual, state.residual)
    assert again.velocity is None if not velocity else torch.equal(again.velocity, state.velocity)
    assert (again.momentum, again.family, again.thresholds) == (state.momentum, "", {})


@settings(deadline=None)
@given(shapes, st.integers(0, 99), st.data())
def test_another_cut_in_another_order_keeps_everything(shapes, seed, data):
    parts = split(state_of(shapes, seed, True), named(shapes))
    order = data.draw(st.permutations(named(shapes)))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(order)), max_size=3)) | {0, len(order)})
    again = {}
    for low, high in zip(cuts, cuts[1:], strict=False):
        again |= split(join(parts, order[low:high]), order[low:high])
    assert set(again) == set(parts)
    for name, kinds in parts.items():
        for kind, tensor in kinds.items():
            assert torch.equal(again[name][kind], tensor)


def test_parts_are_views_and_joining_copies():
    state = state_of([torch.Size([3]), torch.Size([2, 2])], 1, False)
    shapes = named([torch.Size([3]), torch.Size([2, 2])])
    parts = split(state, shapes)
    parts["p1"]["residual"].zero_()
    assert torch.equal(state.residual[3:], torch.zeros(4))
    joined = join(parts, shapes)
    joined.residual.fill_(7.0)
    assert not (state.residual == 7.0).any()


def test_what_nobody_held_back_is_nothing():
    shapes = named([torch.Size([3]), torch.Size([2])])
    assert split(BucketState(), shapes) == {}
    assert join({}, shapes).empty
    some = join({"p1": {"residual": torch.ones(2)}, "other": {"residual": torch.ones(9)}}, shapes)
    assert some.residual.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert some.velocity is None
    assert not some.empty


def test_parts_of_other_kinds_of_number_become_float32():
    parts = {"p0": {"residual": torch.ones(2, dtype=torch.float64, requires_grad=True)}}
    residual = join(parts, named([torch.Size([2])])).residual
    assert (residual.dtype, residual.requires_grad) == (torch.float32, False)


def test_a_part_of_another_size_is_named():
    with pytest.raises(ValueError, match="the residual of p0 has 3 elements, the parameter 2"):
        join({"p0": {"residual": torch.ones(3)}}, named([torch.Size([2])]))


def test_another_number_of_elements_begins_anew():
    state = BucketState(0.9)
    state.prepare(4)
    state.threshold(0)[0] = 1.0
    state.residual.fill_(1.0)
    state.prepare(4)
    assert (float(state.residual.sum()), len(state.thresholds)) == (4.0, 1)
    state.prepare(5)
    assert (state.residual.tolist(), state.velocity.numel(), state.thresholds) == ([0.0] * 5, 5, {})


def test_norms_are_those_of_all_chunks():
    state = BucketState()
    assert state.norms() == (0.0, 0.0)
    for low, (before, after) in {0: (9.0, 1.0), 100: (16.0, 3.0)}.items():
        assert state.threshold(low).shape == (THRESHOLD_FIELDS,)
        state.threshold(low)[6:] = torch.tensor([before, after])
    assert state.norms() == (5.0, 2.0)
    state.threshold(0)[6] = math.nan
    assert math.isnan(state.norms()[0])
