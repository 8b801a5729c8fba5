"""A keeper on another host outlives silence for a time, and no longer: networks may be cut."""

import subprocess
import sys
import time

import pytest
from taco.lightcc.run import pool as pools
from taco.lightcc.run import store
from taco.lightcc.run.hosts import Slot
from taco.lightcc.run.worker import Worker, hold_here, hold_there

_SLOT = Slot("other", 0, 1, 0, 1, 0, 1)


def _worker(hold, silence: float | None) -> Worker:
    order = {
        "argv": [sys.executable, "-S", "-c", "import time; time.sleep(1000)"],
        "env": {},
        "cwd": ".",
        "grace": 0.2,
        **({} if silence is None else {"silence": silence}),
    }
    return Worker(_SLOT, hold, order, lambda slot, name: lambda line: None)


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pools, "BEAT", 0.2)
    made = pools.Pool()
    yield made
    made.stop(list(made.workers), 0.2)


def _watch(pool: pools.Pool, seconds: float) -> list:
    ended, until = [], time.monotonic() + seconds
    while time.monotonic() < until and not ended:
        ended += pool.wait(until - time.monotonic())
    return ended


def test_signs_of_life_keep_a_rank(pool, fake_rsh) -> None:
    worker = _worker(hold_there([fake_rsh], "other"), 3.0)
    pool.add(worker)
    assert _watch(pool, 6.0) == []
    assert worker.pid is not None and worker.result is None
    time.sleep(4.0)  # no way to it: the launcher waits, and the keeper hears nothing
    (ended,) = _watch(pool, 30.0)
    assert (ended.how, ended.cause) == ("ended", "was killed by SIGTERM")


def test_on_this_host_silence_means_nothing(pool) -> None:
    worker = _worker(hold_here(), None)
    pool.add(worker)
    while worker.pid is None:
        pool.wait(5.0)
    time.sleep(1.0)
    assert _watch(pool, 0.5) == []


def test_a_store_ends_with_its_launcher_even_while_it_starts() -> None:
    for patience in (0.0, 0.05, 0.3):
        server = store.StoreProcess(everywhere=False)
        time.sleep(patience)
        process: subprocess.Popen = server._process
        process.stdin.close()
        assert process.wait(timeout=60) == 0
        process.stderr.close()
