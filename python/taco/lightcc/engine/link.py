"""A rank's connection to the coordinator."""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable

from taco.lightcc.engine import wire
from taco.lightcc.engine.requests import Request, Response, response_from_json, to_json

_log = logging.getLogger("taco.lightcc")


class Link:
    """Sends requests, hands responses on.

    Args:
        address: the coordinator's host and port.
        rank: this process's rank.
        key: the job's key.
        on_response: called in the link's own thread, in the coordinator's order.
        on_abort: called once with why the job is over, if it ends other than by `close`.
        timeout: seconds for the connection.

    Raises:
        OSError: the coordinator cannot be reached.
    """

    def __init__(
        self,
        address: tuple[str, int],
        rank: int,
        key: str,
        on_response: Callable[[Response], None],
        on_abort: Callable[[str], None],
        timeout: float,
    ) -> None:
        self._on_response = on_response
        self._on_abort = on_abort
        self._closing = False
        self._lock = threading.Lock()  # one message at a time
        self._socket = socket.create_connection(address, timeout=timeout)
        self._socket.settimeout(None)
        wire.tune(self._socket)
        self._send({"rank": rank, "key": key, "host": socket.gethostname()})
        self._thread = threading.Thread(target=self._run, name="taco-link", daemon=True)
        self._thread.start()

    def submit(self, *requests: Request) -> None:
        """Sends requests. Any thread. A broken connection is reported by `on_abort`, not here."""
        self._send({"want": [to_json(request) for request in requests]})

    def tell_waiting(self, request: Request) -> None:
        """Tells that this rank waits for what it has submitted, and goes on only then."""
        self._send({"waits": [request.set_id, request.name]})

    def report_failure(self, why: str) -> None:
        """Tells the others that this rank could not execute."""
        self._send({"failed": why})

    def close(self) -> None:
        """Says good-bye and closes."""
        self._closing = True
        self._send({"bye": True})
        with contextlib.suppress(OSError):  # the other side was faster
            self._socket.shutdown(socket.SHUT_RDWR)
        if threading.current_thread() is not self._thread:
            self._thread.join(5.0)
        self._socket.close()

    def _send(self, message: wire.Message) -> None:
        data = wire.encode(message)
        with self._lock:
            try:
                self._socket.sendall(data)
            except OSError as error:
                _log.debug("the coordinator is not reachable: %s", error)  # the reader reports it

    def _run(self) -> None:
        why = "rank 0, which coordinates, ended"
        decoder = wire.Decoder()
        try:
            while data := self._socket.recv(1 << 18):
                for message in decoder.feed(data):
                    if "abort" in message:
                        why = str(message["abort"])
                        return
                    self._on_response(response_from_json(message["do"]))
        except OSError as error:
            why = f"the connection to rank 0, which coordinates, broke ({error.strerror or error})"
        except (wire.ProtocolError, ValueError, KeyError, TypeError) as error:
            why = f"rank 0 sent what is no message of this job ({error})"
        finally:
            if not self._closing:
                self._on_abort(why)
