"""A rank's side of the pipe: a request a line on standard input, an answer a line back."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

_PR_SET_PDEATHSIG = 1

Handler = Callable[[dict[str, Any]], dict[str, Any]]


def serve(greet: Callable[[], tuple[dict[str, Any], Handler]]) -> None:
    """Answers until the driver closes the pipe. Whatever else prints goes to standard error.

    Args:
        greet: makes ready; gives the first answer, and what answers each request.
    """
    # A driver that is killed takes its ranks along, also those that are stopped.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)

        def say(answer: dict[str, Any]) -> None:
            answers.write(json.dumps(answer) + "\n")

        try:
            greeting, handle = greet()
            say({"ok": True, **greeting})
            for line in sys.stdin:
                say({"ok": True, **handle(json.loads(line))})
        except Exception as error:
            traceback.print_exc()
            say({"ok": False, "error": f"{type(error).__name__}: {error}"})
            # Threads of a library that failed may never end by themselves.
            sys.stderr.flush()
            answers.flush()
            os._exit(1)
