"""Threads, as Horovod's own tests start them."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def in_thread(
    target: Callable[..., object],
    args: tuple[Any, ...] = (),
    name: str | None = None,
    daemon: bool = True,
    silent: bool = False,
) -> threading.Thread:
    """Runs a function in a thread of its own, and gives the thread.

    Args:
        target: the function.
        args: its arguments.
        name: the thread's.
        daemon: whether the program ends without waiting for it.
        silent: whether exceptions vanish.

    Raises:
        ValueError: `args` is no tuple.
    """
    if not isinstance(args, tuple):
        raise ValueError(f"args must be a tuple, not {type(args)}; for one argument: (arg,)")

    def quiet(*given: Any) -> None:
        with suppress(BaseException):
            target(*given)

    thread = threading.Thread(
        target=quiet if silent else target, args=args, name=name, daemon=daemon
    )
    thread.start()
    return thread
