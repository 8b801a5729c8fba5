"""`hvd.elastic.run`: calls the training function again, whenever the ranks have changed."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch

from taco.lightcc import _settings
from taco.lightcc.engine.errors import HorovodInternalError, HostsUpdatedInterrupt
from taco.lightcc.torch import basics, rounds
from taco.lightcc.torch._submit import Max
from taco.lightcc.torch.allreduce import allreduce
from taco.lightcc.torch.elastic.state import State

_log = logging.getLogger("taco.lightcc")


def run(func: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a training function elastic.

    It is called after all ranks have rank 0's state. When a rank fails, the others go back to
    their last commit; when hosts come or go, they keep what they have. Then all take part in a new
    round, and the function is called again. So it has to go on from what the state says, and no
    collective may stand between `init` and its call: newcomers would be alone with it.

    Outside an elastic job of `taco run` the state is shared once and the function is called once.

    Args:
        func: takes a `State` as its first argument.

    Returns:
        A function of the same arguments. It exits with status 0 where the job no longer needs
        this worker.
    """

    @functools.wraps(func)
    def elastic(state: State, *args: Any, **kwargs: Any) -> Any:
        settings = _settings.refresh()
        if not settings.elastic:
            state.sync()
            return func(state, *args, **kwargs)
        client = rounds.connect(settings)
        state.watch(client.updated)
        try:
            return _repeat(
                lambda: func(state, *args, **kwargs),
                state,
                lambda: basics.next_round(client),
                _Vote(),
            )
        finally:
            state.watch(None)

    return elastic


def run_fn(func: Callable[..., Any], reset: Callable[[], Any]) -> Callable[..., Any]:
    """As `run`, for programs that bring the ranks together again themselves.

    Args:
        func: takes a `State` as its first argument.
        reset: leaves the job and joins the next one.
    """

    @functools.wraps(func)
    def elastic(state: State, *args: Any, **kwargs: Any) -> Any:
        return _repeat(lambda: func(state, *args, **kwargs), state, reset, bool)

    return elastic


def _repeat(
    call: Callable[[], Any],
    state: State,
    reset: Callable[[], Any],
    anyone: Callable[[bool], bool],
) -> Any:
    """Calls until it returns.

    Args:
        call: the training function.
        state: its state.
        reset: brings the ranks of a new round together.
        anyone: whether any rank wants the state to be shared.
    """
    wanted, moved = True, False
    while True:
        try:
            if moved:
                state.on_reset()
            if anyone(wanted):
                state.sync()
            return call()
        except HorovodInternalError as error:
            _log.warning("going back to the last commit, because a collective failed: %s", error)
            state.restore()
            wanted = True
        except HostsUpdatedInterrupt as interrupt:
            _log.info("leaving the round, because the set of hosts changed")
            wanted = not interrupt.skip_sync
        reset()
        moved = True


class _Vote:
    """Asks all ranks of a round whether any of them wants the state to be shared.

    Hosts may have come after others went, and newcomers always want it.
    """

    def __init__(self) -> None:
        self._newcomer = True

    def __call__(self, wanted: bool) -> bool:
        """Gives the answer, the same on all ranks.

        Raises:
            RuntimeError: this is rank 0, has no state to share, and others have.
        """
        votes = torch.tensor([int(wanted), int(not self._newcomer)])
        shares, exists = allreduce(votes, name="taco.elastic.sync", op=Max).tolist()
        if exists and self._newcomer and basics.rank() == 0:
            raise RuntimeError(
                "a newcomer became rank 0, whose state all get, while others have the state; it "
                "leaves, so that they do not begin again."
            )
        self._newcomer = False
        return bool(shares)
