"""Measures HARP beside TCP as NCCL's own transport drives it, in turn, over the same link.

    python -m benchmarks.harp
    python -m benchmarks.harp --quick
    python -m benchmarks.harp --loss 0.01

Two network namespaces, joined by a veth pair, are the machines; `harp-perf` runs in each, on one
processor a side. It needs root. docs/harp_benchmarks.md says what is measured.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys

from benchmarks.harp import report
from benchmarks.harp.measure import CONTESTANTS, ROOT, USUAL, Plan, measure
from benchmarks.lightcc import about
from benchmarks.lightcc.links import LinksUnavailable

DEFAULT = ROOT / "build" / "benchmarks" / "harp" / "results.json"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.harp", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="one short round: does everything run?")
    add("--contestants", default=",".join(USUAL), help="(%(default)s)")
    add("--rounds", type=int, default=7, help="turns of each contestant (%(default)s)")
    add("--seconds", type=float, default=1.0, help="about, of a stream (%(default)s)")
    add("--pings", type=int, default=20_000, help="round trips of 8 bytes (%(default)s)")
    add("--sizes", default="8,65536,1048576", help="bytes of streamed messages (%(default)s)")
    add("--mbits", type=int, help="rate of the link (no limit)")
    add(
        "--loss",
        type=float,
        default=0.0,
        help="part of the packets that is dropped, needs iptables",
    )
    add("--no-offload", action="store_true", help="no packet on the link is larger than its MTU")
    add("--json", type=pathlib.Path, default=DEFAULT, help="results file")
    args = parser.parse_args(arguments)
    args.given = sys.argv[1:] if arguments is None else arguments
    args.contestants = tuple(args.contestants.split(","))
    if unknown := set(args.contestants) - set(CONTESTANTS):
        parser.error(f"no contestant {unknown.pop()}; there are {', '.join(CONTESTANTS)}")
    if args.quick:
        args.rounds, args.seconds, args.pings = 1, 0.05, 200
    return args


def plan_of(args: argparse.Namespace) -> Plan:
    """What the command line asks for."""
    return Plan(
        contestants=args.contestants,
        rounds=args.rounds,
        seconds=args.seconds,
        pings=args.pings,
        sizes=tuple(map(int, args.sizes.split(","))),
        mbits=args.mbits,
        loss=args.loss,
        offload=not args.no_offload,
    )


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when everything was measured, whatever the figures are."""
    args = parse(arguments)
    results = about.header("harp", args.quick, args.given)
    results["command"] = results["command"].replace("benchmarks.lightcc.harp", "benchmarks.harp")
    results["results"] = []
    try:
        for each in measure(plan_of(args)):
            results["results"].append(each)
            print(json.dumps(each), file=sys.stderr)
    except (LinksUnavailable, RuntimeError) as error:
        print(f"benchmarks.harp: {error}", file=sys.stderr)
        return 1
    results["load"] = about.load()
    about.write(args.json, results)
    print("\n".join(report.table(results)))
    print(f"written: {about.shown(args.json)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
