"""The processes of one contestant, seen from the driver."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).absolute().parents[2]

# Starts a process on a machine: (machine, argv, options of Popen) -> it.
Start = Callable[..., "subprocess.Popen[bytes]"]


class ContestantError(RuntimeError):
    """A contestant cannot go on; the message says why. The others do."""

    def __init__(self, message: str):
        # Results are published: they say nothing of where the tree lies.
        super().__init__(message.replace(f"{ROOT}/", ""))


def environment(extra: Mapping[str, str], *, ours: bool = True) -> dict[str, str]:
    """A rank's environment: the driver's without its own launcher's variables, one thread.

    Args:
        extra: what is added.
        ours: whether `import taco` shall be this checkout's.
    """
    launchers = ("HOROVOD_", "LIGHT_", "TACO_", "RANK", "WORLD_SIZE", "MASTER_", "GLOO_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(launchers)}
    inherited = [part for part in kept.get("PYTHONPATH", "").split(os.pathsep) if part]
    paths = [str(ROOT), *([*inherited, str(ROOT / "python")] if ours else [])]
    settled = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return {**kept, **settled, **extra}


def local(machine: int, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Starts a process where the driver runs, whatever machine it is meant for."""
    return subprocess.Popen(list(argv), **options)


class Ranks:
    """The ranks of a contestant; a context manager that ends them.

    Args:
        start: starts a process on a machine.
        machines: the machine of each rank.
        argv: the command of each rank; it speaks JSON, a line each way.
        environments: of each rank.
        log: file for what they print; shown from its end when one fails.

    Raises:
        ContestantError: a rank did not come up.
    """

    def __init__(
        self,
        start: Start,
        machines: Sequence[int],
        argv: Sequence[Sequence[str]],
        environments: Sequence[Mapping[str, str]],
        log: pathlib.Path,
    ) -> None:
        self._log = log
        self._left: dict[int, bytes] = {}  # rank -> what came behind the last line
        self._processes: list[subprocess.Popen[bytes]] = []
        with log.open("ab") as errors:
            for machine, command, variables in zip(machines, argv, environments, strict=True):
                process = start(
                    machine,
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=dict(variables),
                    cwd=ROOT,
                )
                self._processes.append(process)

    def greetings(self, timeout: float) -> list[dict[str, Any]]:
        """What each says once it is ready. Raises as `ask`."""
        return self._receive(timeout)

    def ask(self, timeout: float, **request: Any) -> list[dict[str, Any]]:
        """Sends one request to every rank and waits for all answers.

        Raises:
            ContestantError: a rank refused, died, or took longer than `timeout` seconds; the
                contestant is then of no more use.
        """
        line = json.dumps(request).encode() + b"\n"
        for rank, process in enumerate(self._processes):
            assert process.stdin
            try:
                process.stdin.write(line)
                process.stdin.flush()
            except BrokenPipeError:
                raise self._died(rank) from None
        return self._receive(timeout)

    def pause(self) -> None:
        """Stops all ranks, so that they neither compute nor send while others are measured."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets them go on."""
        self._signal(signal.SIGCONT)

    def resident(self) -> int:
        """Bytes that all ranks hold, shared pages counted by part."""
        total = 0
        for process in self._processes:
            with contextlib.suppress(OSError):
                rollup = pathlib.Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                total += 1024 * int(rollup.partition("Pss:")[2].split()[0])
        return total

    def close(self) -> None:
        """Ends all ranks; their memory is free when this returns."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(number)

    def _receive(self, timeout: float) -> list[dict[str, Any]]:
        until = time.monotonic() + timeout
        waiting = dict(enumerate(self._processes))
        answers: dict[int, dict[str, Any]] = {}
        while waiting:
            descriptors = {process.stdout.fileno(): rank for rank, process in waiting.items()}  # type: ignore[union-attr]
            left = until - time.monotonic()
            ready, _, _ = select.select(list(descriptors), [], [], max(0.0, left))
            if not ready:
                ranks = ", ".join(map(str, waiting))
                raise ContestantError(f"no answer within {timeout:.0f} s from ranks {ranks}")
            for descriptor in ready:
                rank = descriptors[descriptor]
                if (line := self._line(rank, descriptor)) is not None:
                    answers[rank] = json.loads(line)
                    del waiting[rank]
        for rank in sorted(answers):
            if not answers[rank].pop("ok"):
                raise ContestantError(f"rank {rank}: {answers[rank]['error']}")
        return [answers[rank] for rank in sorted(answers)]

    def _line(self, rank: int, descriptor: int) -> bytes | None:
        chunk = os.read(descriptor, 1 << 20)
        if not chunk:
            raise self._died(rank)
        held = self._left.get(rank, b"") + chunk
        line, end, rest = held.partition(b"\n")
        self._left[rank] = rest if end else held
        return line if end else None

    def _died(self, rank: int) -> ContestantError:
        code = self._processes[rank].wait()
        cause = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        if code == -9:
            cause += " (out of memory?)"
        last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        said = "".join(last) or "none"
        return ContestantError(f"rank {rank}'s process ended: {cause}; last words: {said}")
