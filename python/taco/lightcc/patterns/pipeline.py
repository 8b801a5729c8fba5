"""Several stages at once: while one chunk crosses the slow link, others move on the fast ones."""

import queue
import threading
from collections.abc import Callable, Sequence

Stage = Callable[[int], None]


def run_pipeline(stages: Sequence[Stage], items: Sequence[int]) -> None:
    """Takes every item through all stages; a stage handles one item at a time, in order.

    Each stage but the first has a thread, which ends before this returns.

    Args:
        stages: called with an item when the stage before has returned for it.
        items: for example the numbers of chunks.

    Raises:
        BaseException: what a stage raised first. What had begun has ended by then: a stage that
            waits for a peer has come to the transport's timeout at the latest.
    """
    if len(stages) == 1 or len(items) == 1:
        for item in items:
            for stage in stages:
                stage(item)
        return
    errors: list[BaseException] = []
    ready: list[queue.SimpleQueue[bool]] = [queue.SimpleQueue() for _ in range(len(stages) + 1)]
    for _ in items:
        ready[0].put(True)

    def work(number: int) -> None:
        for item in items:
            if not ready[number].get():
                break
            try:
                if errors:
                    break
                stages[number](item)
            except BaseException as error:
                errors.append(error)
                break
            ready[number + 1].put(True)
        else:
            return
        ready[number + 1].put(False)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, len(stages))]
    for thread in threads:
        thread.start()
    work(0)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def run_together(tasks: Sequence[Callable[[], None]]) -> None:
    """Runs tasks in a thread each, the first in the caller's.

    Raises:
        BaseException: what one raised first, after all have ended.
    """
    errors: list[BaseException] = []

    def work(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(task,)) for task in tasks[1:]]
    for thread in threads:
        thread.start()
    if tasks:
        work(tasks[0])
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
