"""Ranks that wait for one another are found out; ranks that can go on are left alone."""

import itertools
import random

import pytest
from taco.lightcc.engine import requests as rq
from taco.lightcc.engine.negotiation import Negotiation
from taco.lightcc.engine.requests import Request, TensorSpec

F32 = TensorSpec("float32", (2,))


def ask(negotiation, rank, kind, name, set_id=0, wait=True, now=0.0):
    full = f"{kind}.{name}"
    op = "sum" if kind == rq.ALLREDUCE else ""
    negotiation.submit(rank, Request(kind, full, set_id, (F32,), op=op), now)
    if wait:
        negotiation.wait(rank, set_id, full)


@pytest.mark.parametrize("names", [("a", "a"), ("noname.5", "noname.2")])
def test_two_kinds_under_one_name_are_an_error_on_every_rank(names):
    negotiation = Negotiation(3, 0)
    ask(negotiation, 0, rq.ALLREDUCE, names[0])
    ask(negotiation, 1, rq.ALLGATHER, names[1])
    assert negotiation.take() == []  # rank 2 has not come: it must hear of it, too
    ask(negotiation, 2, rq.ALLREDUCE, names[0])
    errors = negotiation.take()
    assert sorted(rank for error in errors for rank in error.ranks) == [0, 1, 2]
    for error in errors:
        assert "mismatched operations: rank 0 has allreduce, rank 1 has allgather" in error.error
    assert list(negotiation.waiting()) == []


def test_two_kinds_under_one_name_in_either_order_are_no_mismatch_while_ranks_go_on():
    negotiation = Negotiation(2, 0)
    ask(negotiation, 0, rq.ALLREDUCE, "a", wait=False)
    ask(negotiation, 1, rq.ALLGATHER, "a")
    ask(negotiation, 0, rq.ALLGATHER, "a")
    ask(negotiation, 1, rq.ALLREDUCE, "a")
    assert [response.error for response in negotiation.take()] == ["", ""]


def test_different_names_end_when_all_have_waited_long():
    negotiation = Negotiation(2, 0)
    ask(negotiation, 0, rq.ALLREDUCE, "loss", now=0.0)
    ask(negotiation, 1, rq.BARRIER, "noname.0", now=30.0)
    negotiation.end_deadlock(since=29.0)
    assert negotiation.take() == []
    negotiation.end_deadlock(since=30.0)
    errors = negotiation.take()
    assert sorted(rank for error in errors for rank in error.ranks) == [0, 1]
    assert "rank 0 for allreduce.loss, rank 1 for barrier.noname.0" in errors[0].error


def test_a_rank_that_computes_may_still_come():
    negotiation = Negotiation(3, 0)
    ask(negotiation, 0, rq.ALLREDUCE, "a")
    ask(negotiation, 1, rq.ALLREDUCE, "a")
    negotiation.end_deadlock(since=1e9)
    assert negotiation.take() == []


def test_a_rank_with_a_thread_that_can_go_on_is_not_stuck():
    negotiation = Negotiation(3, 0)
    ask(negotiation, 0, rq.ALLREDUCE, "a")
    ask(negotiation, 0, rq.ALLREDUCE, "b")  # another thread; rank 2 may come to it
    ask(negotiation, 1, rq.ALLGATHER, "c")
    ask(negotiation, 1, rq.ALLREDUCE, "b")
    negotiation.end_deadlock(since=1e9)
    assert negotiation.take() == []


def test_what_waits_in_a_set_that_is_removed_ends():
    negotiation = Negotiation(2, 0)
    for rank in range(2):
        negotiation.submit(rank, Request(rq.ADD_SET, "add", ranks=(0, 1)), 0.0)
    negotiation.sets[5] = (0, 1)
    ask(negotiation, 0, rq.ALLREDUCE, "a", set_id=5)
    for rank in range(2):
        negotiation.submit(rank, Request(rq.REMOVE_SET, "remove", ranks=(5,)), 0.0)
    errors = [response for response in negotiation.take() if response.error]
    assert [(error.names, error.ranks) for error in errors] == [(("allreduce.a",), (0,))]
    assert "removed" in errors[0].error


def stuck_by_definition(waits, sets):
    """The union of all groups of ranks that each wait for one of the group to come."""
    missing = {
        rank: {other for other in sets[key[0]] if waits.get(other) != key}
        for rank, key in waits.items()
    }
    groups = itertools.chain.from_iterable(
        itertools.combinations(waits, size) for size in range(1, len(waits) + 1)
    )
    circles = (group for group in groups if all(missing[r].intersection(group) for r in group))
    return set(itertools.chain.from_iterable(circles))


def test_against_the_definition_for_random_programs():
    rng = random.Random(7)
    deadlocks = 0
    for _ in range(2000):
        size = rng.randint(2, 4)
        sets = {0: tuple(range(size)), 1: tuple(sorted(rng.sample(range(size), 2)))}
        negotiation = Negotiation(size, 0)
        negotiation.sets = dict(sets)
        at: dict[int, tuple[int, str]] = {}
        for rank in range(size):
            mine = [each for each in sets if rank in sets[each]]
            if rng.random() < 0.9:
                at[rank] = (rng.choice(mine), rng.choice("ab"))
                ask(negotiation, rank, rq.ALLREDUCE, at[rank][1], at[rank][0])
        done = {(response.set_id, response.names[0]) for response in negotiation.take()}
        waits = {r: (s, n) for r, (s, n) in at.items() if (s, f"allreduce.{n}") not in done}
        expected = stuck_by_definition(waits, sets)
        negotiation.end_deadlock(since=1e9)
        failed = {rank for error in negotiation.take() for rank in error.ranks}
        assert failed == expected
        deadlocks += bool(expected)
    assert 200 < deadlocks < 1800
