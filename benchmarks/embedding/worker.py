"""A contestant's process: reads requests as JSON lines from stdin, answers on stdout.

  {"do": "prepare", "case": {...}}                     makes and fills the table of a block
  {"do": "start", "case": {...}, "ids": "FILE.npy"}    makes the batches of a case, warms up
  {"do": "round", "index": 3, "seconds": 0.25}        times one round
  {"do": "quit"}

Every answer has "ok"; with false, "error" says why. The first answer comes unasked, once loaded.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import sys
import traceback
from typing import Any, TextIO

from benchmarks.embedding import adapters, workloads
from benchmarks.embedding.adapters.base import Adapter
from benchmarks.embedding.cases import Case


def pin(threads: int) -> list[int]:
    """Keeps this process to `threads` of its processors, so that nothing borrows the others."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, allowed[-threads:])
    os.environ["OMP_NUM_THREADS"] = str(threads)
    return allowed[-threads:]


def volunteer() -> None:
    """If memory runs out, this process is to end, not the driver nor a bystander."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


class Worker:
    """One contestant with at most one workload."""

    def __init__(self, adapter: Adapter):
        self._adapter = adapter
        self._workload: workloads.SteadyWorkload | workloads.GrowthWorkload | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carries one request out."""
        if request["do"] == "prepare":
            self._workload = workloads.make(self._adapter, Case.from_json(request["case"]))
            return {}
        assert self._workload, "prepare comes first"
        if request["do"] == "start":
            self._workload.start_case(Case.from_json(request["case"]), request["ids"])
            gc.collect()
            return {}
        return self._workload.round(request["index"], request["seconds"])


def _own_stdout() -> TextIO:
    """The real stdout, for answers alone: what libraries print goes to stderr from here on."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def main() -> None:
    """Serves requests until `quit` or the end of stdin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contestant", required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    answers = _own_stdout()

    def say(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        volunteer()
        processors = pin(args.threads)
        adapter = adapters.load(args.contestant, args.threads)
        say({"ok": True, "versions": adapter.versions(), "processors": processors})
    except Exception as error:  # whatever keeps it from loading is the answer
        traceback.print_exc()
        say({"ok": False, "error": f"{type(error).__name__}: {error}"})
        return
    worker = Worker(adapter)
    gc.disable()
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "quit":
            break
        try:
            say({"ok": True, **worker.answer(request)})
        except Exception as error:  # the driver leaves this contestant out
            traceback.print_exc()
            say({"ok": False, "error": f"{type(error).__name__}: {error}"})
    # No destructors: some peers crash in theirs, and rows need not be freed one by one.
    answers.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
