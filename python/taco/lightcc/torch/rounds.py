"""The rounds of an elastic job, as this process takes part in them (docs/lightcc_run.md)."""

import os
import sys
import time
from collections.abc import Callable

from taco.lightcc._settings import Settings
from taco.lightcc.engine.errors import HorovodInternalError
from taco.lightcc.run.rejoin import Rejoin

# The launcher gives up first, and says why.
_MARGIN = 60.0
# In this time the launcher notices that a rank is dead.
_NOTICE = 5.0


def connect(settings: Settings) -> Rejoin:
    """The connection to the launcher.

    Raises:
        ValueError: this is no rank of an elastic job of `taco run`.
    """
    return Rejoin(os.environ, settings.elastic_timeout + _MARGIN)


def of_this_process(settings: Settings) -> Rejoin | None:
    """The connection to the launcher; None outside an elastic job of `taco run`."""
    there = settings.elastic and os.environ.get("TACO_ELASTIC_SLOT")
    return connect(settings) if there else None


def watch(client: Rejoin, limit: float) -> Callable[[], None]:
    """Gives a function that raises as soon as the present round cannot come about any more.

    Before the ranks have met nobody has a connection that could break: the launcher alone knows
    that one of them is dead.

    Args:
        client: the connection to the launcher.
        limit: seconds from now until it raises in any case.
    """
    until = time.monotonic() + limit

    def look() -> None:
        failed = client.failed()
        if failed:
            causes = "; ".join(f"{place} {cause}" for place, cause in failed.items())
            raise HorovodInternalError(f"{causes}, before all ranks of the round had met")
        if time.monotonic() > until:
            raise HorovodInternalError(
                f"not all ranks of the round came within {limit:g} s (HOROVOD_START_TIMEOUT)"
            )

    return look


def is_lost(client: Rejoin) -> bool:
    """Whether another rank failed in the present round; gives the launcher time to notice."""
    until = time.monotonic() + _NOTICE
    while not client.failed():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def advance(client: Rejoin) -> None:
    """Waits for the next round, and takes the new place in it; exits if there is none.

    The job has to be left before.

    Raises:
        SystemExit: with status 0: the job does not need this process any more.
    """
    if not client.next():
        sys.exit(0)
