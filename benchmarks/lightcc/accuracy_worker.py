"""One rank of the accuracy benchmark: `python -m benchmarks.lightcc.accuracy_worker`."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import taco.lightcc.torch as hvd
import torch

from benchmarks.lightcc import speech
from benchmarks.lightcc.tasks import TASKS


def learn(request: dict[str, Any]) -> dict[str, Any]:
    """`{"task": name, "seed": n, "steps": n}`: trains once, in a job of its own.

    Each seed joins anew, so that no residual of the one before is left.
    """
    hvd.init()
    task = TASKS[request["task"]]
    run = task.begin(request["seed"], hvd.rank(), hvd.size(), request["steps"])
    hvd.broadcast_parameters(run.model.state_dict(), root_rank=0)
    schedule = torch.optim.lr_scheduler.LambdaLR(run.optimizer, run.schedule)
    optimizer = hvd.DistributedOptimizer(
        run.optimizer, named_parameters=run.model.named_parameters()
    )
    for step in range(request["steps"]):
        optimizer.zero_grad()
        run.loss(step).backward()
        optimizer.step()
        schedule.step()
    score, digest = run.score(), _digest(run.model)
    agreed = len(set(hvd.allgather_object(digest))) == 1
    explain = getattr(hvd, "explain", None)
    explained = str(explain()) if explain else ""
    hvd.shutdown()
    return {"score": score, "agreed": agreed, "explained": explained}


def _digest(model: torch.nn.Module) -> str:
    """Of all parameters: equal bits, equal digest."""
    made = hashlib.sha256()
    for parameter in model.parameters():
        made.update(parameter.detach().contiguous().numpy().tobytes())
    return made.hexdigest()


def main() -> None:
    """Serves the driver."""
    torch.set_num_threads(1)
    speech.serve(lambda: ({"torch": torch.__version__}, learn))
    os._exit(0)


if __name__ == "__main__":
    main()
