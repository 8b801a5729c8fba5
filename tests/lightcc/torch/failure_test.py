"""A rank that goes away is named to the others, in time; nobody hangs."""

import pytest


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_rank_that_dies_in_the_middle_fails_the_others(ranks, victim):
    """The survivors see the error before the launcher ends them: they leave it in a file."""
    done = ranks(
        3,
        f"""
        import os, signal, time
        start = time.monotonic()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher ends the others at once
        try:
            for step in range(10**9):
                hvd.allreduce(torch.ones(1 << 16), name="t")
                if rank == {victim} and step == 20:
                    os.kill(os.getpid(), signal.SIGKILL)
        except hvd.HorovodInternalError as error:
            print("SAW", error, flush=True)
            os._exit(0)
        """,
        expect=137,
    )
    saw = [line for line in done.stdout.splitlines() if "SAW" in line]
    assert len(saw) == 2, done.stdout + done.stderr
    assert f"rank {victim} on" in done.stderr


def test_an_exception_on_one_rank_ends_the_job_with_its_last_words(ranks):
    done = ranks(
        2,
        """
        hvd.allreduce(torch.ones(1))
        if rank == 1:
            raise RuntimeError("out of cheese")
        hvd.allreduce(torch.ones(1))
        """,
        expect=1,
    )
    assert "rank 1" in done.stderr
    assert "out of cheese" in done.stderr


def test_a_rank_that_left_is_named_to_who_still_wants_it(ranks):
    ranks(
        2,
        """
        if rank == 0:
            try:
                hvd.allreduce(torch.ones(1))
            except hvd.HorovodInternalError as error:
                assert "rank 1 has shut down" in str(error), error
            else:
                raise AssertionError("no error")
        else:
            hvd.shutdown()
        """,
    )


def test_a_stall_names_who_is_missing(ranks):
    done = ranks(
        2,
        """
        if rank == 0:
            handle = hvd.allreduce_async(torch.ones(1), name="lonely")
            while not hvd.poll(handle):
                torch.ones(1)
        else:
            import time
            time.sleep(4)  # longer than the check; the warning is what is tested
            hvd.allreduce(torch.ones(1), name="lonely")
        """,
        HOROVOD_STALL_CHECK_TIME_SECONDS="1",
    )
    assert "allreduce.lonely [missing ranks: 1]" in done.stderr


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        (
            ("hvd.allreduce(torch.ones(2), name='t')", "hvd.allgather(torch.ones(2), name='t')"),
            "t: mismatched operations: rank 0 has allreduce, rank 1 has allgather",
        ),
        (
            ("hvd.barrier()", "hvd.broadcast(torch.ones(2), root_rank=0)"),
            "without a name: mismatched operations: rank 0 has barrier, rank 1 has broadcast",
        ),
        (
            ("hvd.allreduce(torch.ones(2), name='a')", "hvd.allreduce(torch.ones(2), name='b')"),
            "rank 0 for allreduce.a, rank 1 for allreduce.b",
        ),
    ],
)
def test_ranks_that_wait_for_one_another_get_an_error_and_the_job_goes_on(ranks, calls, words):
    ranks(
        2,
        f"""
        try:
            {calls[0]} if rank == 0 else {calls[1]}
        except hvd.HorovodInternalError as error:
            assert {words!r} in str(error), error
        else:
            raise AssertionError("no error")
        assert hvd.allreduce(torch.ones(1), op=hvd.Sum, name="after").item() == 2
        """,
        HOROVOD_STALL_CHECK_TIME_SECONDS="3",
    )
