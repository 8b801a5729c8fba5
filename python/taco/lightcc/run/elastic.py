"""A job whose ranks come and go. It goes on as long as a rank is left that has the state.

A job is a sequence of rounds, called generations and counted from 1. A place is `host:slot`; it
keeps its process from round to round, while its rank may change. Launcher and workers talk through
the job's store, by keys below `taco/elastic/` (`rejoin` is the workers' half):

    update/G           launcher: the hosts changed in round G: added, removed or mixed. Workers
                       should commit, leave round G and ask for the next one
    failed/G           launcher: JSON, place to cause, of the ranks that failed in round G. Workers
                       that still wait for those in `hvd.init()` ask for the next one
    ready/G/PLACE      worker: it has left round G, and waits for the next one
    assign/G/PLACE     launcher: JSON, the environment variables of this place in round G, or
                       `exit`: there is no rank for it, the worker ends with status 0

The engine of round G keeps its own keys below `taco/G/`. A worker finds the round and its place in
TACO_ELASTIC_GENERATION and TACO_ELASTIC_SLOT, and HOROVOD_ELASTIC=1.

Round G+1 begins when every worker of round G that is alive is ready. A rank that fails takes its
host with it: the host is blacklisted, its other ranks are ended. The job is over when a rank ends
with status 0 and no other one runs, or when nobody is left. After the first such rank there is no
new round: whoever is ready for one is sent away.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from taco.lightcc.run import discovery, environment, rejoin
from taco.lightcc.run.client import connect
from taco.lightcc.run.discovery import HostBook
from taco.lightcc.run.hosts import Host, HostsError, Slot, assign, local_sizes
from taco.lightcc.run.pool import Pool
from taco.lightcc.run.starter import Starter, say
from taco.lightcc.run.static import named, root_of
from taco.lightcc.run.store import StoreProcess
from taco.lightcc.run.worker import Ended, Worker, signal_name

if TYPE_CHECKING:
    import torch.distributed as dist

_PERIOD = 0.2  # seconds between looks at the hosts and at the workers' keys


def run_elastic(
    starter: Starter,
    store: StoreProcess,
    parsed: argparse.Namespace,
    fixed: Sequence[Host],
    np: int,
) -> int:
    """Runs an elastic job to its end; no process of it is left after that.

    Args:
        starter: starts ranks.
        store: the job's store.
        parsed: the options.
        fixed: the hosts, where no script finds them.
        np: ranks to begin with.

    Returns:
        The launcher's exit code.

    Raises:
        ValueError: the options contradict each other, or the discovery script fails.
    """
    least, most = parsed.min_np or np, parsed.max_np
    if least > np or (most is not None and most < np):
        raise HostsError(f"--min-np {least} <= -np {np} <= --max-np {most} must hold.")
    book = HostBook(tuple(parsed.cooldown) if parsed.cooldown else None)
    script = None
    if parsed.host_discovery_script:
        script = discovery.Script(parsed.host_discovery_script, parsed.slots)
    keys = connect("127.0.0.1", store.port, rejoin.PREFIX, parsed.start_timeout)
    driver = Driver(starter, keys, book, least, most, parsed.elastic_timeout, parsed.reset_limit)
    try:
        return driver.run(script or (lambda: list(fixed)), np)
    finally:
        if script is not None:
            script.close()


class _Over(Exception):
    """The job is over. Its argument is the exit code."""


class Driver:
    """Decides which place has which rank, round by round.

    Args:
        starter: starts ranks.
        keys: the store, below `taco/elastic/`.
        book: the hosts.
        least, most: ranks that a round must and may have.
        timeout: seconds to wait for enough slots, and for workers that do not get ready.
        reset_limit: rounds after the first one that there may be.
    """

    def __init__(
        self,
        starter: Starter,
        keys: dist.Store,
        book: HostBook,
        least: int,
        most: int | None,
        timeout: float,
        reset_limit: int | None,
    ) -> None:
        self._starter, self._keys, self._book = starter, keys, book
        self._least, self._most = least, most
        self._timeout, self._reset_limit = timeout, reset_limit
        self._pool = Pool()
        self._generation = 0
        self._active: dict[str, Worker] = {}  # by place; those that the round counts on
        self._failures: list[Ended] = []  # of this round
        self._succeeded = False
        self._waiting_since: float | None = None

    def run(self, find: Callable[[], list[Host]], np: int) -> int:
        """Runs the job to its end.

        Args:
            find: gives the hosts there are.
            np: ranks to begin with.

        Returns:
            The launcher's exit code.
        """
        with self._pool.catching_signals():
            try:
                while True:
                    self._book.take(find())
                    self._step(np)
                    for ended in self._pool.wait(_PERIOD):
                        self._note(ended)
            except _Over as over:
                code = int(over.args[0])
                if code == 0:
                    self._see_off()
                return code
            finally:
                self._pool.stop(list(self._pool.workers), self._starter.grace)

    def _see_off(self) -> None:
        """Gives those that were sent away the time to leave by themselves."""
        until = time.monotonic() + self._starter.grace
        while self._pool.running and not self._pool.signals and time.monotonic() < until:
            self._pool.wait(max(0.0, until - time.monotonic()))

    def _step(self, np: int) -> None:
        if self._pool.signals:
            say(f"got {signal_name(self._pool.signals[0])}; ending {len(self._active)} ranks.")
            raise _Over(128 + self._pool.signals[0])
        for worker in list(self._active.values()):
            if worker.result is not None:
                self._note(worker.result)
        if self._generation == 0:
            self._begin(np)
        elif not self._active:
            self._finish()
        elif self._all_ready():
            if self._succeeded:
                self._dismiss(list(self._active))
            else:
                self._begin(self._least)
        else:
            self._announce()

    def _note(self, ended: Ended) -> None:
        """Takes the end of a rank; those that the round does not count on may end as they like."""
        worker = self._active.get(ended.slot.name)
        if worker is None or worker.slot is not ended.slot:
            return
        del self._active[ended.slot.name]
        if ended.code == 0:
            if not self._succeeded:
                self._succeeded, self._failures = True, []
            return
        self._failures.append(ended)
        say(f"{named(ended)} {ended.cause}; its host is left out.")
        self._book.blacklist(ended.slot.hostname)
        for name, other in list(self._active.items()):
            if other.slot.hostname == ended.slot.hostname:
                del self._active[name]
                other.terminate()
        failed = {each.slot.name: each.cause for each in self._failures}
        self._keys.set(f"failed/{self._generation}", json.dumps(failed))

    def _finish(self) -> None:
        if not self._failures:
            raise _Over(0)
        root = root_of(self._failures)
        say(f"the job ended, and nobody is left: {named(root)} {root.cause}.")
        if root.error:
            say(f"its last words: {root.error}")
        raise _Over(root.exit_code)

    def _all_ready(self) -> bool:
        """Whether all workers wait for a new round. One that lets others wait too long is ended."""
        late = [
            worker
            for name, worker in self._active.items()
            if not self._keys.check([f"ready/{self._generation}/{name}"])
        ]
        if len(late) == len(self._active):
            return False
        if late and self._waited():
            for worker in late:
                say(f"rank {worker.slot.rank} on {worker.slot.hostname} does not get ready.")
                worker.kill()
        return not late

    def _waited(self) -> bool:
        """Whether something has been waited for as long as it may be."""
        now = time.monotonic()
        self._waiting_since = self._waiting_since or now
        return now - self._waiting_since >= self._timeout

    def _announce(self) -> None:
        """Tells the workers if another round would have other places."""
        try:
            wanted = [slot.name for slot in self._assign(self._least)]
        except HostsError:
            wanted = []
        kind = discovery.change(list(self._active), wanted)
        key = f"update/{self._generation}"
        if kind and (not self._keys.check([key]) or self._keys.get(key).decode() != kind):
            self._keys.set(key, kind)

    def _assign(self, least: int) -> list[Slot]:
        return assign(self._book.available(), least, self._most)

    def _begin(self, least: int) -> None:
        """Begins a new round, if there are enough slots."""
        try:
            slots = self._assign(least)
        except HostsError as error:
            if self._waited():
                say(f"{error} There were not more for {self._timeout:g} s.")
                raise _Over(1) from error
            return
        if self._reset_limit is not None and self._generation > self._reset_limit:
            say(f"the job ended because its ranks changed more than {self._reset_limit} times.")
            raise _Over(1)
        self._waiting_since = None
        self._generation += 1
        self._failures = []
        places = {slot.name: slot for slot in slots}
        if self._generation > 1 and not places.keys() & self._active.keys():
            say("the job ended because no rank is left that has the state.")
            raise _Over(1)
        self._dismiss([name for name in self._active if name not in places])
        sizes = local_sizes(slots)
        for name, slot in places.items():
            extra = {
                "HOROVOD_ELASTIC": "1",
                "TACO_ELASTIC_GENERATION": str(self._generation),
                "TACO_ELASTIC_SLOT": name,
            }
            worker = self._active.get(name)
            if worker is None:
                self._active[name] = self._starter.start(slot, sizes, extra)
                self._pool.add(self._active[name])
                continue
            worker.move(slot)
            variables = environment.of_rank(self._starter.job, slot, sizes)
            changed = {key: variables[key] for key in variables if key in _CHANGING}
            self._keys.set(f"assign/{self._generation}/{name}", json.dumps({**changed, **extra}))
        if self._starter.verbose:
            say(f"round {self._generation} has {len(slots)} ranks")

    def _dismiss(self, places: Sequence[str]) -> None:
        """Lets workers go that wait for a round in which they have no rank."""
        ahead = self._generation if not self._succeeded else self._generation + 1
        for name in places:
            self._keys.set(f"assign/{ahead}/{name}", rejoin.EXIT.decode())
            del self._active[name]


_CHANGING = {f"HOROVOD_{name}" for name in rejoin.NUMBERS} | {
    "HOROVOD_HOSTNAME",
    "TACO_LOCAL_SIZES",
}
