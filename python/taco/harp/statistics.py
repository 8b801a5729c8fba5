"""From the lines of HARP_STATS to what each connection does now. START HERE.

A line is one connection at one moment; its counters count from the beginning. docs/harp.md has the
fields. Rates are differences of a connection's last two lines.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Row:
    """What a connection does.

    Attributes:
        owner: host and process of this end.
        kind: "send" or "receive".
        peer: the other end, as the plugin names it.
        gbit_s: rate of the messages' bytes; 0 before there are two lines.
        messages_s: messages that ended, a second.
        rtt_us: smoothed round trip of the slowest path; 0 of a receiving end.
        least_rtt_us: the least that this path ever had.
        lost: part of the packets that were taken for lost, between the two lines.
        black: paths that get no answer.
        paths: how many there are.
        state: "greeting", "open" or "failed".
        failure: why it failed.
        age: seconds since its last line, against the newest line of all.
    """

    owner: str
    kind: str
    peer: str
    gbit_s: float
    messages_s: float
    rtt_us: float
    least_rtt_us: float
    lost: float
    black: int
    paths: int
    state: str
    failure: str
    age: float

    @property
    def badness(self) -> tuple[bool, int, float, float]:
        """Orders connections: failed ones, black paths, loss, and the round trip in excess."""
        excess = self.rtt_us / self.least_rtt_us if self.least_rtt_us else 0.0
        return (self.state == "failed", self.black, round(self.lost, 3), excess)


class Follower:
    """Reads files that grow, line by line; what is no line of HARP_STATS is counted and left out.

    Args:
        files: to read; those that are not there yet are looked for each time.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = list(files)
        self._places: dict[Path, int] = {}
        self._rest: dict[Path, bytes] = {}
        self._last: dict[tuple[str, str], tuple[dict[str, Any] | None, dict[str, Any]]] = {}
        self.malformed = 0

    def read(self) -> None:
        """Takes what was written since the last call.

        Raises:
            OSError: a file is there and cannot be read.
        """
        for file in self._files:
            for line in self._new_lines(file):
                self._take(line)

    def rows(self) -> list[Row]:
        """All connections, the worst first."""
        newest = max((now["time"] for _, now in self._last.values()), default=0.0)
        rows = [_row(before, now, newest) for before, now in self._last.values()]
        return sorted(rows, key=lambda row: row.badness, reverse=True)

    def _new_lines(self, file: Path) -> Iterator[bytes]:
        if not file.exists():
            return
        place = self._places.get(file, 0)
        if file.stat().st_size < place:  # it was begun anew
            place, self._rest[file] = 0, b""
        with file.open("rb") as stream:
            stream.seek(place)
            data = self._rest.get(file, b"") + stream.read()
            self._places[file] = stream.tell()
        *lines, self._rest[file] = data.split(b"\n")
        yield from lines

    def _take(self, line: bytes) -> None:
        try:
            read = json.loads(line)
            key = (f"{read['host']}:{read['process']}", read["connection"])
            for name in ("time", "bytes", "messages"):
                float(read[name])
            for name in ("kind", "peer", "state"):
                str(read[name])
        except (ValueError, KeyError, TypeError):
            self.malformed += 1
            return
        before = self._last.get(key)
        self._last[key] = (before[1] if before else None, read)


def _row(before: dict[str, Any] | None, now: dict[str, Any], newest: float) -> Row:
    seconds = now["time"] - before["time"] if before else 0.0
    paths = now.get("paths", [])
    slowest: dict[str, Any] = max(paths, key=lambda path: path["rtt_us"], default={})
    return Row(
        owner=f"{now['host']}:{now['process']}",
        kind=now["kind"],
        peer=now["peer"],
        gbit_s=8e-9 * _rate(before, now, "bytes", seconds),
        messages_s=_rate(before, now, "messages", seconds),
        rtt_us=slowest.get("rtt_us", 0.0),
        least_rtt_us=slowest.get("least_rtt_us", 0.0),
        lost=_lost(before.get("paths", []) if before else [], paths),
        black=sum(bool(path["black"]) for path in paths),
        paths=len(paths),
        state=now["state"],
        failure=now.get("failure", ""),
        age=newest - now["time"],
    )


def _rate(before: dict[str, Any] | None, now: dict[str, Any], name: str, seconds: float) -> float:
    return (now[name] - before[name]) / seconds if before and seconds > 0 else 0.0


def _lost(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> float:
    def total(paths: list[dict[str, Any]], name: str) -> int:
        return sum(int(path[name]) for path in paths)

    packets = total(now, "packets") - total(before, "packets")
    return (total(now, "lost") - total(before, "lost")) / packets if packets > 0 else 0.0
