"""Which hosts an elastic job has: those that are found, less those that failed lately."""

import random
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

from taco.lightcc.run.hosts import Host, HostsError, parse_hosts

ADDED, REMOVED, MIXED = "added", "removed", "mixed"


class HostBook:
    """Keeps the hosts in the order in which they came, so that ranks move as little as possible.

    A host that failed comes last from then on: its new ranks are without state, and rank 0's state
    is that of all.

    Args:
        cooldown: least and most seconds for which a host that failed is left out; the time doubles
            with each failure. None: for good.
        clock: seconds.
        jitter: a number from 0 to 1, so that hosts do not come back all at once.
    """

    def __init__(
        self,
        cooldown: tuple[float, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if cooldown and not 0 < cooldown[0] <= cooldown[1]:
            raise HostsError("--blacklist-cooldown-range takes MIN and MAX with 0 < MIN <= MAX.")
        self._cooldown, self._clock, self._jitter = cooldown, clock, jitter
        self._found: dict[str, int] = {}  # slots of each host
        self._failures: dict[str, int] = {}
        self._out_until: dict[str, float] = {}

    def take(self, found: Sequence[Host]) -> None:
        """Takes what was found: hosts stay in place, new ones come last."""
        slots = {host.name: host.slots for host in found if host.slots}
        kept = {name: slots[name] for name in self._found if name in slots}
        self._found = {**kept, **slots}

    def blacklist(self, name: str) -> None:
        """Leaves a host out, and moves it to the end: one of its ranks failed."""
        if name in self._found:
            self._found[name] = self._found.pop(name)
        count = self._failures[name] = self._failures.get(name, 0) + 1
        until = float("inf")
        if self._cooldown:
            least, most = self._cooldown
            wait = least * 2 ** min(count - 1, 60)
            until = self._clock() + min(most, wait * (1 + self._jitter()) if count > 1 else wait)
        self._out_until[name] = until

    def available(self) -> list[Host]:
        """The hosts to be used now."""
        now = self._clock()
        return [
            Host(name, slots)
            for name, slots in self._found.items()
            if self._out_until.get(name, 0.0) <= now
        ]


def change(before: Sequence[str], after: Sequence[str]) -> str | None:
    """What happened to a list of places: ADDED, REMOVED, MIXED, or None for nothing."""
    added, removed = set(after) - set(before), set(before) - set(after)
    if added and removed:
        return MIXED
    return ADDED if added else REMOVED if removed else None


class Script:
    """Asks a host discovery script every second, in a thread.

    Args:
        command: prints a line `host` or `host:slots` for each host; a shell runs it.
        slots: where a line names none.

    Raises:
        HostsError: it fails at the first time.
    """

    def __init__(self, command: str, slots: int, period: float = 1.0) -> None:
        self._command, self._slots, self._period = command, slots, period
        self._latest = self._ask()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="discovery", daemon=True)
        self._thread.start()

    def __call__(self) -> list[Host]:
        """What it said last. A later failure changes nothing."""
        return self._latest

    def close(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join()

    def _repeat(self) -> None:
        while not self._stop.wait(self._period):
            try:
                self._latest = self._ask()
            except HostsError:
                continue

    def _ask(self) -> list[Host]:
        try:
            done = subprocess.run(
                self._command, shell=True, capture_output=True, text=True, timeout=60, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise HostsError(f"{self._command}: no answer within 60 s.") from error
        if done.returncode != 0:
            raise HostsError(
                f"{self._command}: exit status {done.returncode}. {done.stderr.strip()[-500:]}"
            )
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        named = [line if ":" in line else f"{line}:{self._slots}" for line in lines]
        return parse_hosts(",".join(named)) if named else []
