"""Starts one rank, wherever its place is."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taco.lightcc.run import environment, network, worker
from taco.lightcc.run.hosts import Slot
from taco.lightcc.run.relay import Output


@dataclass(frozen=True)
class Starter:
    """What is needed to start any rank of a job.

    Attributes:
        job: what is common to all ranks.
        command: of a rank.
        environ: the launcher's environment.
        rsh: the remote shell.
        output: where lines go.
        grace: seconds between SIGTERM and SIGKILL.
        verbose: whether each start is told of.
    """

    job: environment.Job
    command: Sequence[str]
    environ: Mapping[str, str]
    rsh: Sequence[str]
    output: Output
    grace: float
    verbose: bool = False

    def start(
        self, slot: Slot, sizes: Mapping[str, int], extra: Mapping[str, str] | None = None
    ) -> worker.Worker:
        """Starts a rank.

        Args:
            slot: its place.
            sizes: ranks on each host.
            extra: more variables.

        Raises:
            OSError: the keeper, or the remote shell, cannot be started.
        """
        own = {**environment.of_rank(self.job, slot, sizes), **(extra or {})}
        local = network.is_local(slot.hostname)
        hold = worker.hold_here() if local else worker.hold_there(self.rsh, slot.hostname)
        whole = {**self.environ, **own}
        if self.verbose:
            how = "" if local else f" by {' '.join(self.rsh)}"
            say(f"starting rank {slot.rank} on {slot.hostname}{how}: {' '.join(self.command)}")
        return worker.Worker(
            slot,
            hold,
            {
                "argv": list(self.command),
                "env": whole if local else environment.forwarded(whole),
                "cwd": os.getcwd(),
                "grace": self.grace,
            },
            lambda place, name: self.output.open(place.rank, place.size, name),
        )


def say(sentence: str) -> None:
    """A line of the launcher's own, on standard error."""
    sys.stderr.write(f"taco run: {sentence}\n")
    sys.stderr.flush()
