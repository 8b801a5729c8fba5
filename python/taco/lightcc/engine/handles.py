"""What a caller holds while its collective runs."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from taco.lightcc.engine.requests import Request

_LONG_SECONDS = 1.0  # a wait of so long is told to the coordinator


class Handle:
    """The future of one submitted collective. Any thread may wait.

    Attributes:
        on_long_wait: called, in the waiting thread, when a wait has become long.
    """

    def __init__(self) -> None:
        self.on_long_wait: Callable[[], None] = lambda: None
        self._done = threading.Event()
        self._result: Any = None
        self._error: Exception | None = None

    def done(self) -> bool:
        return self._done.is_set()

    def set_result(self, result: Any) -> None:
        """The first result or error counts."""
        if not self._done.is_set():
            self._result = result
            self._done.set()

    def set_error(self, error: Exception) -> None:
        if not self._done.is_set():
            self._error = error
            self._done.set()

    def wait_until(self, deadline: float) -> bool:
        """Waits until a time of time.monotonic(). Returns whether it is done."""
        return self._done.wait(max(0.0, deadline - time.monotonic()))

    def wait(self) -> Any:
        """Blocks until it is done.

        Returns:
            The collective's result.

        Raises:
            Exception: what the collective failed with.
        """
        if not self._done.wait(_LONG_SECONDS):
            self.on_long_wait()
        while not self._done.wait(60.0):  # in pieces, so that Ctrl-C comes through
            pass
        if self._error is not None:
            # A copy: several waiters must not grow one traceback.
            raise type(self._error)(*self._error.args) from None
        return self._result


@dataclass
class Entry:
    """A submitted collective, on this rank.

    Attributes:
        request: what was sent to the coordinator.
        inputs: contiguous tensors; read until the handle is done.
        outputs: of reductions and broadcasts: where the results go; may be the inputs themselves.
        handle: told when it is over.
        ready: of CUDA inputs: the event after which they hold their values.
        state: what the reducer keeps from one time to the next; it alone looks into it.
    """

    request: Request
    inputs: list[torch.Tensor] = field(default_factory=list)
    outputs: list[torch.Tensor] = field(default_factory=list)
    handle: Handle = field(default_factory=Handle)
    ready: Any = None
    state: Any = None
