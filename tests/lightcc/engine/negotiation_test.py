"""Ranks that agree run, in one order; ranks that differ get a sentence; nobody waits in vain."""

import dataclasses
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taco.lightcc.engine import requests as rq
from taco.lightcc.engine.negotiation import Negotiation
from taco.lightcc.engine.requests import Request, TensorSpec, request_from_json, to_json

F32 = TensorSpec("float32", (4, 2))


def allreduce(name="t", **changes):
    return Request(rq.ALLREDUCE, name, tensors=(F32,), op="sum", **changes)


def submit_all(negotiation, request, ranks):
    for rank in ranks:
        negotiation.submit(rank, request, 0.0)
    return negotiation.take()


def test_nothing_is_ready_before_the_last_rank_and_one_response_after():
    negotiation = Negotiation(3, 0)
    assert submit_all(negotiation, allreduce(), [2, 0]) == []
    (response,) = submit_all(negotiation, allreduce(), [1])
    assert response.names == ("t",)
    assert response.ranks == (0, 1, 2)
    assert not response.error
    assert submit_all(negotiation, allreduce(), [0]) == []  # the name can be used again


@given(st.integers(1, 5), st.integers(1, 12), st.randoms(use_true_random=False))
def test_whatever_the_order_of_submission_every_name_runs_once(size, names, rng):
    work = [(rank, f"t{i}") for rank in range(size) for i in range(names)]
    rng.shuffle(work)
    negotiation = Negotiation(size, 1 << 20)
    responses = []
    for rank, name in work:
        negotiation.submit(rank, allreduce(name), 0.0)
        if rng.random() < 0.3:
            responses += negotiation.take()
    responses += negotiation.take()
    ran = list(itertools.chain.from_iterable(response.names for response in responses))
    assert sorted(ran) == sorted(f"t{i}" for i in range(names))
    assert not any(response.error for response in responses)
    assert list(negotiation.waiting()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": rq.ALLGATHER, "op": ""}, "operations"),
        ({"tensors": (TensorSpec("int32", (4, 2)),)}, "data types"),
        ({"tensors": (TensorSpec("float32", (8,)),)}, "shapes"),
        ({"tensors": (TensorSpec("float32", (4, 2), "cuda"),)}, "devices"),
        ({"tensors": (F32, F32)}, "numbers of tensors"),
        ({"op": "max"}, "reduction ops"),
        ({"prescale": 2.0}, "prescale"),
        ({"postscale": -1.0}, "postscale"),
        ({"mode": "topk"}, "modes"),
    ],
)
def test_a_difference_is_an_error_for_all_that_names_ranks(change, words):
    negotiation = Negotiation(2, 0)
    negotiation.submit(0, allreduce(), 0.0)
    negotiation.submit(1, dataclasses.replace(allreduce(), **change), 0.0)
    (response,) = negotiation.take()
    assert words in response.error
    assert "rank 0" in response.error
    assert "rank 1" in response.error
    assert response.ranks == (0, 1)


def test_a_rank_that_cannot_take_part_fails_the_others():
    negotiation = Negotiation(2, 0)
    negotiation.submit(0, Request(rq.ALLTOALL, "a", invalid="3 rows for 2 ranks"), 0.0)
    negotiation.submit(1, Request(rq.ALLTOALL, "a", tensors=(F32,)), 0.0)
    (response,) = negotiation.take()
    assert response.error == "a: rank 0: 3 rows for 2 ranks"


def test_gathers_may_differ_in_their_first_dimension_alone():
    negotiation = Negotiation(2, 0)
    for rank, rows in enumerate((3, 0)):
        spec = TensorSpec("int64", (rows, 5))
        negotiation.submit(rank, Request(rq.ALLGATHER, "g", tensors=(spec,)), 0.0)
    (response,) = negotiation.take()
    assert response.lengths == ((3, 0),)


def test_a_rank_that_joined_is_not_waited_for_in_sums():
    negotiation = Negotiation(3, 0)
    negotiation.submit(1, Request(rq.JOIN, "join"), 0.0)
    (response,) = submit_all(negotiation, allreduce(), [0, 2])
    assert response.joined == (1,)
    assert response.ranks == (0, 1, 2)
    (response,) = submit_all(negotiation, dataclasses.replace(allreduce(), op="max"), [0, 2])
    assert "rank 1 has joined" in response.error
    submit_all(negotiation, Request(rq.JOIN, "join"), [2])
    (response,) = submit_all(negotiation, Request(rq.JOIN, "join"), [0])
    assert response.last_joined == 0


def test_a_rank_that_left_fails_what_waits_and_what_comes():
    negotiation = Negotiation(3, 0)
    submit_all(negotiation, allreduce("before"), [0])
    negotiation.leave(2, "has shut down")
    (response,) = negotiation.take()
    assert response.error == "before: rank 2 has shut down"
    (response,) = submit_all(negotiation, allreduce("after"), [1])
    assert "rank 2 has shut down" in response.error


def test_process_sets_have_members_of_their_own():
    negotiation = Negotiation(4, 0)
    (made,) = submit_all(negotiation, Request(rq.ADD_SET, "s", ranks=(1, 3)), range(4))
    request = allreduce(set_id=made.new_set)
    assert submit_all(negotiation, request, [1]) == []
    (response,) = submit_all(negotiation, request, [3])
    assert response.ranks == (1, 3)
    (response,) = submit_all(negotiation, request, [0])
    assert "rank 0 is not in it" in response.error
    submit_all(negotiation, Request(rq.REMOVE_SET, "r", ranks=(made.new_set,)), range(4))
    (response,) = submit_all(negotiation, request, [1])
    assert "does not exist" in response.error


def test_who_waits_for_whom_is_told():
    negotiation = Negotiation(3, 0)
    negotiation.submit(1, allreduce(), 7.0)
    ((name, pending, missing),) = negotiation.waiting()
    assert (name, pending.since, missing) == ("t", 7.0, [0, 2])


@given(
    st.sampled_from(rq.KINDS),
    st.text(max_size=10),
    st.lists(st.tuples(st.sampled_from(["float32", "bool"]), st.lists(st.integers(0, 9)))),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.integers(-5, 5), max_size=4),
)
def test_a_request_survives_json(kind, name, tensors, factor, numbers):
    request = Request(
        kind,
        name,
        3,
        tuple(TensorSpec(dtype, tuple(shape)) for dtype, shape in tensors),
        prescale=factor,
        root=-7,
        splits=tuple(numbers),
        ranks=tuple(numbers),
    )
    assert request_from_json(json.loads(json.dumps(to_json(request)))) == request


@pytest.mark.parametrize(
    "data",
    [{}, {"kind": "allreduce"}, {"kind": "?", "name": "n"}, {"kind": "join", "name": 3},
     {"kind": "join", "name": "n", "more": 1}, {"kind": "join", "name": "n", "tensors": [1]},
     {"kind": "join", "name": "n", "splits": ["x"]}],
)  # fmt: skip
def test_what_is_no_request_is_refused(data):
    with pytest.raises(ValueError):
        request_from_json(data)
