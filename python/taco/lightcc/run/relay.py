"""What ranks print: cut into lines, marked with the rank, and never mixed within a line."""

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TextIO

_LONGEST = 1 << 20  # bytes of a line that are held back while its end is awaited
_END = re.compile(rb"\r\n|\n|\r(?!\n)")

Emit = Callable[[bytes], None]


class Lines:
    """Cuts a stream of bytes into lines, of which a progress bar's `\\r` ends one as well."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Complete lines, with their ends."""
        data, lines, start = self._rest + data, [], 0
        for end in _END.finditer(data):
            if end[0] == b"\r" and end.end() == len(data):
                break  # `\n` may follow
            lines.append(data[start : end.end()])
            start = end.end()
        self._rest = data[start:]
        if len(self._rest) > _LONGEST:
            lines.append(self.finish())
        return lines

    def finish(self) -> bytes:
        """What is left without an end."""
        rest, self._rest = self._rest, b""
        return rest


class LastError:
    """Watches standard error for the line that says why a rank ended."""

    def __init__(self) -> None:
        self._exception = b""
        self._line = b""
        self._in_traceback = False

    def see(self, line: bytes) -> None:
        """Takes one line."""
        text = line.strip()
        if not text:
            return
        self._line = text
        if text.startswith(b"Traceback (most recent call last)"):
            self._in_traceback = True
        elif self._in_traceback and line[:1] not in (b" ", b"\t"):
            self._exception, self._in_traceback = text, False

    def text(self) -> str:
        """The last exception, else the last line; empty if nothing was printed."""
        return (self._exception or self._line).decode(errors="replace")[:500]


class Output:
    """Where lines go: to this process's own streams, and to files if asked.

    Args:
        folder: has a folder `rank.N` with the files `stdout` and `stderr` for each rank; None: no
            files.
        timestamps: whether the time stands before each line.
        prefix: whether the rank stands before each line.
    """

    def __init__(
        self, folder: Path | None = None, timestamps: bool = False, prefix: bool = True
    ) -> None:
        self._folder, self._timestamps, self._prefix = folder, timestamps, prefix
        self._unread = False  # nobody reads any more: said once, by BrokenPipeError

    def open(self, rank: int, size: int, name: str) -> Emit:
        """The way out for one stream of one rank.

        Args:
            rank: whose.
            size: of the job; the folder's name has as many digits as the last rank.
            name: `stdout` or `stderr`.
        """
        file = self._file(rank, size, name)
        stream = sys.stdout if name == "stdout" else sys.stderr
        label = f"[{rank}]<{name}>:".encode() if self._prefix else b""

        def emit(line: bytes) -> None:
            if file is not None:
                file.write(line)
            if self._unread:
                return
            stamp = time.ctime().encode() if self._timestamps else b""
            end = b"" if line[-1:] in (b"\n", b"\r") else b"\n"
            try:
                write(stream, stamp + label + line + end)
            except BrokenPipeError:
                self._unread = True
                raise

        return emit

    def _file(self, rank: int, size: int, name: str) -> BinaryIO | None:
        if self._folder is None:
            return None
        folder = self._folder / f"rank.{rank:0{len(str(max(0, size - 1)))}d}"
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / name).open("ab", buffering=0)


def write(stream: TextIO, line: bytes) -> None:
    """Writes bytes to a text stream, at once."""
    raw = getattr(stream, "buffer", None)
    if raw is None:
        stream.write(line.decode(errors="replace"))
    else:
        raw.write(line)
    stream.flush()
