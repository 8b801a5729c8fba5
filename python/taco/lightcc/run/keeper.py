"""Holds one rank on its host: starts it, ends it, and leaves nothing behind.

This file runs by itself, on the launcher's host and on others, where it is sent as text: it needs
Linux and Python's own library. What it is told comes by its standard input:

    {"argv": [...], "env": {...}, "cwd": "...", "token": "...", "grace": 5.0,
     "silence": 120.0}\\n   first
    TERM\\n       SIGTERM for the rank's process group, SIGKILL when the grace is over
    KILL\\n       SIGKILL at once
    \\n           the launcher lives
    end of file  the launcher is gone: as TERM
    silence      for so many seconds, if it is not null: there is no way to the launcher: as TERM

The rank writes to the keeper's own standard output and error. The keeper's words to the launcher
go to standard error too, each a line that begins with `\\0taco:TOKEN:`; the token is random, so
nothing that a rank prints is taken for one:

    {"pid": 123}             it runs
    {"failed": "..."}        it could not be started
    {"status": 1}            it ended: exit status, or minus the signal's number

Whatever the rank started and left is ended after it: the keeper adopts orphans (subreaper). It is
two processes, a guard and its child, so that either may be killed: the other one ends the rest.
"""

import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LINGER = 0.3  # seconds that helpers of the rank, as multiprocessing's, have to end by themselves


class Keeper:
    """One rank's process, and those that it leaves."""

    def __init__(self, order: dict[str, Any], prctl: Callable[[int, int], object]) -> None:
        self._order = order
        self._prctl = prctl
        self._words: bytes | None = b""  # heard, without the line's end yet; None: no more to come
        self._kill_at: float | None = None  # when SIGTERM has had its time
        self._term_at: float | None = None  # when what the rank left has had its time
        self._deaf_at: float | None = None  # when the launcher has been silent for too long
        self._main: int | None = None  # pid of the rank while it runs
        self._group = 0

    def start(self) -> bool:
        """Starts the rank. False, after telling the launcher, if that is impossible."""
        parent = os.getpid()
        reader, writer = os.pipe()  # closed by exec, else told why exec failed
        pid = os.fork()
        if pid == 0:
            try:
                self._become_rank(parent)
            except BaseException as error:
                os.write(writer, str(error).encode(errors="replace")[:2000])
            os._exit(127)
        os.close(writer)
        why = os.read(reader, 2000).decode(errors="replace")
        os.close(reader)
        if why:
            os.waitpid(pid, 0)
            self._tell({"failed": why})
            return False
        self._main = self._group = pid
        self._tell({"pid": pid})
        return True

    def _become_rank(self, parent: int) -> None:
        os.setsid()
        self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(127)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(self._order["cwd"])
        environ = dict(os.environ, **self._order["env"])
        os.execvpe(self._order["argv"][0], self._order["argv"], environ)

    def keep(self, wakeup: int) -> None:
        """Until the rank, and all that it started, are gone."""
        self._heard()
        while self._reap():
            ready, _, _ = select.select([wakeup, *self._ears()], [], [], self._patience())
            if wakeup in ready:
                for number in os.read(wakeup, 4096):
                    if number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                        self._end()
            if 0 in ready:
                self._listen()
            now = time.monotonic()
            if self._deaf_at is not None and now >= self._deaf_at:
                self._deaf_at = None
                self._end()
            if self._kill_at is not None and now >= self._kill_at:
                self._signal(signal.SIGKILL)
                self._kill_at = now + 0.2  # until those that were being born are dead as well
            elif self._term_at is not None and now >= self._term_at:
                self._term_at, self._kill_at = None, self._kill_at or now + self._order["grace"]
                self._signal(signal.SIGTERM)

    def _ears(self) -> list[int]:
        return [] if self._words is None else [0]

    def _patience(self) -> float | None:
        ends = (self._kill_at, self._term_at, self._deaf_at)
        times = [each for each in ends if each is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _listen(self) -> None:
        heard = os.read(0, 4096)
        if not heard:
            self._words = self._deaf_at = None
            self._end()
            return
        self._heard()
        *lines, self._words = ((self._words or b"") + heard).split(b"\n")
        for line in lines:
            if line == b"TERM":
                self._end()
            elif line == b"KILL":
                self._kill_at = time.monotonic()

    def _heard(self) -> None:
        silence = self._order.get("silence")
        self._deaf_at = None if silence is None else time.monotonic() + silence

    def _end(self) -> None:
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._order["grace"]
            self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        """To the rank's process group, and to whatever else descends from this process."""
        gone = self._main is None
        with suppress(OSError):
            os.killpg(self._group, number)
        if gone or number == signal.SIGKILL:
            for pid in descendants(os.getpid()):
                with suppress(OSError):
                    os.kill(pid, number)

    def _reap(self) -> bool:
        """Takes note of who ended; whether anybody is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._main:
                self._main = None
                ended = os.WIFSIGNALED(status)
                self._tell({"status": -os.WTERMSIG(status) if ended else os.WEXITSTATUS(status)})
                self._term_at = time.monotonic() + _LINGER

    def _tell(self, word: dict[str, object]) -> None:
        line = f"\0taco:{self._order['token']}:{json.dumps(word)}\n"
        with suppress(OSError):  # the launcher is gone; its end of standard input says so too
            os.write(2, line.encode())


def descendants(root: int) -> list[int]:
    """All processes that descend from one, by /proc."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            children.setdefault(parent, []).append(int(name))
    found, left = [], [root]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


def main() -> int:
    """Reads the order, and keeps the rank."""
    text = b""
    while not text.endswith(b"\n"):
        letters = os.read(0, 1)  # not more: what follows belongs to the loop
        if not letters:
            return 1
        text += letters
    order = json.loads(text.decode())
    libc = ctypes.CDLL(None)

    def prctl(option: int, value: int) -> object:
        return libc.prctl(option, value, 0, 0, 0)

    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    guard = os.getpid()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    child = os.fork()
    if child:
        return _guard(child)
    prctl(_PR_SET_CHILD_SUBREAPER, 1)  # is not inherited
    prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != guard:
        return 1
    wakeup, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    keeper = Keeper(order, prctl)
    if not keeper.start():
        return 127
    keeper.keep(wakeup)
    return 0


def _guard(child: int) -> int:
    """Waits for the child; ends what it could not end if it was killed."""
    os.close(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        return os.WEXITSTATUS(status)
    with suppress(ChildProcessError):
        while True:
            for pid in descendants(os.getpid()):
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)
    return 128 + os.WTERMSIG(status)


if __name__ == "__main__":
    sys.exit(main())
