"""`python -m benchmarks.lightcc`: the step times, then the accuracy, each into its results file."""

from __future__ import annotations

import argparse
import pathlib
import sys

from benchmarks.lightcc import about, accuracy, training


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when both could be measured, whatever the figures are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lightcc", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="small and short: does everything run?")
    add("--out", type=pathlib.Path, default=about.FOLDER, help="folder of the results files")
    args = parser.parse_args(arguments)
    quick = ["--quick"] if args.quick else []
    statuses = [
        part.main([*quick, "--json", str(args.out / f"{name}.json")])
        for name, part in (("training", training), ("accuracy", accuracy))
    ]
    print("docs' tables: python -m benchmarks.lightcc.report " + about.shown(args.out) + "/*.json")
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main())
