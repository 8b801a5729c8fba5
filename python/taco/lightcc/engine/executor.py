"""Runs responses, one after the other, in a thread of its own."""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from taco.lightcc.engine.errors import HorovodInternalError
from taco.lightcc.engine.handles import Entry
from taco.lightcc.engine.requests import Response

_log = logging.getLogger("taco.lightcc")


class Executor:
    """The rank's data thread.

    Args:
        run: executes a response with this rank's entries; returns the result of each name.
        claim: takes the entries of a response's names out of what is pending.
        on_failure: told the sentence of an exception that `run` raised; returns what to raise at
            the callers, after having asked the others what happened.
        on_finished: called after each response.
    """

    def __init__(
        self,
        run: Callable[[Response, list[Entry | None]], list[Any]],
        claim: Callable[[Response], list[Entry | None]],
        on_failure: Callable[[str], Exception],
        on_finished: Callable[[Response], None],
    ) -> None:
        self._run = run
        self._claim = claim
        self._on_failure = on_failure
        self._on_finished = on_finished
        self._queue: queue.SimpleQueue[Response | None] = queue.SimpleQueue()
        self._current: list[Entry | None] = []
        self._thread = threading.Thread(target=self._loop, name="taco-executor", daemon=True)
        self._thread.start()

    def put(self, response: Response) -> None:
        """Takes the next response. Any thread; the order of calls is the order of execution."""
        self._queue.put(response)

    def fail_current(self, error: Exception) -> None:
        """Lets go the callers of what is in execution, which may never come back."""
        for entry in self._current:
            if entry is not None:
                entry.handle.set_error(error)

    def stop(self, timeout: float) -> bool:
        """Ends the thread after what is queued. Returns whether it ended in time."""
        self._queue.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        while (response := self._queue.get()) is not None:
            self._one(response)

    def _one(self, response: Response) -> None:
        entries = self._current = self._claim(response)
        try:
            if response.error:
                raise HorovodInternalError(response.error)
            results = self._run(response, entries)
        except HorovodInternalError as error:
            self.fail_current(error)
        except Exception as error:  # whatever torch raises: the other ranks have to know
            _log.debug("%s failed", response.names, exc_info=True)
            text = f"{response.kind} of {response.names[0]}: {error}"
            self.fail_current(self._on_failure(text))
        else:
            for entry, result in zip(entries, results, strict=True):
                if entry is not None:
                    entry.handle.set_result(result)
        finally:
            self._current = []
            self._on_finished(response)
