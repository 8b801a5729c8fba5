"""One rank of the training benchmark: `python -m benchmarks.lightcc.training_worker JSON`."""

from __future__ import annotations

import datetime
import importlib
import json
import os
import pathlib
import sys
import time
from typing import Any

import torch
from torch import nn

from benchmarks.lightcc import models, speech
from benchmarks.lightcc.links import INTERFACE

# Contestants wait, stopped, while others take their turn: longer than that nothing takes.
TIMEOUT = datetime.timedelta(hours=2)


class Ddp:
    """torch's own: DistributedDataParallel over Gloo.

    Args:
        setup: rank, size, address, port, hook.
        model: what is trained.
    """

    def __init__(self, setup: dict[str, Any], model: nn.Module) -> None:
        import torch.distributed as dist

        meeting = f"tcp://{setup['address']}:{setup['port']}"
        dist.init_process_group(
            "gloo", meeting, TIMEOUT, world_size=setup["size"], rank=setup["rank"]
        )
        hook = setup["hook"]
        # PowerSGD's hook starts each of its allreduces when the one before is done. With several
        # buckets on their way ranks then differ in the order, and Gloo ends the process.
        cap = 1 << 20 if hook.startswith("powersgd") else None
        self.model = nn.parallel.DistributedDataParallel(
            model, gradient_as_bucket_view=True, bucket_cap_mb=cap
        )
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
        self.versions = {"torch": torch.__version__}
        if hook.startswith("powersgd"):
            self._compress_by_power_sgd(int(hook.removeprefix("powersgd")))
        elif hook == "taco_topk":
            self._compress_by_our_topk()

    def _compress_by_power_sgd(self, rank: int) -> None:
        from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook as power

        # Error feedback and warm start, its defaults, do not work before the second step.
        state = power.PowerSGDState(None, matrix_approximation_rank=rank, start_powerSGD_iter=2)
        self.model.register_comm_hook(state, power.powerSGD_hook)

    def _compress_by_our_topk(self) -> None:
        from taco import lightcc

        self.model.register_comm_hook(
            lightcc.TopKState(ratio=0.01, warmup_steps=0), lightcc.topk_hook
        )

    def explain(self) -> str:
        """Nothing: there is no choice."""
        return ""


class HorovodLike:
    """Whatever has Horovod's API: Horovod itself, or LightCC.

    Args:
        setup: module.
        model: what is trained.
    """

    def __init__(self, setup: dict[str, Any], model: nn.Module) -> None:
        self._hvd = importlib.import_module(setup["module"])
        self._hvd.init()
        self.model = model
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
        self._hvd.broadcast_parameters(model.state_dict(), root_rank=0)
        self.optimizer = self._hvd.DistributedOptimizer(
            optimizer, named_parameters=model.named_parameters()
        )
        package = importlib.import_module(setup["module"].partition(".")[0])
        self.versions = {"torch": torch.__version__, package.__name__: package.__version__}

    def explain(self) -> str:
        """What LightCC says of its choices; empty where it says nothing."""
        explain = getattr(self._hvd, "explain", None)
        return str(explain()) if explain else ""


class Worker:
    """Trains when it is told to.

    Args:
        setup: model, scale, rank, module or hook, and what the library needs.
    """

    def __init__(self, setup: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        model = models.build(setup["model"], setup["scale"], setup["rank"])
        self._way = (Ddp if setup["library"] == "torch" else HorovodLike)(setup, model)
        self._done = 0
        self.greeting = {
            "versions": self._way.versions,
            "elements": sum(p.numel() for p in model.parameters()),
            "tensors": len(list(model.parameters())),
        }

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """`{"do": "train", "steps": n}` or `{"do": "explain"}`."""
        if request["do"] == "explain":
            return {"text": self._way.explain()}
        # Ranks begin at slightly different times; the first step brings them together.
        self._step()
        return self._train(request["steps"])

    def _train(self, steps: int) -> dict[str, Any]:
        sent, received = link_bytes()
        busy, last, seconds = time.process_time(), time.monotonic(), []
        for _ in range(steps):
            self._step()
            now = time.monotonic()
            seconds.append(now - last)
            last = now
        busy = time.process_time() - busy
        after = link_bytes()
        moved = {"sent": after[0] - sent, "received": after[1] - received}
        return {"seconds": seconds, "processor_seconds": busy, **moved}

    def _step(self) -> None:
        self._done += 1
        self._way.optimizer.zero_grad()
        self._way.model(self._done).backward()
        self._way.optimizer.step()


def link_bytes() -> tuple[int, int]:
    """Bytes sent and received over this machine's link, headers included; 0 without one."""
    folder = pathlib.Path("/sys/class/net") / INTERFACE / "statistics"
    if not folder.is_dir():
        return 0, 0
    return int((folder / "tx_bytes").read_text()), int((folder / "rx_bytes").read_text())


def main() -> None:
    """Serves the driver."""

    def greet() -> tuple[dict[str, Any], speech.Handler]:
        worker = Worker(json.loads(sys.argv[1]))
        return worker.greeting, worker.answer

    speech.serve(greet)
    # The libraries' own farewells wait for ranks that have gone already.
    os._exit(0)


if __name__ == "__main__":
    main()
