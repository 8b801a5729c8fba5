"""A thread that runs what a process group has to exchange, one job after the other."""

import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

Job = Callable[[], torch.Tensor]

# At the end of the program the thread is given so long: where Python ends under a thread that is in
# C++, the process is aborted.
_LAST_WAIT_S = 5.0

_workers: weakref.WeakKeyDictionary[dist.ProcessGroup, "weakref.ref[Worker]"]
_workers = weakref.WeakKeyDictionary()
_lock = threading.Lock()


class Worker:
    """Runs jobs in the order in which they come. Its thread ends when nobody keeps it."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Job, Any] | None] = queue.SimpleQueue()
        thread = threading.Thread(
            target=_loop, args=(self._jobs,), name="taco-topk-hook", daemon=True
        )
        weakref.finalize(self, _end, self._jobs, thread)
        thread.start()

    def submit(self, job: Job) -> torch.futures.Future[torch.Tensor]:
        """Takes a job.

        Returns:
            Its result. What it raises comes out as RuntimeError, in C++ too.
        """
        done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        # An exception that is set would reach C++ as a value; one that a callback raises is an
        # error there.
        result = done.then(lambda future: future.value())
        self._jobs.put((job, done))
        return result


def worker_of(group: dist.ProcessGroup) -> Worker:
    """The only one of a group: all exchanges over it are in the order of their submission.

    The caller keeps it. (Torch keeps a group that DDP has used for ever.)
    """
    with _lock:
        known = _workers.get(group)
        worker = known() if known is not None else None
        if worker is None:
            worker = Worker()
            _workers[group] = weakref.ref(worker)
        return worker


def _end(jobs: queue.SimpleQueue[tuple[Job, Any] | None], thread: threading.Thread) -> None:
    jobs.put(None)
    if thread is not threading.current_thread():
        thread.join(_LAST_WAIT_S)


def _loop(jobs: queue.SimpleQueue[tuple[Job, Any] | None]) -> None:
    while (item := jobs.get()) is not None:
        job, done = item
        try:
            result = job()
        except Exception as error:
            done.set_exception(error)
        else:
            done.set_result(result)
            del result
        del item, job, done  # an idle thread must not keep the group
