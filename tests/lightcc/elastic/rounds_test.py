"""Ranks of an elastic job meet, or hear at once why they cannot. The launcher is the test."""

import datetime
import json
import os
import threading

import pytest
import taco.lightcc.torch as hvd
import torch
import torch.distributed as dist
from taco.lightcc import _settings
from taco.lightcc.engine.runtime import Options, Runtime
from taco.lightcc.torch import basics, rounds

PLACE = "a:0"


class Launcher:
    """Says what `taco run` would; this process is the rank at PLACE."""

    def __init__(self):
        self.server = dist.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
        self._keys = dist.PrefixStore("taco/elastic", self.server)
        os.environ |= {
            "HOROVOD_ELASTIC": "1",
            "TACO_STORE_ADDR": "127.0.0.1",
            "TACO_STORE_PORT": str(self.server.port),
            "TACO_ELASTIC_SLOT": PLACE,
        }

    def begin(self, generation, rank, size):
        """A round in which this process is started."""
        os.environ |= self._place(generation, rank, size)

    def assign(self, generation, rank, size):
        """A later round, in which it goes on."""
        place = self._place(generation, rank, size)
        self._keys.set(f"assign/{generation}/{PLACE}", json.dumps(place))

    def dismiss(self, generation):
        self._keys.set(f"assign/{generation}/{PLACE}", "exit")

    def fail(self, generation, place, cause):
        self._keys.set(f"failed/{generation}", json.dumps({place: cause}))

    def has_heard(self, generation):
        """Whether this process has left a round for the next one."""
        return self._keys.check([f"ready/{generation}/{PLACE}"])

    @staticmethod
    def _place(generation, rank, size):
        numbers = {"RANK": rank, "SIZE": size, "LOCAL_RANK": 0, "LOCAL_SIZE": 1}
        numbers |= {"CROSS_RANK": rank, "CROSS_SIZE": size}
        found = {f"HOROVOD_{name}": str(value) for name, value in numbers.items()}
        return found | {"TACO_ELASTIC_GENERATION": str(generation)}


class Other:
    """Rank 1 of a round, in a thread of this process.

    Args:
        launcher: whose store is used.
        generation: of the round.
        size: of the round.
        then: what it does when it has joined, but not met the others.
        sets: process sets that it adds when it has.
    """

    def __init__(self, launcher, generation, size, then=lambda: None, sets=()):
        self._generation, self._size, self._then, self._sets = generation, size, then, sets
        self._port = launcher.server.port
        self.error = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        limit = datetime.timedelta(seconds=60)
        store = dist.TCPStore("127.0.0.1", self._port, None, False, limit, wait_for_workers=False)
        store = dist.PrefixStore("job1", dist.PrefixStore(f"taco/{self._generation}", store))
        job = Runtime(1, self._size, store, "127.0.0.1", Options())
        try:
            self._then()
            job.meet(lambda: None)
            for ranks in self._sets:
                job.add_set(ranks)
        except hvd.HorovodInternalError as error:
            self.error = error
        finally:
            job.shutdown()

    def join(self):
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.fixture
def launcher(unlaunched):
    yield Launcher()
    hvd.shutdown()


def client():
    return rounds.of_this_process(_settings.refresh())


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_dies_before_it_comes_ends_the_wait(launcher, rank, caplog):
    launcher.begin(1, rank, 2)
    launcher.fail(1, "b:0", "was killed by SIGKILL")
    launcher.assign(2, 0, 1)
    hvd.init()
    assert launcher.has_heard(1)
    assert (hvd.size(), client().generation) == (1, 2)
    assert "b:0 was killed by SIGKILL, before all ranks of the round had met" in caplog.text


def test_those_that_came_are_told_why_others_did_not(launcher):
    launcher.begin(1, 0, 3)
    launcher.assign(2, 0, 1)
    other = Other(launcher, 1, 3, lambda: launcher.fail(1, "c:0", "exited with status 3"))
    hvd.init()
    other.join()
    assert str(other.error) == "c:0 exited with status 3, before all ranks of the round had met"


def test_a_rank_that_never_comes_is_waited_for_as_long_as_ranks_may_take_to_start(
    launcher, monkeypatch, caplog
):
    monkeypatch.setenv("HOROVOD_START_TIMEOUT", "0.5")
    launcher.begin(1, 0, 2)
    launcher.assign(2, 0, 1)
    hvd.init()
    assert hvd.size() == 1
    assert "not all ranks of the round came within 0.5 s (HOROVOD_START_TIMEOUT)" in caplog.text


def test_a_rank_that_alone_does_not_reach_the_others_fails(launcher, monkeypatch):
    monkeypatch.setenv("HOROVOD_START_TIMEOUT", "0.5")
    monkeypatch.setattr(rounds, "_NOTICE", 0.0)
    launcher.begin(1, 1, 2)
    with pytest.raises(hvd.HorovodInternalError, match="not all ranks of the round came"):
        hvd.init()
    assert not hvd.is_initialized() and not launcher.has_heard(1)


def test_who_has_no_place_in_the_next_round_leaves(launcher):
    launcher.begin(1, 0, 2)
    launcher.fail(1, "b:0", "was killed by SIGKILL")
    launcher.dismiss(2)
    with pytest.raises(SystemExit) as caught:
        hvd.init()
    assert caught.value.code == 0
    assert not hvd.is_initialized()


def test_sets_that_init_got_are_there_in_the_next_round_and_others_are_not(launcher):
    launcher.begin(1, 0, 2)
    given, added = hvd.ProcessSet([1]), hvd.ProcessSet([0])
    other = Other(launcher, 1, 2, sets=[(1,), (0,)])
    hvd.init(process_sets=[given])
    hvd.add_process_set(added)
    other.join()
    assert (added.size(), added.included(), given.included()) == (1, True, False)

    launcher.assign(2, 0, 2)
    other = Other(launcher, 2, 2, sets=[(1,)])
    basics.next_round(client())
    other.join()
    assert (given.size(), given.included()) == (1, False)
    assert added.process_set_id is None
    with pytest.raises(ValueError, match="to be added again in each round"):
        hvd.allreduce(torch.ones(1), process_set=added)

    launcher.assign(3, 0, 1)
    basics.next_round(client())
    with pytest.raises(ValueError, match=r"the job has ranks 0 to 0 now, and not \[1\]"):
        given.size()


def test_a_newcomers_sets_may_name_ranks_that_its_first_round_has_not(launcher):
    launcher.begin(2, 0, 1)
    everybody, more = hvd.ProcessSet([0]), hvd.ProcessSet([0, 1])
    hvd.init(process_sets=[everybody, more])
    assert everybody.included()
    with pytest.raises(ValueError, match="the job has ranks 0 to 0 now"):
        more.included()


def test_sets_that_differ_between_ranks_are_an_error_and_no_reason_for_another_round(launcher):
    launcher.begin(2, 0, 2)
    other = Other(launcher, 2, 2, sets=[(1,)])
    with pytest.raises(ValueError, match="init got other process sets on other ranks"):
        hvd.init(process_sets=[hvd.ProcessSet([0])])
    other.join()
    assert not launcher.has_heard(2)


def test_in_the_first_round_sets_that_cannot_be_are_refused(launcher):
    launcher.begin(1, 0, 1)
    with pytest.raises(ValueError, match=r"names ranks \[1\]"):
        hvd.init(process_sets=[hvd.ProcessSet([1])])
    assert not hvd.is_initialized()
