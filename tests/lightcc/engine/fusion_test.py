"""What is fused, and what never is."""

import dataclasses

import pytest
from taco.lightcc.engine import requests as rq
from taco.lightcc.engine.fusion import fuse
from taco.lightcc.engine.requests import Response, TensorSpec


def response(name, elements=10, dtype="float32", **changes):
    base = Response(
        rq.ALLREDUCE, (name,), tensors=(TensorSpec(dtype, (elements,)),), counts=(1,), op="sum"
    )
    return dataclasses.replace(base, **changes)


def names(responses):
    return [each.names for each in responses]


def test_equal_allreduces_run_as_one_up_to_the_threshold():
    fused = fuse([response(n) for n in "abcde"], threshold=80)
    assert names(fused) == [("a", "b"), ("c", "d"), ("e",)]
    assert fused[0].counts == (1, 1)
    assert fused[0].nbytes == 80


def test_nothing_is_fused_with_a_threshold_of_nought():
    assert names(fuse([response("a"), response("b")], 0)) == [("a",), ("b",)]


@pytest.mark.parametrize(
    "change",
    [
        {"op": "max"},
        {"prescale": 0.5},
        {"postscale": 0.5},
        {"set_id": 1},
        {"joined": (1,)},
        {"error": "no"},
        {"mode": "2d"},
        {"kind": rq.ALLGATHER},
        {"tensors": (TensorSpec("float64", (10,)),)},
    ],
)
def test_what_differs_stays_apart(change):
    fused = fuse([response("a"), response("b", **change), response("c")], 1 << 20)
    assert names(fused) == [("a", "c"), ("b",)]


def test_adasum_is_never_fused():
    fused = fuse([response("a", op="adasum"), response("b", op="adasum")], 1 << 20)
    assert names(fused) == [("a",), ("b",)]
