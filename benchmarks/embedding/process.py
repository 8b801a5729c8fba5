"""A worker process seen from the driver."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import select
import subprocess
import sys
import time
from typing import Any

ROOT = pathlib.Path(__file__).absolute().parents[2]


class ContestantError(RuntimeError):
    """A contestant cannot go on; the message says why. The others do."""

    def __init__(self, message: str):
        # Results are published: they say nothing of where the tree lies.
        super().__init__(message.replace(f"{ROOT}/", ""))


@dataclasses.dataclass(frozen=True)
class Launch:
    """How to start a contestant's process: its Python, and what its environment has besides."""

    python: str
    environment: dict[str, str]


def own_launch() -> Launch:
    """The environment that the driver itself runs in."""
    inherited = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    path = [str(ROOT), *inherited, str(ROOT / "python")]
    return Launch(sys.executable, {"PYTHONPATH": os.pathsep.join(path)})


class Worker:
    """Starts a contestant and speaks with it; a context manager that ends the process."""

    def __init__(self, contestant: str, threads: int, launch: Launch, log: pathlib.Path):
        self.contestant = contestant
        self._log = log
        module = "benchmarks.embedding.worker"
        command = [launch.python, "-m", module, "--contestant", contestant]
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [*command, "--threads", str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **launch.environment},
                cwd=ROOT,
            )
        try:
            self.greeting = self._receive(timeout=300)
        except ContestantError:
            self.close()
            raise

    def ask(self, timeout: float, **request: Any) -> dict[str, Any]:
        """Sends one request and waits for its answer.

        Raises:
          ContestantError: the contestant refused, died, or took longer than `timeout` seconds; its
            process is then of no more use.
        """
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        return self._receive(timeout)

    def _receive(self, timeout: float) -> dict[str, Any]:
        assert self._process.stdout
        descriptor = self._process.stdout.fileno()
        until = time.monotonic() + timeout
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise ContestantError(f"no answer within {timeout:.0f} s")
            chunk = os.read(descriptor, 1 << 20)
            if not chunk:
                raise self._died()
            line += chunk
        answer: dict[str, Any] = json.loads(line)
        if not answer.pop("ok"):
            raise ContestantError(answer["error"])
        return answer

    def _died(self) -> ContestantError:
        code = self._process.wait()
        cause = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        if code == -9:
            cause += " (out of memory?)"
        last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        return ContestantError(f"its process died: {cause}; last words: {''.join(last) or 'none'}")

    def close(self) -> None:
        """Ends the process; its memory is free when this returns."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()
