"""The coordinator over real sockets: strangers, nonsense, and ranks that vanish."""

import contextlib
import queue
import socket
import struct

import pytest
from taco.lightcc.engine import requests as rq
from taco.lightcc.engine import wire
from taco.lightcc.engine.coordinator import Coordinator
from taco.lightcc.engine.link import Link
from taco.lightcc.engine.negotiation import Negotiation
from taco.lightcc.engine.requests import Request
from taco.lightcc.engine.stall import StallCheck

LIMIT_S = 30


class Job:
    """A coordinator, and links that put what they hear into queues."""

    def __init__(self, size, fail_after=0.0):
        self.size = size
        self.backlog = 0
        self.coordinator = Coordinator(
            size,
            "key",
            Negotiation(size, 1 << 20),
            StallCheck(0.0, fail_after),
            lambda: self.backlog,
            lambda what, value: None,
            "127.0.0.1",
        )
        self.heard = [queue.Queue() for _ in range(size)]
        self.links = [self.link(rank) for rank in range(size)]

    def link(self, rank):
        heard = self.heard[rank]
        return Link(
            ("127.0.0.1", self.coordinator.port), rank, "key", heard.put, heard.put, LIMIT_S
        )

    def hear(self, rank):
        return self.heard[rank].get(timeout=LIMIT_S)

    def close(self):
        for link in self.links:
            link.close()
        assert self.coordinator.join(LIMIT_S)


@pytest.fixture
def job():
    with contextlib.closing(Job(2)) as made:
        yield made


def barrier(name):
    return Request(rq.BARRIER, name)


def test_all_ranks_hear_the_same_order(job):
    for i in range(20):
        job.links[0].submit(barrier(f"b{i}"))
    job.links[1].submit(*(barrier(f"b{i}") for i in reversed(range(20))))
    orders = [[job.hear(rank).names for _ in range(20)] for rank in range(2)]
    assert orders[0] == orders[1]


def test_stopping_tells_why_and_waits_for_nobody(job):
    job.links[0].submit(barrier("b"))
    job.coordinator.stop("rank 2 never came")
    assert [job.hear(rank) for rank in range(2)] == ["rank 2 never came"] * 2
    assert job.coordinator.join(LIMIT_S)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", 2) + b"{}",
        wire.encode({"rank": 0, "key": "wrong"}),
        wire.encode({"rank": 7, "key": "key"}),
        wire.encode({"rank": 0, "key": "key"}),  # that rank is there already
    ],
)
def test_a_stranger_is_turned_away_and_the_job_goes_on(job, data):
    with socket.create_connection(("127.0.0.1", job.coordinator.port), timeout=LIMIT_S) as stranger:
        stranger.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(1) == b""
    for link in job.links:
        link.submit(barrier("b"))
    assert job.hear(0).names == job.hear(1).names == ("b",)


def test_a_rank_that_vanishes_is_named_to_the_others(job):
    job.links[0].submit(barrier("b"))
    job.links[1]._socket.shutdown(socket.SHUT_RDWR)
    why = job.hear(0)
    assert "rank 1 on" in why
    assert "is gone" in why


def test_what_a_rank_could_not_do_is_told_to_the_others(job):
    job.links[1].report_failure("the disk is full")
    assert "rank 1 on" in (why := job.hear(0))
    assert "the disk is full" in why


def test_a_stall_that_is_too_long_ends_the_job():
    with contextlib.closing(Job(2, fail_after=0.01)) as job:
        job.links[0].submit(barrier("b"))
        assert "waited" in (why := job.hear(0))
        assert "ranks [1]" in why


def test_small_allreduces_wait_for_each_other_while_rank_0_is_busy(job):
    job.backlog = 2
    spec = rq.TensorSpec("float32", (4,))
    for i in range(3):
        for link in job.links:
            link.submit(Request(rq.ALLREDUCE, f"t{i}", tensors=(spec,), op="sum"))
    # The coordinator answers in order: once this pair is through, all above was heard.
    big = rq.TensorSpec("float32", (1 << 20,))
    for link in job.links:
        link.submit(Request(rq.ALLREDUCE, "big", tensors=(big,), op="sum"))
    assert job.hear(0).names == ("t0", "t1", "t2")
    assert job.hear(0).names == ("big",)
