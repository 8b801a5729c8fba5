"""Runs the blocks: contestants take turns, round by round, so that noise hits all of them alike."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.embedding import keys as bench_keys
from benchmarks.embedding import memory
from benchmarks.embedding.cases import MACHINE, SUBJECT, Block, Case, contestants_of, groups
from benchmarks.embedding.process import ContestantError, Launch, Worker

_PREPARE_SECONDS = 900.0
_ROUND_SECONDS = 900.0
_MEMORY_SHARE = 0.85
_LEAST_ROUNDS = 3


@dataclasses.dataclass
class Settings:
    """What holds for the whole run."""

    launches: Mapping[str, Launch]  # contestant -> how to start it
    folder: pathlib.Path  # for keys and logs
    seed: int = 20_26
    round_seconds: float = 0.25  # a contestant's turn; at least one batch is done
    deadline: float = float("inf")  # time.monotonic() after which nothing new begins
    memory: int = 0  # bytes for all contestants of a moment; 0: a share of what is available
    say: Callable[[str], None] = print


class Driver:
    """Turns blocks into results: one dict a case (see `new_result`)."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self.versions: dict[str, dict[str, str]] = {}
        self.missing: dict[str, str] = {}

    def run(self, block: Block) -> list[dict[str, Any]]:
        """Runs all cases of a block; what could not be run says why in its result."""
        wanted = [c for c in self._settings.launches if c not in self.missing]
        contestants = contestants_of(block.first, wanted)
        budget = self._settings.memory or int(memory.available() * _MEMORY_SHARE)
        if block.fresh_process_each_round:
            # One process at a time, whoever's turn it is.
            parts = [contestants]
        else:
            parts = groups(block.first, contestants, budget)
        results = [new_result(case, parts, contestants_of(case, wanted)) for case in block.cases]
        for contestant in contestants:
            if (need := block.first.footprint(contestant)) > budget:
                text = f"needs about {need >> 20} MiB, {budget >> 20} MiB are to be had"
                _note(results, contestant, "skipped: " + text)
                parts = [[c for c in part if c != contestant] for part in parts]
        for group, part in enumerate(parts):
            if self._late():
                for contestant in part:
                    _note(results, contestant, "skipped: the time budget was spent")
            elif block.fresh_process_each_round:
                self._run_fresh(part, block.first, results[0])
            elif part:
                self._run_together(group, part, block, results)
        return results

    def _late(self) -> bool:
        return time.monotonic() > self._settings.deadline

    def _start(self, contestant: str, threads: int) -> Worker:
        log = self._settings.folder / f"{contestant}.log"
        try:
            worker = Worker(contestant, threads, self._settings.launches[contestant], log)
        except ContestantError as error:
            self.missing[contestant] = str(error)
            self._settings.say(f"{contestant} is not here: {error}")
            raise
        self.versions[contestant] = worker.greeting["versions"]
        return worker

    def _ids(self, case: Case) -> str:
        if case.keys == "new":
            return ""
        count = case.batch * case.batches
        path = bench_keys.ids_file(
            self._settings.folder, case.keys, case.rows, count, self._settings.seed
        )
        return str(path)

    def _run_together(
        self, group: int, part: list[str], block: Block, results: list[dict[str, Any]]
    ) -> None:
        """Long-lived workers side by side: A B C, A B C, ..."""
        with contextlib.ExitStack() as stack:
            workers: dict[str, Worker] = {}
            for contestant in part:
                try:
                    worker = self._start(contestant, block.first.threads)
                    workers[contestant] = stack.enter_context(worker)
                    worker.ask(_PREPARE_SECONDS, do="prepare", case=block.first.to_json())
                except ContestantError as error:
                    _note(results, contestant, str(error))
                    if contestant in workers:
                        workers.pop(contestant).close()
            for case, result in zip(block.cases, results, strict=True):
                self._run_case(group, workers, case, result)

    def _run_case(
        self, group: int, workers: dict[str, Worker], case: Case, result: dict[str, Any]
    ) -> None:
        start = {"case": case.to_json(), "ids": self._ids(case)}

        def present() -> list[str]:
            return [c for c in workers if c in result["contestants"]]

        for contestant in present():
            self._guard(workers, contestant, result, do="start", **start)
        for index in range(case.rounds):
            if self._late() and index >= _LEAST_ROUNDS:
                result["notes"].append(f"stopped after {index} rounds: the time budget was spent")
                break
            for contestant in _turns(present(), index):
                request = {"index": index, "seconds": self._settings.round_seconds}
                answer = self._guard(workers, contestant, result, do="round", **request)
                if answer is not None:
                    _add_round(result, contestant, group, index, answer)

    def _guard(
        self, workers: dict[str, Worker], contestant: str, result: dict[str, Any], **request: Any
    ) -> dict[str, Any] | None:
        """Asks; a contestant that fails leaves the block, with the reason in the result."""
        try:
            return workers[contestant].ask(_ROUND_SECONDS, **request)
        except ContestantError as error:
            _note([result], contestant, str(error))
            self._settings.say(f"{contestant} leaves {result['case']['name']}: {error}")
            workers.pop(contestant).close()
            return None

    def _run_fresh(self, part: list[str], case: Case, result: dict[str, Any]) -> None:
        """A new process for every contestant and round, still in turns."""
        left = list(part)
        for index in range(case.rounds):
            for contestant in _turns(left, index):
                if index >= _growth_rounds(case, contestant):
                    continue
                if self._late() and index:
                    _note([result], contestant, f"stopped after {index} rounds: time budget spent")
                    left.remove(contestant)
                    continue
                memory.warm(min(case.footprint(contestant), memory.available() // 2))
                try:
                    with self._start(contestant, case.threads) as worker:
                        worker.ask(_PREPARE_SECONDS, do="prepare", case=case.to_json())
                        answer = worker.ask(_ROUND_SECONDS, do="round", index=index, seconds=0.0)
                    _add_round(result, contestant, 0, index, answer)
                except ContestantError as error:
                    _note([result], contestant, str(error))
                    left.remove(contestant)


def _turns(contestants: list[str], index: int) -> list[str]:
    """Each round begins with another: what the one before leaves behind helps or hinders all."""
    first = index % max(1, len(contestants))
    return contestants[first:] + contestants[:first]


def _growth_rounds(case: Case, contestant: str) -> int:
    """The peers' long batches and memory are context, and one growth shows them."""
    asked_of_all = case.kind != "growth" or contestant in MACHINE | {SUBJECT}
    return case.rounds if asked_of_all else 1


def new_result(case: Case, parts: list[list[str]], contestants: list[str]) -> dict[str, Any]:
    """An empty result: the case, who ran beside whom, each contestant's rounds, notes."""
    result: dict[str, Any] = {
        "case": case.to_json(),
        "groups": parts,
        "contestants": {c: {"rounds": [], "note": ""} for c in contestants},
        "notes": [],
    }
    if len(parts) > 1:
        apart = " | ".join(", ".join(part) for part in parts)
        result["notes"].append(f"did not fit into memory together, run in turn: {apart}")
    return result


def _add_round(
    result: dict[str, Any], contestant: str, group: int, index: int, answer: dict[str, Any]
) -> None:
    round_ = {"group": group, "index": index, **answer}
    result["contestants"][contestant]["rounds"].append(round_)


def _note(results: list[dict[str, Any]], contestant: str, text: str) -> None:
    for result in results:
        if contestant in result["contestants"]:
            result["contestants"][contestant]["note"] = text
