"""The timeline: what each collective waited for and when it ran, as a Chrome trace.

Open the file with chrome://tracing or Perfetto. Rank 0 writes it. As in Horovod's, every tensor is
a row; NEGOTIATE_* lasts from the first rank's request to the response, with an instant for each
rank's arrival.
"""

import json
import threading
import time
from typing import Any, TextIO

from taco.lightcc.engine.requests import Request, Response


class Timeline:
    """A trace file that can be opened and closed while the job runs. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file: TextIO | None = None
        self._mark_cycles = False
        self._start = 0.0
        self._first = True
        self._rows: dict[str, int] = {}
        self._open: set[tuple[str, str]] = set()  # (row, activity) begun and not ended

    @property
    def active(self) -> bool:
        return self._file is not None

    def start(self, path: str, mark_cycles: bool = False) -> None:
        """Begins a file; one that is open is finished first.

        Raises:
            OSError: the file cannot be written.
        """
        self.stop()
        file = open(path, "w", buffering=1, encoding="utf-8")  # noqa: SIM115 - closed by stop()
        with self._lock:
            self._file, self._mark_cycles, self._first = file, mark_cycles, True
            self._rows, self._open = {}, set()
            self._start = time.monotonic()
            file.write("[\n")
            self._put(
                {
                    "name": "process_name",
                    "ph": "M",
                    "pid": 0,
                    "args": {"start_time_since_epoch_in_micros": time.time_ns() // 1000},
                }
            )

    def stop(self) -> None:
        """Finishes the file: valid JSON from then on."""
        with self._lock:
            if self._file is not None:
                for row, activity in list(self._open):
                    self._event(row, activity, "E")
                self._file.write("\n]\n")
                self._file.close()
                self._file = None

    def observe(self, what: str, value: Any) -> None:
        """The coordinator's ear: every request (rank, Request) and every Response."""
        if not self.active:
            return
        with self._lock:
            if self._file is None:
                return
            if what == "request":
                self._request(*value)
            else:
                self._response(value)

    def span(self, response: Response, activity: str, begin: bool, **args: Any) -> None:
        """An activity of a response's tensors begins or ends on this rank."""
        if not self.active:
            return
        with self._lock:
            if self._file is not None:
                for name in response.names:
                    self._event(name, activity, "B" if begin else "E", **args)

    def mark(self, name: str, **args: Any) -> None:
        """An instant on the job's own row, such as a change of mode."""
        if not self.active:
            return
        with self._lock:
            if self._file is not None:
                self._put(
                    {"name": name, "ph": "i", "s": "g", "pid": 0, "ts": self._now(), "args": args}
                )

    def _request(self, rank: int, request: Request) -> None:
        activity = f"NEGOTIATE_{request.kind.upper()}"
        if (request.name, activity) not in self._open:
            self._event(request.name, activity, "B")
        self._put(
            {
                "name": str(rank),
                "ph": "i",
                "s": "p",
                "pid": self._row(request.name),
                "ts": self._now(),
            }
        )

    def _response(self, response: Response) -> None:
        if self._mark_cycles:
            self._put({"name": "CYCLE_START", "ph": "i", "s": "g", "pid": 0, "ts": self._now()})
        activity = f"NEGOTIATE_{response.kind.upper()}"
        for name in response.names:
            if (name, activity) in self._open:
                self._event(name, activity, "E")

    def _event(self, row: str, activity: str, phase: str, **args: Any) -> None:
        if phase == "B":
            self._open.add((row, activity))
        else:
            self._open.discard((row, activity))
        event: dict[str, Any] = {"name": activity, "ph": phase, "pid": self._row(row)}
        event["ts"] = self._now()
        if args:
            event["args"] = args
        self._put(event)

    def _row(self, name: str) -> int:
        row = self._rows.get(name)
        if row is None:
            row = self._rows[name] = len(self._rows) + 1
            self._put({"name": "process_name", "ph": "M", "pid": row, "args": {"name": name}})
        return row

    def _now(self) -> int:
        """Microseconds since the file began."""
        return int((time.monotonic() - self._start) * 1e6)

    def _put(self, event: dict[str, Any]) -> None:
        assert self._file is not None
        self._file.write(("" if self._first else ",\n") + json.dumps(event))
        self._first = False
