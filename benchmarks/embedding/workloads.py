"""What a worker does with its contestant: fill, check, time. The same code for all of them."""

from __future__ import annotations

import contextlib
import gc
import itertools
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from benchmarks.embedding import keys as bench_keys
from benchmarks.embedding import memory
from benchmarks.embedding.adapters.base import Adapter
from benchmarks.embedding.cases import Case

_FILL_BATCH = bench_keys.PATTERN_ROWS
_CHECKED_IDS = 4096
_WARM_UP_SECONDS = 30.0
# Rounds begin this many batches after each other: prime to any usual number of batches.
_ROUND_STRIDE = 7
_SERIES_POINTS = 256
# Ratios of memory are judged from this payload on: below it the noise of the process is larger.
_MEMORY_FLOOR = 64 << 20


def timed(call: Callable[[Any], Any], arguments: Iterable[Any], budget: float) -> list[float]:
    """Seconds of each call, one an argument; the call that reaches `budget` is the last."""
    seconds: list[float] = []
    total = 0.0
    with no_garbage_collection():
        for argument in arguments:
            begin = time.perf_counter()
            call(argument)
            seconds.append(time.perf_counter() - begin)
            total += seconds[-1]
            if total >= budget:
                break
    return seconds


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Python's collector, whose work would count for whoever calls, waits; as in `timeit`."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def switches() -> int:
    """Times that the kernel took the processor away from this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


class SteadyWorkload:
    """A table that is full: lookups, upserts of existing keys, training steps."""

    def __init__(self, adapter: Adapter, case: Case):
        self._adapter = adapter
        self._case = case
        self._pattern = bench_keys.pattern(case.dim)
        adapter.create(case.dim, case.rows, case.slots)
        self._fill()
        if adapter.size() != case.rows:
            raise RuntimeError(f"filled {case.rows} rows, the table says {adapter.size()}")
        if not case.slots and adapter.merge_batches == 1:
            self._check()

    def _fill(self) -> None:
        """Grows the table to its rows; with slots by training, so that every row has them."""
        put = self._adapter.train_step if self._case.slots else self._adapter.upsert
        whole = self._adapter.values(self._pattern)
        for begin in range(0, self._case.rows, _FILL_BATCH):
            ids = np.arange(begin, min(begin + _FILL_BATCH, self._case.rows))
            full = ids.size == _FILL_BATCH
            put(
                self._adapter.keys(ids),
                whole if full else self._adapter.values(self._pattern[: ids.size]),
            )
            if self._adapter.merge_batches > 1 or (self._case.slots and self._is_dense()):
                return

    def _is_dense(self) -> bool:
        """A dense variable has all rows and slots from the start; one step warms it up."""
        return type(self._adapter).__module__.endswith("dense_variable")

    def _check(self) -> None:
        ids = np.random.default_rng(3).integers(0, self._case.rows, _CHECKED_IDS)
        got = np.asarray(self._adapter.lookup(self._adapter.keys(ids)))
        if not np.array_equal(got, self._pattern[ids % bench_keys.PATTERN_ROWS]):
            raise RuntimeError("lookups do not give the rows that were put in")

    def start_case(self, case: Case, ids_file: str) -> None:
        """Makes the case's batches from the ids in `ids_file`; touches the table, untimed."""
        self._case = case
        pool = np.load(ids_file).reshape(-1, case.batch * self._adapter.merge_batches)
        self._keys = [self._adapter.keys(ids) for ids in pool]
        self._items = pool.shape[1]
        self._rows = self._adapter.values(np.resize(self._pattern, (case.batch, case.dim)))
        self._warm_up()
        self.round(0, 0.0)

    def _warm_up(self) -> None:
        """Goes over all rows once.

        A virtual machine's host takes memory back that lies idle, and who was filled first waits
        longest: what it costs to get it again is not the table's.
        """
        if self._case.slots and self._is_dense():
            return  # every step goes over all rows
        call = self._call()
        deadline = time.perf_counter() + _WARM_UP_SECONDS
        for begin in range(0, self._case.rows - self._items, self._items):
            call(self._adapter.keys(np.arange(begin, begin + self._items)))
            if time.perf_counter() > deadline:
                return

    def round(self, index: int, seconds: float) -> dict[str, Any]:
        """Times batches, all contestants the same, until `seconds` have passed; at least one."""
        call = self._call()
        first = index * _ROUND_STRIDE
        batches = (self._keys[i % len(self._keys)] for i in itertools.count(first))
        before = switches()
        times = timed(call, batches, seconds)
        return {
            "items": self._items * len(times),
            "seconds": [sum(times)],
            "batches": len(times),
            "median_batch": float(np.median(times)),
            "switches": switches() - before,
        }

    def _call(self) -> Callable[[Any], Any]:
        adapter, rows = self._adapter, self._rows
        if self._case.kind == "lookup":
            return adapter.lookup
        put = adapter.train_step if self._case.kind == "train" else adapter.upsert
        return lambda keys: put(keys, rows)


class GrowthWorkload:
    """A table that grows from nothing to its rows, every key new.

    `insert` times it; `growth` looks at each batch's time and at the memory of each moment besides.
    """

    def __init__(self, adapter: Adapter, case: Case):
        self._adapter = adapter
        self._case = case
        pattern = bench_keys.pattern(case.dim)
        self._rows = np.resize(pattern, (case.batch, case.dim))
        self._put = adapter.train_step if case.slots else adapter.upsert
        self._grow(min(case.rows, 8 * case.batch), watch=False)  # warms the process up

    def start_case(self, case: Case, ids_file: str) -> None:
        """Nothing to do: keys are made batch by batch."""

    def round(self, index: int, seconds: float) -> dict[str, Any]:
        """Grows a new table to the end, whatever it takes."""
        return self._grow(self._case.rows, watch=self._case.kind == "growth")

    def _grow(self, rows: int, watch: bool) -> dict[str, Any]:
        adapter, case = self._adapter, self._case
        # Before the table is made: what it allocates in advance counts.
        watcher = _MemoryWatcher(adapter, case.row_bytes, rows) if watch else None
        adapter.create(case.dim, rows, case.slots)
        values = adapter.values(self._rows)
        # Compiles what is compiled at the first call.
        self._put(adapter.keys(np.arange(1)), adapter.values(self._rows[:1]))
        before = switches()
        seconds: list[float] = []
        with no_garbage_collection():
            for begin in range(0, rows, case.batch):
                end = min(begin + case.batch, rows)
                keys = adapter.keys(np.arange(begin, end))
                if end - begin < case.batch:
                    values = adapter.values(self._rows[: end - begin])
                if watcher:
                    memory.reset_peak()
                start = time.perf_counter()
                self._put(keys, values)
                seconds.append(round(time.perf_counter() - start, 7))
                if watcher:
                    watcher.look(end)
        if adapter.size() != rows:
            raise RuntimeError(f"inserted {rows} keys, the table says {adapter.size()}")
        done = {"items": rows, "seconds": seconds, "switches": switches() - before}
        if watcher:
            done["memory"] = watcher.result()
        adapter.drop()
        gc.collect()
        memory.trim()
        return done


class _MemoryWatcher:
    """Peak resident set of each batch, less what the process had before, over the payload."""

    def __init__(self, adapter: Adapter, row_bytes: int, rows: int):
        self._adapter = adapter
        self._row_bytes = row_bytes
        self._baseline = memory.resident()
        self._floor = min(_MEMORY_FLOOR, rows * row_bytes // 4)
        self._every = max(1, rows // 8192 // _SERIES_POINTS)
        self._moments: list[tuple[int, int]] = []
        self._own: list[tuple[int, int]] = []

    def look(self, rows: int) -> None:
        """Notes the moment that just passed; not part of the timed calls."""
        self._moments.append((rows, memory.peak() - self._baseline))
        if len(self._moments) % self._every == 0:
            own = self._adapter.own_bytes()
            if own is not None:
                self._own.append((rows, own))

    def result(self) -> dict[str, Any]:
        """Largest and last ratios, and a thinned series of (rows, ratio) that keeps the peaks."""
        resident = self._ratios(self._moments)
        own = self._ratios(self._own)
        payload = self._moments[-1][0] * self._row_bytes
        return {
            "floor_bytes": self._floor,
            "resident_max": max((ratio for _, ratio in resident), default=None),
            "resident_last": (memory.resident() - self._baseline) / payload,
            "huge_page_bytes": memory.huge_pages(),
            "own_max": max((ratio for _, ratio in own), default=None),
            "series": thin(resident, _SERIES_POINTS),
        }

    def _ratios(self, moments: list[tuple[int, int]]) -> list[tuple[int, float]]:
        size = self._row_bytes
        return [(n, bytes_ / (n * size)) for n, bytes_ in moments if n * size >= self._floor]


def thin(series: list[tuple[int, float]], points: int) -> list[tuple[int, float]]:
    """At most `points` of the series: the highest of each run of neighbours."""
    run = max(1, -(-len(series) // points))
    return [max(series[i : i + run], key=lambda p: p[1]) for i in range(0, len(series), run)]


def make(adapter: Adapter, case: Case) -> SteadyWorkload | GrowthWorkload:
    """The workload of the case's kind, with its table filled where it has to be."""
    return (GrowthWorkload if case.kind in ("insert", "growth") else SteadyWorkload)(adapter, case)
