"""`taco harp top`: what HARP's connections do, live, the worst first."""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from taco.harp.statistics import Follower, Row

_EPILOG = """Start the job with HARP_STATS=/some/folder/%h.%p.jsonl: a file for each process (%p) of
each host (%h), or one for all. Then: taco harp top /some/folder/*.jsonl"""


def main(argv: Sequence[str]) -> int:
    """Runs `taco harp`.

    Args:
        argv: arguments after `harp`.

    Returns:
        0; 1 where no file can be read.
    """
    parser = argparse.ArgumentParser(
        prog="taco harp top",
        description="Shows HARP's connections, the worst first: failed, black paths, loss, delay.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=["top"])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="of HARP_STATS")
    parser.add_argument("--once", action="store_true", help="what is there now, and no more")
    parser.add_argument("--json", action="store_true", help="one JSON object; implies --once")
    parser.add_argument("--rows", type=int, default=30, help="at most (%(default)d)")
    options = parser.parse_args(list(argv))
    follower = Follower(options.files)
    try:
        follower.read()
    except OSError as error:
        sys.stderr.write(f"taco harp top: {error}\n")
        return 1
    if not any(file.exists() for file in options.files):
        sys.stderr.write(
            f"taco harp top: there is no {options.files[0]}. Start the job with HARP_STATS=FILE\n"
        )
        return 1
    rows = follower.rows()
    if options.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
    elif options.once:
        Console().print(_table(rows, options.rows, follower.malformed))
    else:
        _follow(follower, options.rows)
    return 0


def _follow(follower: Follower, most: int) -> None:
    with Live(refresh_per_second=2, screen=False) as live:
        while True:
            live.update(_table(follower.rows(), most, follower.malformed))
            time.sleep(1)
            follower.read()


def _table(rows: Sequence[Row], most: int, malformed: int) -> Table:
    total = sum(row.gbit_s for row in rows if row.kind == "send")
    title = f"{len(rows)} connections, {total:.2f} Gbit/s sent"
    if malformed:
        title += f", {malformed} lines that could not be read"
    table = Table(title=title, title_justify="left")
    for name in ("of", "", "peer", "Gbit/s", "msg/s", "rtt", "least", "lost", "black", "state"):
        right = name in ("Gbit/s", "msg/s", "rtt", "least", "lost", "black")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows[:most]:
        bad = row.state == "failed" or row.black or row.lost > 0.02
        table.add_row(
            escape(row.owner),
            row.kind,
            escape(row.peer),
            f"{row.gbit_s:.3f}",
            f"{row.messages_s:,.0f}",
            _time(row.rtt_us),
            _time(row.least_rtt_us),
            f"{100 * row.lost:.1f}%" if row.kind == "send" else "",
            f"{row.black} of {row.paths}" if row.kind == "send" else "",
            escape(row.failure or row.state) + (f", {row.age:.0f} s old" if row.age > 30 else ""),
            style="red" if bad else "",
        )
    return table


def _time(microseconds: float) -> str:
    if not microseconds:
        return ""
    return f"{microseconds:.0f} us" if microseconds < 10_000 else f"{microseconds / 1000:.0f} ms"
