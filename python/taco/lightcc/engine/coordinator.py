"""The coordinator: one thread of rank 0, which hears every rank and answers all in one order.

It never touches a tensor. Ready allreduces are held back while rank 0 itself still executes, so
that more of them can be fused: waiting in the coordinator costs nothing then.
"""

import contextlib
import hmac
import selectors
import socket
import threading
import time
from collections.abc import Callable

from taco.lightcc.engine import wire
from taco.lightcc.engine.negotiation import Negotiation
from taco.lightcc.engine.requests import Response, request_from_json, to_json
from taco.lightcc.engine.stall import StallCheck

_TICK_SECONDS = 1.0
# A rank whose peer died reports a broken transfer; the peer's own connection says who died.
_VERDICT_SECONDS = 1.0
_STRANGERS = 64  # connections that have not shown the job's key, at most


class _Peer:
    """One connection, and the rank behind it once it has said so."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.decoder = wire.Decoder()
        self.rank = -1
        self.host = ""
        self.out = bytearray()


class Coordinator:
    """Serves one job until every rank has left.

    Args:
        size: number of ranks.
        key: what a rank has to show first.
        negotiation: the state of the agreements.
        stall: reports what waits too long.
        backlog: how many responses rank 0 has not finished executing; any thread may change it.
        observe: told of every request (rank, request) and of every response; for the timeline.
        host: the address to listen on; empty for all.
    """

    def __init__(
        self,
        size: int,
        key: str,
        negotiation: Negotiation,
        stall: StallCheck,
        backlog: Callable[[], int],
        observe: Callable[[str, object], None],
        host: str = "",
    ) -> None:
        self._size = size
        self._key = key
        self._negotiation = negotiation
        self._stall = stall
        self._backlog = backlog
        self._observe = observe
        self._listener = socket.create_server((host, 0), backlog=max(128, size))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_out.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._selector.register(self._wake_in, selectors.EVENT_READ, None)
        self._peers: dict[socket.socket, _Peer] = {}
        self._ranks: dict[int, _Peer] = {}
        self._finished: set[int] = set()
        self._aborted = ""
        self._stopped = ""  # why it is to end before all have left
        self._reported: tuple[float, str] | None = None  # when, and what a rank could not do
        self._thread = threading.Thread(target=self._run, name="taco-coordinator", daemon=True)
        self._thread.start()

    def poke(self) -> None:
        """Rank 0 has finished something: look whether to release more. Any thread."""
        with contextlib.suppress(OSError):  # already poked (it would block), or already over
            self._wake_out.send(b"x")

    def join(self, timeout: float) -> bool:
        """Waits until every rank has left. Returns whether they have."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def stop(self, why: str) -> None:
        """Ends it: who has joined is told why, who has not cannot any more. Any thread."""
        self._stopped = why
        self.poke()

    def _run(self) -> None:
        try:
            while len(self._finished) < self._size and not self._stopped:
                self._turn()
            if self._stopped:
                self._turn()  # for those that have just come
                self._abort(self._stopped)
        finally:
            self._close()

    def _turn(self) -> None:
        for selected, mask in self._selector.select(_TICK_SECONDS):
            self._handle(selected.fileobj, mask)  # type: ignore[arg-type]
        # What has arrived meanwhile belongs to the same answer.
        while events := self._selector.select(0):
            progressed = False
            for selected, mask in events:
                progressed |= self._handle(selected.fileobj, mask)  # type: ignore[arg-type]
            if not progressed:
                break
        self._release()
        self._tick()

    def _release(self) -> None:
        negotiation = self._negotiation
        if not negotiation.has_ready:
            return
        # One response in execution, one waiting: more would only be fused less.
        busy = self._backlog() >= 2 and negotiation.ready_bytes < negotiation.fusion_threshold
        if busy and not self._aborted:
            return
        for response in negotiation.take():
            self._observe("response", response)
            self._send(response)

    def _send(self, response: Response) -> None:
        data = wire.encode({"do": to_json(response)})
        everyone = response.kind in ("add_process_set", "remove_process_set") and not response.error
        ranks = range(self._size) if everyone else response.ranks
        for rank in ranks:
            peer = self._ranks.get(rank)
            if peer is not None:
                self._queue(peer, data)

    def _queue(self, peer: _Peer, data: bytes) -> None:
        peer.out += data
        self._write(peer)

    def _write(self, peer: _Peer) -> None:
        try:
            sent = peer.connection.send(peer.out)
            del peer.out[:sent]
        except BlockingIOError:
            pass
        except OSError as error:
            self._drop(peer, f"its connection broke ({error.strerror or error})")
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.out else 0)
        if peer.connection in self._peers:
            self._selector.modify(peer.connection, events, None)

    def _handle(self, source: socket.socket, events: int) -> bool:
        """Reads what `source` has. Returns whether that was anything."""
        if source is self._listener:
            return self._accept()
        if source is self._wake_in:
            source.recv(4096)
            return False
        peer = self._peers.get(source)
        if peer is None:
            return False
        if events & selectors.EVENT_WRITE:
            self._write(peer)
        return bool(events & selectors.EVENT_READ) and self._read(peer)

    def _accept(self) -> bool:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, OSError):
            return False
        if len(self._peers) - len(self._ranks) >= _STRANGERS:
            connection.close()
            return False
        connection.setblocking(False)
        wire.tune(connection)
        self._peers[connection] = _Peer(connection)
        self._selector.register(connection, selectors.EVENT_READ, None)
        return True

    def _read(self, peer: _Peer) -> bool:
        try:
            data = peer.connection.recv(1 << 18)
        except BlockingIOError:
            return False
        except OSError as error:
            self._drop(peer, f"its connection broke ({error.strerror or error})")
            return False
        if not data:
            self._drop(peer, "its process ended")
            return False
        try:
            for message in peer.decoder.feed(data):
                self._understand(peer, message)
        except (wire.ProtocolError, ValueError, KeyError, TypeError) as error:
            self._drop(peer, f"it sent what is no message of this job ({error})")
        return True

    def _understand(self, peer: _Peer, message: wire.Message) -> None:
        if peer.rank < 0:
            self._greet(peer, message)
        elif "want" in message:
            for item in message["want"]:
                request = request_from_json(item)
                self._observe("request", (peer.rank, request))
                self._negotiation.submit(peer.rank, request, time.monotonic())
        elif "waits" in message:
            set_id, name = message["waits"]
            self._negotiation.wait(peer.rank, set_id, name)
        elif "failed" in message:
            if self._reported is None:
                text = f"rank {peer.rank} on {peer.host}: {message['failed']}"
                self._reported = (time.monotonic(), text)
        elif "bye" in message:
            self._finish(peer.rank, "has shut down")

    def _greet(self, peer: _Peer, message: wire.Message) -> None:
        rank = message.get("rank")
        if not hmac.compare_digest(str(message.get("key")), self._key):
            raise wire.ProtocolError("it does not know the job's key")
        if not isinstance(rank, int) or not 0 <= rank < self._size or rank in self._ranks:
            raise wire.ProtocolError(f"it claims to be rank {rank!r}")
        peer.rank, peer.host = rank, str(message.get("host", "?"))
        self._ranks[rank] = peer
        if self._aborted:
            self._queue(peer, wire.encode({"abort": self._aborted}))

    def _finish(self, rank: int, why: str) -> None:
        if rank not in self._finished:
            self._finished.add(rank)
            self._negotiation.leave(rank, why)

    def _drop(self, peer: _Peer, why: str) -> None:
        """A connection is over: a stranger is forgotten, a rank that had not left is mourned."""
        if self._peers.pop(peer.connection, None) is None:
            return
        self._selector.unregister(peer.connection)
        peer.connection.close()
        if peer.rank < 0 or self._ranks.get(peer.rank) is not peer:
            return
        if peer.rank not in self._finished:
            self._abort(f"rank {peer.rank} on {peer.host} is gone: {why}", except_for=peer)
            self._finish(peer.rank, "is gone")

    def _abort(self, why: str, except_for: _Peer | None = None) -> None:
        if self._aborted:
            return
        self._aborted = why
        data = wire.encode({"abort": why})
        for peer in list(self._ranks.values()):
            if peer is not except_for and peer.rank not in self._finished:
                self._queue(peer, data)

    def _tick(self) -> None:
        now = time.monotonic()
        if self._reported is not None and now - self._reported[0] > _VERDICT_SECONDS:
            self._abort(self._reported[1])
        elif fatal := self._stall.check(self._negotiation, now):
            self._abort(fatal)

    def _close(self) -> None:
        for peer in list(self._peers.values()):
            self._flush(peer)
            peer.connection.close()
        self._selector.close()
        self._listener.close()
        self._wake_in.close()
        self._wake_out.close()

    @staticmethod
    def _flush(peer: _Peer) -> None:
        if peer.out:
            with contextlib.suppress(OSError):
                peer.connection.settimeout(1.0)
                peer.connection.sendall(peer.out)
