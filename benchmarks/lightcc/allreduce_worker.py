"""One rank of the allreduce benchmark: `python -m benchmarks.lightcc.allreduce_worker JSON`."""

import datetime
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from taco import _loader
from taco.lightcc.patterns import hierarchical, machine, plan, ring, sparse_hierarchical
from taco.lightcc.patterns.sparse_list import SparseList
from taco.lightcc.patterns.sparse_wire import WireFormat
from taco.lightcc.patterns.transport import GroupTransport, Transport

from benchmarks.lightcc.links import INTERFACE

Mode = Callable[[torch.Tensor], object]


def select(tensor: torch.Tensor, threshold: float) -> SparseList:
    """All elements at least as large as a threshold that is given: stands in for TopK.

    Args:
        tensor: (n,) float32.
        threshold: of the magnitude.
    """
    block = 1 << 16  # stays in the second-level cache
    flat = tensor.numpy()
    magnitude, large = np.empty(block, np.float32), np.empty(block, np.bool_)
    found, values = [np.empty(0, np.int32)], [np.empty(0, np.float32)]
    for at in range(0, len(flat), block):
        part = flat[at : at + block]
        np.abs(part, out=magnitude[: len(part)])
        np.greater_equal(magnitude[: len(part)], threshold, out=large[: len(part)])
        places = np.flatnonzero(large[: len(part)])
        values.append(part[places])
        found.append(places.astype(np.int32) + np.int32(at))
    indices = torch.from_numpy(np.concatenate(found))
    return SparseList(indices, torch.from_numpy(np.concatenate(values)), len(flat))


class Bench:
    """The modes over one group.

    Args:
        setup: rank, size, per_machine, address, store, elements, ratio, timeout and the options.
    """

    def __init__(self, setup: dict) -> None:
        self.setup = setup
        self.rank, self.size = setup["rank"], setup["size"]
        options = dist.ProcessGroupGloo._Options()
        options._devices = [dist.ProcessGroupGloo.create_device(hostname=setup["address"])]
        options._timeout = datetime.timedelta(seconds=setup["timeout"])
        options._threads = setup.get("threads", 2)
        store = dist.FileStore(setup["store"], self.size)
        self.group = dist.ProcessGroupGloo(store, self.rank, self.size, options)
        self.levels = [plan.contiguous(self.size, setup["per_machine"])]
        self.sockets = GroupTransport(self.group, tag=1000)
        self.transport = machine.over(self.group, 2000, self.levels[0], allowed=True)
        if setup["per_machine"] > 1 and self.transport.__class__ is GroupTransport:
            print("ranks of a machine cannot read each other's memory here", file=sys.stderr)
        self.ring_options = ring.RingOptions(**setup.get("ring", {}))
        inner = ring.RingOptions(**setup.get("inner", {}))
        outer = ring.RingOptions(**setup.get("outer", {}))
        more = setup.get("hierarchical", {})
        self.options = hierarchical.HierarchicalOptions(inner=inner, outer=outer, **more)
        self.threshold = statistics.NormalDist().inv_cdf(1 - setup["ratio"] / 2)
        wire = WireFormat(compact=setup.get("compact", False))
        self.sparse_options = sparse_hierarchical.SparseOptions(
            wire, inner=inner, **setup.get("sparse", {})
        )
        ops = _loader.load_torch_ops()
        self.add = lambda out, part: ops.topk_accumulate_(out, [part.indices], [part.values])
        self.base = torch.randn(
            setup["elements"], generator=torch.Generator().manual_seed(self.rank)
        )

    def modes(self) -> dict[str, Mode]:
        """What is measured, by name."""
        return {
            "gloo": lambda tensor: self.group.allreduce([tensor]).wait(),
            "ring": lambda tensor: ring.all_reduce(self.sockets, tensor, options=self.ring_options),
            "2d": lambda tensor: self._2d(self.transport, tensor),
            "2d_sockets": lambda tensor: self._2d(self.sockets, tensor),
            "topk": lambda tensor: self._topk(
                self.transport, tensor, [[rank] for rank in range(self.size)]
            ),
            "2d_topk": lambda tensor: self._topk(self.transport, tensor, self.levels[0]),
            "2d_topk_sockets": lambda tensor: self._topk(self.sockets, tensor, self.levels[0]),
        }

    def _2d(self, transport: Transport, tensor: torch.Tensor) -> None:
        hierarchical.all_reduce(transport, tensor, self.levels, options=self.options)

    def _topk(self, transport: Transport, tensor: torch.Tensor, groups: list[list[int]]) -> None:
        # The sum of r independent values of variance 1 has variance r.
        threshold = self.threshold * len(groups[0]) ** 0.5
        sparse_hierarchical.all_reduce(
            transport,
            tensor,
            groups,
            lambda shard, low: select(shard, threshold),
            self.sparse_options,
            add=self.add,
        )

    def measure(self, mode: Mode, tensor: torch.Tensor) -> dict[str, float]:
        """Seconds of the slowest rank, processor seconds of all, and bytes over rank's link."""
        tensor.copy_(self.base)
        self.group.barrier().wait()
        before = self._counters()
        self.group.barrier().wait()
        start, busy = time.perf_counter(), time.process_time()
        mode(tensor)
        cost = torch.tensor([time.process_time() - busy], dtype=torch.float64)
        seconds = torch.tensor([time.perf_counter() - start], dtype=torch.float64)
        options = dist.AllreduceOptions()
        options.reduceOp = dist.ReduceOp.MAX
        self.group.allreduce([seconds], options).wait()
        self.group.allreduce([cost]).wait()
        after = self._counters()
        result = {"seconds": float(seconds), "processor_seconds": float(cost)}
        return result | {"sent": after[0] - before[0], "received": after[1] - before[1]}

    def _counters(self) -> tuple[int, int]:
        folder = Path("/sys/class/net") / INTERFACE / "statistics"
        return int((folder / "tx_bytes").read_text()), int((folder / "rx_bytes").read_text())


def main() -> None:
    """Measures all modes in turn; rank 0 prints a line of JSON for each."""
    setup = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    bench = Bench(setup)
    tensor = bench.base.clone()
    modes = {name: mode for name, mode in bench.modes().items() if name in setup["modes"]}
    for round_ in range(-1, setup["rounds"]):  # round -1 connects and warms up
        for name, mode in modes.items():
            result = bench.measure(mode, tensor)
            if bench.rank == 0 and round_ >= 0:
                print(json.dumps({"mode": name} | result), flush=True)
    bench.group.barrier().wait()


if __name__ == "__main__":
    main()
