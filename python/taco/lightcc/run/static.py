"""A job whose ranks are fixed: it ends when all have ended, or when one fails."""

import time
from collections.abc import Sequence

from taco.lightcc.run.hosts import Slot, local_sizes
from taco.lightcc.run.pool import Pool
from taco.lightcc.run.starter import Starter, say
from taco.lightcc.run.store import StoreProcess
from taco.lightcc.run.worker import Ended, signal_name

# A rank that notices another one's death fails too, perhaps before its death is seen here: for so
# many seconds a failure of that kind waits for a better explanation.
_SETTLE = 2.0
_CONSEQUENCES = ("HorovodInternalError", "Connection reset", "Connection closed", "Broken pipe")


def run_static(
    starter: Starter, slots: Sequence[Slot], store: StoreProcess, start_timeout: float
) -> int:
    """Runs a job to its end; no process of it is left after that.

    Args:
        starter: starts ranks.
        slots: the ranks' places.
        store: the job's store.
        start_timeout: seconds for all ranks to be started.

    Returns:
        The launcher's exit code.

    Raises:
        OSError: a rank cannot be started from here.
    """
    pool = Pool()
    sizes = local_sizes(slots)
    with pool.catching_signals():
        try:
            for slot in slots:
                pool.add(starter.start(slot, sizes))
            return _watch(pool, starter, store, time.monotonic() + start_timeout)
        finally:
            pool.stop(list(pool.workers), starter.grace)


def _watch(pool: Pool, starter: Starter, store: StoreProcess, start_until: float) -> int:
    size = len(pool.workers)
    failures: list[Ended] = []
    settle_until = 0.0
    started = False
    while pool.workers:
        ended = pool.wait(_patience(started, start_until, settle_until if failures else None))
        if pool.signals:
            return _interrupted(pool, starter)
        seen = [*ended, *(each.result for each in pool.workers if each.result)]
        known = {failure.slot.rank for failure in failures}
        for each in seen:
            if each.code != 0 and each.slot.rank not in known:
                failures.append(each)
                settle_until = settle_until or time.monotonic() + _SETTLE
        if failures and (not consequence(root_of(failures)) or time.monotonic() >= settle_until):
            return _failed(pool, starter, store, root_of(failures), size)
        late = [each for each in pool.workers if each.pid is None and each.result is None]
        started = not late
        if late and time.monotonic() >= start_until:
            places = ", ".join(f"{each.slot.rank} on {each.slot.hostname}" for each in late)
            say(f"not started in time: rank {places}. --start-timeout S gives more time.")
            pool.stop(list(pool.workers), starter.grace)
            return 1
    return 0


def _patience(started: bool, start_until: float, settle_until: float | None) -> float | None:
    until = [] if started else [start_until]
    until += [] if settle_until is None else [settle_until]
    return max(0.0, min(until) - time.monotonic()) if until else None


def _interrupted(pool: Pool, starter: Starter) -> int:
    number = pool.signals[0]
    say(f"got {signal_name(number)}; ending {len(pool.workers)} ranks.")
    pool.stop(list(pool.workers), starter.grace)
    return 128 + number


def _failed(pool: Pool, starter: Starter, store: StoreProcess, root: Ended, size: int) -> int:
    others = [each for each in pool.workers if each.slot.rank != root.slot.rank]
    if others:
        say(f"{named(root)} {root.cause}; ending the other ranks.")
    ended = pool.stop(list(pool.workers), starter.grace)
    # By now all that the rank had printed has arrived.
    root = next((each for each in ended if each.slot.rank == root.slot.rank), root)
    complaint = store.complaint()
    if complaint:
        say(f"the job's store did not work: {complaint}")
    say(f"the job of {size} ranks ended because {named(root)} {root.cause}.")
    if root.error and root.how != "failed":
        say(f"its last words: {root.error}")
    return root.exit_code


def named(ended: Ended) -> str:
    """`rank 1 on host2 (pid 5)`."""
    pid = f" (pid {ended.pid})" if ended.pid else ""
    return f"rank {ended.slot.rank} on {ended.slot.hostname}{pid}"


def consequence(ended: Ended) -> bool:
    """Whether a rank failed, as it seems, because another one did."""
    return ended.how == "ended" and any(each in ended.error for each in _CONSEQUENCES)


def root_of(failures: Sequence[Ended]) -> Ended:
    """The failure that the others follow from: the first one, unless it blames another rank."""
    return min(failures, key=lambda each: (consequence(each), each.at))
