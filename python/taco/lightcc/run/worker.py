"""One rank as the launcher sees it: a keeper, here or on another host, and what comes from it."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from taco.lightcc.run import keeper
from taco.lightcc.run.hosts import Slot
from taco.lightcc.run.relay import Emit, LastError, Lines

BEAT = 10.0
"""Seconds between two signs of life to a keeper on another host."""

_SILENCE = 120.0  # seconds without one, after which that keeper ends its rank

_F_SETPIPE_SZ = 1031
_KEEPER = Path(keeper.__file__)
# Runs the keeper's text, which comes before anything else on standard input.
_RECEIVE = (
    "import os,sys\n"
    "n,b=int(sys.argv[1]),b''\n"
    "while len(b)<n:\n"
    " c=os.read(0,n-len(b))\n"
    " b+=c\n"
    " if not c: sys.exit(1)\n"
    "exec(compile(b,'keeper.py','exec'),{'__name__':'__main__'})"
)


@dataclass(frozen=True)
class Ended:
    """How a rank ended.

    Attributes:
        slot: its place.
        code: exit status, or minus the number of the signal that killed it.
        pid: of the rank, on its host; None if it never ran.
        error: its last exception, or the last line of its standard error; may be empty.
        how: "ended" by itself, "failed" to start, or "lost" with its keeper or connection.
        at: when it was seen, by `time.monotonic()`.
    """

    slot: Slot
    code: int
    pid: int | None
    error: str
    how: str
    at: float

    @property
    def cause(self) -> str:
        """A phrase: what happened to it."""
        if self.how == "failed":
            return f"could not be started: {self.error}"
        if self.how == "lost":
            return f"was lost ({_status(self.code)} of what held it there)"
        if self.code < 0:
            return f"was killed by {signal_name(-self.code)}"
        return f"exited with status {self.code}"

    @property
    def exit_code(self) -> int:
        """For the launcher, as a shell would have it."""
        return 128 - self.code if self.code < 0 else self.code or 1


def signal_name(number: int) -> str:
    """`SIGKILL` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _status(code: int) -> str:
    return signal_name(-code) if code < 0 else f"status {code}"


class Worker:
    """One rank's process. `pool.Pool` starts it, and reads from it.

    Args:
        slot: its place.
        hold: the command that runs a keeper, and the text that goes to it before the order: empty
            on this host.
        order: what the keeper is to do, less the token.
        open_output: gives the way out for lines, of a place and of `stdout` or `stderr`.
    """

    def __init__(
        self,
        slot: Slot,
        hold: tuple[Sequence[str], bytes],
        order: Mapping[str, object],
        open_output: Callable[[Slot, str], Emit],
    ) -> None:
        self.slot = slot
        self.pid: int | None = None
        self.ended: Ended | None = None
        self.born = time.monotonic()
        self._token = os.urandom(16).hex()
        self._mark = f"\0taco:{self._token}:".encode()
        self._lines = {"stdout": Lines(), "stderr": Lines()}
        self._open = open_output
        self._emit = {name: open_output(slot, name) for name in self._lines}
        self._last = LastError()
        self._result: Ended | None = None
        command, text = hold
        self.local = not text
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # the terminal's Ctrl-C is for the launcher
        )
        assert self.process.stdin is not None
        with suppress(OSError):  # an order that fits is written at once, whatever ssh is doing
            fcntl.fcntl(self.process.stdin, _F_SETPIPE_SZ, 1 << 20)
        silence = None if self.local else _SILENCE
        order = {"silence": silence, **order, "token": self._token}
        self._say(text + json.dumps(order).encode() + b"\n")

    def move(self, slot: Slot) -> None:
        """Gives the process another rank; what it prints is marked with it from now on."""
        self.slot = slot
        self._emit = {name: self._open(slot, name) for name in self._emit}

    def beat(self) -> None:
        """A sign of life. Where a network is cut, the other host's shell may not know for hours."""
        if not self.local:
            self._say(b"\n")

    def terminate(self) -> None:
        """Asks the rank to end; its keeper ends it by force when the grace is over."""
        self._say(b"TERM\n")

    def kill(self) -> None:
        """Ends the rank by force."""
        self._say(b"KILL\n")

    def abandon(self) -> None:
        """Ends the keeper too, for one that does not answer."""
        self._kill_group()
        self.process.kill()

    def take(self, name: str, data: bytes) -> None:
        """Takes what came from `stdout` or `stderr`."""
        for line in self._lines[name].feed(data):
            self._take_line(name, line)

    def finish(self, code: int) -> Ended:
        """Takes the end of the keeper; says how the rank ended.

        Args:
            code: the keeper's exit status, or minus a signal's number.
        """
        for name, lines in self._lines.items():
            rest = lines.finish()
            if rest:
                self._take_line(name, rest)
        if self._result is None:
            self._kill_group()
            how = "lost" if self.pid else "failed"
            self._result = Ended(self.slot, code or 1, self.pid, "", how, time.monotonic())
        why = self._result.error or self._last.text()
        if self._result.how == "failed" and not why:
            why = f"what should hold it ended with {_status(code)}"
        self.ended = replace(self._result, error=why)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return self.ended

    @property
    def result(self) -> Ended | None:
        """How the rank ended, as soon as its keeper says so; others of its processes may go on."""
        return self._result and replace(self._result, error=self._result.error or self._last.text())

    def _take_line(self, name: str, line: bytes) -> None:
        before, mark, word = line.partition(self._mark)
        if mark and name == "stderr":
            self._hear(json.loads(word))
            line = before
            if not line:
                return
        if name == "stderr":
            self._last.see(line)
        self._emit[name](line)

    def _hear(self, word: Mapping[str, object]) -> None:
        now = time.monotonic()
        if "pid" in word:
            self.pid = int(str(word["pid"]))
        elif "failed" in word:
            self._result = Ended(self.slot, 127, None, str(word["failed"]), "failed", now)
        elif self._result is None:
            self._result = Ended(self.slot, int(str(word["status"])), self.pid, "", "ended", now)

    def _kill_group(self) -> None:
        if self.pid is not None and self.local and self._result is None:
            with suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)

    def _say(self, text: bytes) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):  # it has gone
            self.process.stdin.write(text)


def hold_here() -> tuple[list[str], bytes]:
    """Runs a keeper on this host."""
    return [sys.executable, "-I", "-S", str(_KEEPER)], b""


def hold_there(rsh: Sequence[str], host: str) -> tuple[list[str], bytes]:
    """Runs a keeper on another host.

    Args:
        rsh: the remote shell and its options, as in `ssh -p 22`.
        host: where.
    """
    text = _KEEPER.read_bytes()
    quoted = "'" + _RECEIVE.replace("'", "'\\''") + "'"
    return [*rsh, host, f"{sys.executable} -I -S -c {quoted} {len(text)}"], text
