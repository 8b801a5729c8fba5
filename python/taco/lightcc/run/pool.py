"""All ranks that run: their output, their ends, and the signals that the launcher gets."""

import os
import selectors
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from taco.lightcc.run.worker import BEAT, Ended, Worker

_POLL = 0.1  # seconds, where the kernel cannot tell that a process ended
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Pool:
    """The workers of a job. One thread uses it."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self.signals: list[int] = []  # that the launcher got, in order
        self._selector = selectors.DefaultSelector()
        self._descriptors: dict[Worker, set[int]] = {}
        self._pidfds: dict[Worker, int] = {}
        self._beat_at = time.monotonic() + BEAT

    def add(self, worker: Worker) -> None:
        """Watches a worker from now on."""
        self.workers.append(worker)
        self._descriptors[worker] = set()
        for name in ("stdout", "stderr"):
            descriptor = getattr(worker.process, name).fileno()
            os.set_blocking(descriptor, False)
            self._watch(worker, descriptor, self._reader(worker, name, descriptor))
        with suppress(OSError, AttributeError):
            pidfd = os.pidfd_open(worker.process.pid)
            self._pidfds[worker] = pidfd
            self._selector.register(pidfd, selectors.EVENT_READ, lambda: None)

    @property
    def running(self) -> list[Worker]:
        """Those whose keepers have not ended."""
        return [worker for worker in self.workers if worker.ended is None]

    def wait(self, timeout: float | None = None) -> list[Ended]:
        """Relays output until something happens.

        Args:
            timeout: seconds; None for some.

        Returns:
            The ranks whose keepers ended meanwhile. After a signal to the launcher it is empty.
        """
        if len(self._pidfds) < len(self.running):
            timeout = _POLL if timeout is None else min(timeout, _POLL)
        until_beat = self._beat()
        timeout = until_beat if timeout is None else min(timeout, until_beat)
        for key, _ in self._selector.select(timeout):
            key.data()
        ended = []
        for worker in self.running:
            code = worker.process.poll()
            if code is not None:
                self._drain(worker)
                ended.append(worker.finish(code))
                self.workers.remove(worker)
        return ended

    def stop(self, workers: list[Worker], grace: float) -> list[Ended]:
        """Ends workers: gently, and by force when the grace is over or a second signal comes.

        Returns:
            How each of all workers ended that did so meanwhile.
        """
        ended: list[Ended] = []
        heard = len(self.signals)
        for worker in workers:
            worker.terminate()
        for patience, act in ((grace + 1.0, Worker.kill), (2.0, Worker.abandon), (5.0, None)):
            until = time.monotonic() + patience
            while self._any(workers) and time.monotonic() < until and len(self.signals) == heard:
                ended += self.wait(max(0.0, until - time.monotonic()))
            heard = len(self.signals)
            for worker in workers:
                if act is not None and worker.ended is None:
                    act(worker)
        return ended

    @contextmanager
    def catching_signals(self) -> Iterator[None]:
        """SIGINT, SIGTERM and SIGHUP end up in `signals` meanwhile; in the main thread alone."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        reader, writer = os.pipe()
        for descriptor in (reader, writer):
            os.set_blocking(descriptor, False)
        self._selector.register(reader, selectors.EVENT_READ, lambda: os.read(reader, 4096))

        def note(number: int, frame: FrameType | None) -> None:
            self.signals.append(number)

        wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        kept = {number: signal.getsignal(number) for number in _SIGNALS}
        for number, before in kept.items():
            if before is not signal.SIG_IGN:  # nohup's
                signal.signal(number, note)
        try:
            yield
        finally:
            for number, before in kept.items():
                signal.signal(number, before)
            signal.set_wakeup_fd(wakeup)
            self._selector.unregister(reader)
            os.close(reader)
            os.close(writer)

    def _beat(self) -> float:
        """Gives signs of life where they are due; how long until the next."""
        now = time.monotonic()
        if now >= self._beat_at:
            self._beat_at = now + BEAT
            for worker in self.running:
                worker.beat()
        return self._beat_at - now

    def _any(self, workers: list[Worker]) -> bool:
        return any(worker.ended is None for worker in workers)

    def _watch(self, worker: Worker, descriptor: int, read: Callable[[], object]) -> None:
        self._descriptors[worker].add(descriptor)
        self._selector.register(descriptor, selectors.EVENT_READ, read)

    def _reader(self, worker: Worker, name: str, descriptor: int) -> Callable[[], bool]:
        def read() -> bool:
            try:
                data = os.read(descriptor, 1 << 16)
            except BlockingIOError:
                return False
            if data:
                worker.take(name, data)
                return True
            self._descriptors[worker].discard(descriptor)
            self._selector.unregister(descriptor)
            return False

        return read

    def _drain(self, worker: Worker) -> None:
        """Reads what is left, and forgets the descriptors of a keeper that ended."""
        for descriptor in list(self._descriptors[worker]):
            read = self._selector.get_key(descriptor).data
            while read():
                pass
        for descriptor in self._descriptors.pop(worker):
            self._selector.unregister(descriptor)
        pidfd = self._pidfds.pop(worker, None)
        if pidfd is not None:
            self._selector.unregister(pidfd)
            os.close(pidfd)
