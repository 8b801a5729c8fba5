"""A network of threads in one process: exact, counted, and never silent about a deadlock."""

import collections
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")


class NetworkError(RuntimeError):
    """A rank of the simulated network died, or did not send in time."""


class SimulatedNetwork:
    """Joins ranks that run as threads of this process.

    What arrives depends on (source, destination, tag) and the order of calls alone, never on time.

    Args:
        size: number of ranks.
        timeout: seconds that a receive waits before it is an error.
        fail_at: for a rank the number of its send or receive at which it dies.

    Attributes:
        bytes: bytes sent, for each (source, destination).
    """

    def __init__(
        self, size: int, timeout: float = 20.0, fail_at: dict[int, int] | None = None
    ) -> None:
        self.size = size
        self.bytes: collections.Counter[tuple[int, int]] = collections.Counter()
        self._timeout = timeout
        self._fail_at = dict(fail_at or {})
        self._changed = threading.Condition()
        self._messages: dict[tuple[int, int, int, int], torch.Tensor] = {}
        self._sent: collections.Counter[tuple[int, int, int]] = collections.Counter()
        self._awaited: collections.Counter[tuple[int, int, int]] = collections.Counter()
        self._calls: collections.Counter[int] = collections.Counter()
        self._dead: set[int] = set()

    def transport(self, rank: int) -> "SimulatedTransport":
        """The transport of one rank."""
        return SimulatedTransport(self, rank)

    def run(self, function: Callable[["SimulatedTransport"], Result]) -> list[Result]:
        """Calls `function(transport)` for every rank, each in a thread of its own.

        Returns:
            What they returned, in order of the ranks.

        Raises:
            BaseException: what the rank raised that failed first; all the others have ended too.
        """
        results, errors = self.outcomes(function)
        if errors:
            raise next(iter(errors.values()))
        return [results[rank] for rank in range(self.size)]

    def outcomes(
        self, function: Callable[["SimulatedTransport"], Result]
    ) -> tuple[dict[int, Result], dict[int, BaseException]]:
        """Like `run`, but tells what each rank returned or raised, the first to raise first."""
        results: dict[int, Result] = {}
        errors: dict[int, BaseException] = {}

        def work(rank: int) -> None:
            try:
                results[rank] = function(self.transport(rank))
            except BaseException as error:
                errors[rank] = error
                self.kill(rank)

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results, errors

    def kill(self, rank: int) -> None:
        """Lets a rank die: whoever waits for a message it never sent gets an error."""
        with self._changed:
            self._dead.add(rank)
            self._changed.notify_all()

    def unread(self) -> int:
        """Messages that nobody received."""
        with self._changed:
            return len(self._messages)

    def _count_call(self, rank: int) -> None:
        self._calls[rank] += 1
        if self._calls[rank] == self._fail_at.get(rank):
            self._dead.add(rank)
            self._changed.notify_all()
        if rank in self._dead:
            raise NetworkError(f"rank {rank} died")

    def _send(self, tensor: torch.Tensor, src: int, dst: int, tag: int) -> None:
        if not tensor.is_contiguous() or tensor.dim() != 1:
            raise ValueError("a message has to be a contiguous tensor of one dimension")
        if not 0 <= dst < self.size or dst == src:
            raise ValueError(f"rank {src} cannot send to rank {dst} of {self.size}")
        with self._changed:
            self._count_call(src)
            key = (src, dst, tag)
            self._messages[(*key, self._sent[key])] = tensor.clone()
            self._sent[key] += 1
            self.bytes[src, dst] += tensor.numel() * tensor.element_size()
            self._changed.notify_all()

    def _expect(self, src: int, dst: int, tag: int) -> int:
        with self._changed:
            self._count_call(dst)
            self._awaited[src, dst, tag] += 1
            return self._awaited[src, dst, tag] - 1

    def _receive(self, tensor: torch.Tensor, key: tuple[int, int, int, int]) -> None:
        src, dst, tag, _ = key
        deadline = time.monotonic() + self._timeout
        with self._changed:
            while key not in self._messages:
                if src in self._dead:
                    raise NetworkError(f"rank {src} died; rank {dst} waited for its tag {tag}")
                if not self._changed.wait(deadline - time.monotonic()):
                    raise NetworkError(f"rank {dst} waited in vain for tag {tag} of rank {src}")
            message = self._messages.pop(key)
        if message.shape != tensor.shape or message.dtype != tensor.dtype:
            raise ValueError(
                f"rank {src} sent {tuple(message.shape)} {message.dtype} to rank {dst}, which "
                f"expected {tuple(tensor.shape)} {tensor.dtype}"
            )
        tensor.copy_(message)


class SimulatedTransport:
    """One rank's view of a `SimulatedNetwork`."""

    def __init__(self, network: SimulatedNetwork, rank: int) -> None:
        self._network = network
        self.rank: int = rank
        self.size: int = network.size

    def send(self, tensor: torch.Tensor, dst: int, tag: int = 0) -> "_Done":
        """See `transport.Transport.send`. The message is copied at once."""
        self._network._send(tensor, self.rank, dst, tag)
        return _Done()

    def recv(self, tensor: torch.Tensor, src: int, tag: int = 0) -> "_Receive":
        """See `transport.Transport.recv`."""
        number = self._network._expect(src, self.rank, tag)
        return _Receive(self._network, tensor, (src, self.rank, tag, number))


class _Done:
    def wait(self) -> None:
        """Nothing is left to do."""


class _Receive:
    def __init__(
        self, network: SimulatedNetwork, tensor: torch.Tensor, key: tuple[int, int, int, int]
    ) -> None:
        self._network = network
        self._tensor = tensor
        self._key = key

    def wait(self) -> None:
        """Fills the tensor."""
        self._network._receive(self._tensor, self._key)
