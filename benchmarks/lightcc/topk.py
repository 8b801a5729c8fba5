"""TopK compression with error feedback, beside what PyTorch offers and what memory allows.

    python -m benchmarks.lightcc.topk [--json FILE] [--quick]

Contestants take turns in one process, so that what else the machine does hits all alike; a ratio is
taken within a round. `plain` reads a gradient and reads and writes a residual (torch.add in place):
the traffic that error feedback cannot do without. Each step has another gradient, and the
residuals are those of a run that has found its threshold.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import statistics
import time
from collections.abc import Callable

import torch
from taco import _loader

N = 25_600_000
RATIO = 0.01
GRADIENTS = 4  # distinct ones: more than the caches hold
WARM_UP = 60  # steps until the residual is that of a run


class Bench:
    """The contestants, each a function of the round's gradient."""

    def __init__(self, n: int, dtype: torch.dtype) -> None:
        self.ops = _loader.load_torch_ops()
        self.k = int(n * RATIO)
        torch.manual_seed(1)
        self.gradients = [torch.randn(n).to(dtype) for _ in range(GRADIENTS)]
        self.plain_residual = torch.zeros(n)
        self.carried = {
            exact: (torch.zeros(n), torch.zeros(8, dtype=torch.float64)) for exact in (False, True)
        }
        self.absolute = torch.empty(n, dtype=dtype)

    def plain(self, grad: torch.Tensor) -> None:
        self.plain_residual.add_(grad)

    def compress(self, grad: torch.Tensor) -> None:
        self.ops.topk_compress(grad, *self.carried[False], self.k)

    def compress_exact(self, grad: torch.Tensor) -> None:
        self.ops.topk_compress(grad, *self.carried[True], self.k, exact=True)

    def abs_topk(self, grad: torch.Tensor) -> None:
        grad.abs().topk(self.k)

    def kthvalue(self, grad: torch.Tensor) -> None:
        torch.abs(grad, out=self.absolute).kthvalue(grad.numel() - self.k + 1)

    def contestants(self) -> dict[str, Callable[[torch.Tensor], None]]:
        names = ["plain", "compress", "compress_exact", "abs_topk", "kthvalue"]
        return {name: getattr(self, name) for name in names}


def spread(values: list[float]) -> dict[str, float]:
    """Median, 10th and 90th percentile, and the least, which other programs slowed least."""
    cuts = statistics.quantiles(values, n=10, method="inclusive")
    middle = statistics.median(values)
    return {"median": middle, "p10": cuts[0], "p90": cuts[-1], "least": min(values)}


def measure(bench: Bench, threads: int, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Milliseconds of each contestant, and ratios to `plain` and of `abs_topk`."""
    torch.set_num_threads(threads)
    contestants = bench.contestants()
    for step in range(WARM_UP):
        for name in ("plain", "compress", "compress_exact"):
            contestants[name](bench.gradients[step % GRADIENTS])
    times: dict[str, dict[int, float]] = {name: {} for name in contestants}  # by round
    slow = {"abs_topk", "kthvalue"}
    for step in range(rounds):
        grad = bench.gradients[step % GRADIENTS]
        for name, run in contestants.items():
            if name in slow and step % 4:  # a fourth of the rounds is enough for them
                continue
            start = time.perf_counter()
            run(grad)
            times[name][step] = 1e3 * (time.perf_counter() - start)

    def over(a: str, b: str) -> dict[str, float]:
        return spread([times[a][step] / times[b][step] for step in times[a] if step in times[b]])

    ratios = {f"{name} / plain": over(name, "plain") for name in ("compress", "compress_exact")}
    for peer in ("abs_topk", "kthvalue"):
        ratios |= {f"{peer} / {name}": over(peer, name) for name in ("compress", "compress_exact")}
    milliseconds = {name: spread(list(each.values())) for name, each in times.items()}
    return {"milliseconds": milliseconds, "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=pathlib.Path, help="where to write the figures")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the size, 8 rounds")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    n = N // 100 if options.quick else N
    rounds = 8 if options.quick else options.rounds
    report = {
        "what": f"TopK of {n} {options.dtype}, k = {RATIO:.0%}",
        "machine": platform.machine(),
        "torch": torch.__version__,
        "library": json.loads(_loader.load_torch_ops().build_info()),
        "rounds": rounds,
        "threads": {},
    }
    print(report["what"])
    for threads in options.threads:
        bench = Bench(n, getattr(torch, options.dtype))
        result = measure(bench, threads, rounds)
        result["passes"] = bench.carried[False][1][4].item()
        result["misses"] = bench.carried[False][1][2].item()
        report["threads"][threads] = result
        for unit in ("milliseconds", "ratios"):
            for name, s in result[unit].items():
                print(
                    f"  {threads} threads  {name:28} {s['median']:8.2f}  "
                    f"[{s['p10']:.2f}, {s['p90']:.2f}]  least {s['least']:.2f}"
                )
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
