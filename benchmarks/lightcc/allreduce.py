"""Allreduce of 100 MB over links of a known rate: flat against levels, dense against TopK.

    python -m benchmarks.lightcc.allreduce --json build/allreduce.json

Needs root, for network namespaces. All modes take turns, round by round, in the same processes over
the same links; a ratio is that of one round, and what is printed are medians with the quartiles.

    gloo     torch.distributed's own allreduce (the peer)
    ring     ours, flat
    2d       ours, machines as groups, whose ranks read each other's memory
    topk     the largest 1% of every rank, exchanged flat
    2d_topk  dense inside of a machine, the largest 1% of each shard across

and, where they are asked for, 2d_sockets and 2d_topk_sockets: through the loopback inside.

TopK's selection is part of the time: a stand-in that is given the threshold (NumPy).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.lightcc.links import Links, LinksUnavailable

ROOT = Path(__file__).resolve().parents[2]
MODES = ("gloo", "ring", "2d", "topk", "2d_topk")


def measure(machines: int, per_machine: int, mbits: int | None, **setup: Any) -> dict[str, Any]:
    """Runs all modes on machines x per_machine ranks.

    Args:
        machines: number of namespaces.
        per_machine: ranks in each.
        mbits: rate of the links, in Mbit/s; None for no limit.
        setup: elements, ratio, rounds, modes, timeout, and options of the patterns by name.

    Returns:
        For each mode the lists of seconds and of bytes sent and received by machine 0, by round.
    """
    size = machines * per_machine
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'python'}", "OMP_NUM_THREADS": "1"}
    with Links(machines, mbits) as links, tempfile.TemporaryDirectory() as folder:
        children = []
        for rank in range(size):
            machine = rank // per_machine
            own = {"rank": rank, "size": size, "address": links.address(machine)}
            own |= {"per_machine": per_machine, "store": f"{folder}/store"}
            argv = [sys.executable, "-m", "benchmarks.lightcc.allreduce_worker"]
            output = subprocess.PIPE if rank == 0 else subprocess.DEVNULL
            children.append(
                links.popen(
                    machine,
                    [*argv, json.dumps(setup | own)],
                    env=environment,
                    stdout=output,
                    text=True,
                )
            )
        lines = children[0].communicate()[0].splitlines()
        statuses = [child.wait() for child in children]
        delay = links.delay_us
    if any(statuses):
        raise RuntimeError(f"ranks of {machines}x{per_machine} ended with {statuses}")
    modes: dict[str, dict[str, list[float]]] = {}
    for line in map(json.loads, lines):
        mode = modes.setdefault(line.pop("mode"), {})
        for key, value in line.items():
            mode.setdefault(key, []).append(value)
    return {"machines": machines, "per_machine": per_machine, "rtt_us": delay, "modes": modes}


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    lower, middle, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, middle, upper


def bound(mode: str, machines: int, per_machine: int, size: int) -> float | None:
    """Bytes that a dense mode must at least send from a machine; None for sparse ones."""
    ranks = machines * per_machine
    if mode in ("gloo", "ring"):
        return 2 * (ranks - 1) / ranks * size
    return (
        2 * (machines - 1) / machines * size
        if mode.startswith("2d") and "topk" not in mode
        else None
    )


def table(result: dict[str, Any], size: int) -> list[str]:
    """Rows of a Markdown table: time, ratio to our flat ring in the same round, bytes."""
    machines, per_machine, modes = result["machines"], result["per_machine"], result["modes"]
    rows = []
    for name, mode in modes.items():
        low, middle, high = (1000 * each for each in quartiles(mode["seconds"]))
        base = modes.get("ring", mode)["seconds"]
        ratios = [ours / own for ours, own in zip(base, mode["seconds"], strict=True)]
        worst, ratio, best = quartiles(ratios)
        sent = statistics.median(mode["sent"])
        busy = 1000 * statistics.median(mode["processor_seconds"])
        least = bound(name, machines, per_machine, size)
        excess = f"{100 * (sent / least - 1):+.1f}%" if least else "-"
        rows.append(
            f"| {machines} x {per_machine} | {name} | {middle:.0f} ({low:.0f}-{high:.0f}) | "
            f"{ratio:.2f} ({worst:.2f}-{best:.2f}) | {sent / 1e6:.1f} | {excess} | {busy:.0f} |"
        )
    return rows


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layouts", default="2x1,2x2,2x4", help="machines x ranks in each")
    parser.add_argument("--mbits", type=int, default=1000, help="rate of a link; 0: no limit")
    parser.add_argument("--megabytes", type=float, default=100.0)
    parser.add_argument("--ratio", type=float, default=0.01, help="that TopK keeps")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--options", type=json.loads, default={}, help="of the patterns, JSON")
    parser.add_argument("--json", type=Path, help="where the numbers go")
    flags = parser.parse_args()
    elements = int(flags.megabytes * 250_000)
    setup = {"elements": elements, "ratio": flags.ratio, "rounds": flags.rounds, "timeout": 60}
    setup |= {"modes": flags.modes.split(","), **flags.options}
    results = []
    print("| ranks | mode | ms | times the ring | MB sent | over the bound | processor ms of all |")
    print("|---|---|---|---|---|---|---|")
    for layout in flags.layouts.split(","):
        machines, per_machine = map(int, layout.split("x"))
        try:
            result = measure(machines, per_machine, flags.mbits or None, **setup)
        except LinksUnavailable as error:
            print(f"no links: {error}", file=sys.stderr)
            return 1
        result["load"] = os.getloadavg()
        results.append(result)
        print("\n".join(table(result, 4 * elements)), flush=True)
    if flags.json:
        about = {"mbits": flags.mbits, "cores": os.cpu_count(), "kernel": platform.release()}
        flags.json.parent.mkdir(parents=True, exist_ok=True)
        flags.json.write_text(json.dumps({**about, **setup, "results": results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
