"""What is measured: the cases, and the blocks of cases that share one filled table."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

SUBJECT = "taco"
FLOOR = "floor"
CONTESTANTS = (
    SUBJECT,
    "dense_variable",
    "dense_hash_table",
    "mutable_hash_table",
    "tfra",
    FLOOR,
    "random_line",
    "first_touch",
)
# Not tables, but what the machine does by itself.
MACHINE = frozenset({FLOOR, "random_line", "first_touch"})
KINDS = ("lookup", "upsert", "insert", "train", "growth")
KEY_BYTES = 8
FLOAT_BYTES = 4

# Who takes part in what. A dense variable cannot grow; TensorFlow's own tables have no optimiser;
# `floor` does the memory work that no hash table can be without; `random_line` is the machine: its
# lookups are bare cache-line reads, its growth is the same reads in equal batches, which shows how
# long a tail the machine alone makes, and `first_touch` shows that of giving out fresh memory.
TAKES_PART: dict[str, frozenset[str]] = {
    "taco": frozenset(KINDS),
    "dense_variable": frozenset({"lookup", "upsert", "train"}),
    "dense_hash_table": frozenset({"lookup", "upsert", "insert", "growth"}),
    "mutable_hash_table": frozenset({"lookup", "upsert", "insert", "growth"}),
    "tfra": frozenset(KINDS),
    FLOOR: frozenset({"lookup", "upsert", "train"}),
    "random_line": frozenset({"lookup", "growth"}),
    "first_touch": frozenset({"growth"}),
}

# Peak resident bytes over payload, generous, to decide who fits into memory together.
_FOOTPRINT = {
    "taco": 1.35,
    "dense_variable": 1.1,
    "dense_hash_table": 3.0,
    "mutable_hash_table": 2.5,
    "tfra": 2.4,
    FLOOR: 1.3,
    "random_line": 1.05,
    "first_touch": 1.05,
}
# Keras' Adam on a dense variable makes whole-variable temporaries beside variable and two slots.
_DENSE_TRAIN_FOOTPRINT = 2.3
_PROCESS_BYTES = 500 << 20
# Rows from which a table is worth a process of its own.
_LARGE = 4_000_000


@dataclasses.dataclass(frozen=True)
class Case:
    """One measurement; `slots` counts the optimizer's vectors a row (0, or 2 for Adam)."""

    kind: str
    dim: int
    rows: int
    keys: str  # "uniform", "zipf", or "new" where every key is seen once
    threads: int
    slots: int
    batch: int
    batches: int  # distinct ones, gone through again and again; 0: as many as reach `rows`
    rounds: int

    @property
    def name(self) -> str:
        """Unique within a run, for example `lookup/dim16/1M/uniform/t2`."""
        parts = [self.kind, f"dim{self.dim}", rows_text(self.rows), self.keys, f"t{self.threads}"]
        if self.kind == "growth":
            parts.append(f"slots{self.slots}")
        return "/".join(parts)

    @property
    def row_bytes(self) -> int:
        """Payload of a row: key, vector and the optimizer's slots."""
        return KEY_BYTES + FLOAT_BYTES * self.dim * (1 + self.slots)

    def footprint(self, contestant: str) -> int:
        """Memory to reserve for `contestant`, in bytes."""
        factor = _FOOTPRINT[contestant]
        if self.kind == "train" and contestant == "dense_variable":
            factor = _DENSE_TRAIN_FOOTPRINT
        return int(self.rows * self.row_bytes * factor) + _PROCESS_BYTES

    def to_json(self) -> dict[str, Any]:
        """All fields and the name, for messages and for the results file."""
        return {"name": self.name, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Case:
        """Inverse of `to_json`."""
        return cls(**{f.name: fields[f.name] for f in dataclasses.fields(cls)})


@dataclasses.dataclass(frozen=True)
class Block:
    """Cases that one filled table serves, one after the other."""

    cases: tuple[Case, ...]

    @property
    def first(self) -> Case:
        """The case whose table the whole block uses."""
        return self.cases[0]

    @property
    def fresh_process_each_round(self) -> bool:
        """Large growth gets a new process: no freed memory of an earlier round is reused."""
        case = self.first
        return case.kind == "growth" or (case.kind == "insert" and case.rows >= _LARGE)


@dataclasses.dataclass(frozen=True)
class Matrix:
    """The sizes of one run."""

    dims: tuple[int, ...] = (16, 64)
    rows: tuple[int, ...] = (1_000_000, 10_000_000)
    threads: tuple[int, ...] = (1, 2)
    kinds: tuple[str, ...] = KINDS
    rounds: int = 11
    lookup_batch: int = 64 << 10
    train_batch: int = 16 << 10
    growth_batch: int = 8 << 10
    batches: int = 64


QUICK = Matrix(
    dims=(16,), rows=(40_000,), threads=(2,), rounds=3,
    lookup_batch=8 << 10, train_batch=2 << 10, growth_batch=1 << 10, batches=16,
)  # fmt: skip


def blocks(matrix: Matrix) -> list[Block]:
    """All blocks of a run, small tables first, so that a run cut short has the whole breadth."""
    made: list[Block] = []
    for rows, dim, threads in itertools.product(matrix.rows, matrix.dims, matrix.threads):
        made += _plain_blocks(matrix, rows, dim, threads)
    # The longest batch is a matter of the largest table.
    if "growth" in matrix.kinds:
        made += [
            _growth_block(matrix, dim, threads, slots)
            for dim, threads, slots in itertools.product(matrix.dims, matrix.threads, (0, 2))
        ]
    return made


def _plain_blocks(matrix: Matrix, rows: int, dim: int, threads: int) -> Iterable[Block]:
    def case(kind: str, keys: str) -> Case:
        batch = matrix.train_batch if kind == "train" else matrix.lookup_batch
        slots = 2 if kind == "train" else 0
        growing = kind == "insert"
        rounds = matrix.rounds
        if growing:
            rounds = min(rounds, 3 if rows >= _LARGE else 5)
        batches = 0 if growing else matrix.batches
        return Case(kind, dim, rows, keys, threads, slots, batch, batches, rounds)

    def both(kinds: Iterable[str]) -> tuple[Case, ...]:
        wanted = [kind for kind in kinds if kind in matrix.kinds]
        return tuple(case(kind, keys) for kind in wanted for keys in ("uniform", "zipf"))

    for cases in (both(("lookup", "upsert")), both(("train",))):
        if cases:
            yield Block(cases)
    if "insert" in matrix.kinds:
        yield Block((case("insert", "new"),))


def _growth_block(matrix: Matrix, dim: int, threads: int, slots: int) -> Block:
    rounds = max(1, min(3, matrix.rounds // 3))
    batch = matrix.growth_batch
    return Block((Case("growth", dim, max(matrix.rows), "new", threads, slots, batch, 0, rounds),))


def contestants_of(case: Case, wanted: Iterable[str]) -> list[str]:
    """Those of `wanted` that take part in `case`, in the order of CONTESTANTS."""
    able = [c for c in CONTESTANTS if c in set(wanted) and case.kind in TAKES_PART[c]]
    if case.kind == "growth" and case.slots:
        return [c for c in able if "train" in TAKES_PART[c] or c == "first_touch"]
    return able


def groups(case: Case, contestants: list[str], memory: int) -> list[list[str]]:
    """Splits contestants into groups that fit into `memory` bytes together.

    The subject is in every group in which it leaves room for a peer, so that ratios stay within a
    group; where it does not fit beside a peer, each runs alone and the results say so.
    """
    sizes = {c: case.footprint(c) for c in contestants}
    if sum(sizes.values()) <= memory or len(contestants) < 2:
        return [contestants]
    subject = [SUBJECT] if SUBJECT in contestants else []
    room = memory - sum(sizes[c] for c in subject)
    shared: list[list[str]] = []
    alone: list[list[str]] = []
    for peer in sorted((c for c in contestants if c != SUBJECT), key=lambda c: sizes[c]):
        if sizes[peer] > room:
            alone.append([peer])
            continue
        for group in shared:
            if sum(sizes[c] for c in group) + sizes[peer] <= room:
                group.append(peer)
                break
        else:
            shared.append([peer])
    made = [subject + group for group in shared] or ([subject] if subject else [])
    return made + alone


def rows_text(rows: int) -> str:
    """10_000_000 -> `10M`, 40_000 -> `40k`."""
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if rows % unit == 0:
            return f"{rows // unit}{letter}"
    return str(rows)
