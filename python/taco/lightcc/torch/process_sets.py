"""Process sets: collectives among some of the ranks."""

from collections.abc import Sequence

from taco.lightcc.torch import _state


class ProcessSet:
    """Some of the job's ranks, in ascending order.

    A set is usable once it is registered: handed to `init(process_sets=...)` or to
    `add_process_set`, on every rank alike. In the next round of an elastic job, sets that `init`
    got are registered again, as far as there are such ranks; others are not.

    Args:
        ranks: global ranks.

    Attributes:
        process_set_id: the id, as long as it is registered; else None.
        ranks: the global ranks; None for the global set before `init`.
    """

    process_set_id: int | None = None

    def __init__(self, ranks: Sequence[int]) -> None:
        self.ranks: list[int] | None = sorted({int(rank) for rank in ranks})

    def _registered(self) -> tuple[int, tuple[int, ...]]:
        job = _state.runtime()
        if self.process_set_id is None or self.process_set_id not in job.sets:
            raise ValueError(self._why_not(job.size))
        return self.process_set_id, job.sets[self.process_set_id]

    def _why_not(self, size: int) -> str:
        beyond = [rank for rank in self.ranks or () if rank >= size]
        if beyond:
            return (
                f"{self} cannot be used: the job has ranks 0 to {size - 1} now, and not {beyond}."
            )
        return (
            f"{self}: Process set does not exist or has not been registered. Hand it to "
            "hvd.init(process_sets=[...]) or hvd.add_process_set(...) on every rank. In an elastic "
            "job, a set that was added is to be added again in each round."
        )

    def size(self) -> int:
        """How many ranks it has.

        Raises:
            ValueError: it is not registered, or Horovod is not initialized.
        """
        return len(self._registered()[1])

    def rank(self) -> int:
        """This process's rank within the set.

        Raises:
            ValueError: as `size`; or this process is not in the set.
        """
        _, ranks = self._registered()
        try:
            return ranks.index(_state.runtime().rank)
        except ValueError:
            raise ValueError("Process is not part of provided process set.") from None

    def included(self) -> bool:
        """Whether this process is in the set. Raises as `size`."""
        return _state.runtime().rank in self._registered()[1]

    def __str__(self) -> str:
        return f"ProcessSet(process_set_id={self.process_set_id}, ranks={self.ranks})"

    __repr__ = __str__


class _GlobalProcessSet(ProcessSet):
    def __init__(self) -> None:
        super().__init__([])
        self.process_set_id = 0
        self.ranks = None


global_process_set: ProcessSet = _GlobalProcessSet()

_in_use: list[ProcessSet] = []  # those that have an id in the present job, but for the global one


def add_process_set(process_set: ProcessSet | Sequence[int]) -> ProcessSet:
    """Registers a process set; every rank calls it, with the same ranks.

    Args:
        process_set: a set, or its ranks.

    Raises:
        ValueError: there is no such rank, or a set with the same ranks exists already.
        HorovodInternalError: the ranks differ between processes.
    """
    if not isinstance(process_set, ProcessSet):
        process_set = ProcessSet(process_set)
    ranks = tuple(process_set.ranks or ())
    job = _state.runtime()
    check_ranks(ranks, job.size)
    known = next((set_id for set_id, members in job.sets.items() if members == ranks), None)
    if known is not None:
        raise ValueError(
            f"A process set with ranks {list(ranks)} has already been added (id {known})."
        )
    register(process_set)
    return process_set


def register(process_set: ProcessSet) -> None:
    """Has the job make a set, on all ranks together.

    A set of all ranks, which there may be in a later round of an elastic job, is the global one
    under another name.
    """
    process_set.process_set_id = _state.runtime().add_set(tuple(process_set.ranks or ()))
    _in_use.append(process_set)


def fits(process_set: ProcessSet, size: int) -> bool:
    """Whether a job of that size has all of its ranks."""
    return all(rank < size for rank in process_set.ranks or ())


def forget_all() -> None:
    """The job is over, and with it all ids: the next one may give them to other sets."""
    for process_set in _in_use:
        process_set.process_set_id = None
    _in_use.clear()


def remove_process_set(process_set: ProcessSet) -> bool:
    """Removes a set; every rank calls it. Returns False for one that cannot be removed.

    Raises:
        ValueError: Horovod is not initialized.
    """
    job = _state.runtime()
    set_id = process_set.process_set_id
    if set_id is None or set_id == 0 or set_id not in job.sets:
        return False
    job.remove_set(set_id)
    process_set.process_set_id = None
    _in_use[:] = [each for each in _in_use if each is not process_set]
    return True


def check_ranks(ranks: Sequence[int], size: int) -> None:
    """Raises ValueError unless these are ranks of a job of that size."""
    if not ranks:
        raise ValueError("A process set needs at least one rank.")
    wrong = [rank for rank in ranks if not 0 <= rank < size]
    if wrong:
        raise ValueError(f"A process set names ranks {wrong}; the job has ranks 0 to {size - 1}.")


def process_set_ids() -> dict[int, list[int]]:
    """The ranks of every registered set, by its id."""
    return {set_id: list(ranks) for set_id, ranks in _state.runtime().sets.items()}
