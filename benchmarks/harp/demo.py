"""`make demo-harp`: two machines and a link, TCP against HARP: clean, and where packets get lost.

The machines are network namespaces, joined by a veth pair of 1 Gbit/s without segmentation offload,
so that what gets lost are packets of 1500 bytes, as between real machines. Every figure is shown as
it is measured; a table and a plot end it.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harp.measure import Plan, measure
from benchmarks.lightcc import about
from benchmarks.lightcc.links import LinksUnavailable

_CONTESTANTS = ("tcp", "harp")
_COLOURS = {"tcp": "#30638e", "harp": "#d1495b"}
_NAMES = {"tcp": "TCP", "harp": "HARP"}


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when everything was measured."""
    parser = argparse.ArgumentParser(
        prog="make demo-harp", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--out", type=pathlib.Path, default=pathlib.Path("harp_demo"), help="folder (harp_demo)")
    add("--losses", default="0,0.001,0.01", help="parts of the packets that get lost (%(default)s)")
    add("--mbits", type=int, default=1000, help="rate of the link (%(default)s)")
    add("--rounds", type=int, default=3, help="of each measurement (%(default)s)")
    add("--seconds", type=float, default=1.0, help="about, of a stream (%(default)s)")
    args = parser.parse_args(arguments)
    console = Console()
    losses = [float(loss) for loss in args.losses.split(",")]
    found: dict[float, list[dict[str, Any]]] = {loss: [] for loss in losses}
    for loss in losses:
        console.print(f"[bold]{_words(loss)}[/]")
        plan = Plan(
            contestants=_CONTESTANTS,
            rounds=args.rounds,
            seconds=args.seconds,
            pings=2000,
            sizes=(1 << 20,),
            mbits=args.mbits,
            loss=loss,
            offload=False,
        )
        try:
            for each in measure(plan):
                found[loss].append(each)
                console.print(f"  {_NAMES[each['contestant']]:5} {_figure(each)}")
        except (LinksUnavailable, RuntimeError) as error:
            console.print(f"[red]{error}[/]")
            return 1
    console.print(_table(found))
    args.out.mkdir(parents=True, exist_ok=True)
    about.write(args.out / "results.json", {str(loss): each for loss, each in found.items()})
    _plot(args.out / "harp.png", found)
    console.print(f"{args.out}/harp.png: the plot; {args.out}/results.json: every number")
    return 0


def _words(loss: float) -> str:
    return f"{100 * loss:g}% of the packets get lost" if loss else "a clean link"


def _figure(each: dict[str, Any]) -> str:
    if each["what"] == "stream":
        return f"{each['gbit_s']:8.2f} Gb/s in messages of 1 MiB"
    return f"{each['p50_us']:8.0f} us to and fro (p50), {each['p999_us']:,.0f} us (p99.9)"


def _median(found: list[dict[str, Any]], name: str, what: str, field: str) -> float:
    values = [e[field] for e in found if (e["contestant"], e["what"]) == (name, what)]
    return statistics.median(values)


def _table(found: dict[float, list[dict[str, Any]]]) -> Table:
    table = Table(title="One processor a side, 1500 bytes a packet", title_justify="left")
    for name in ("link", "TCP, Gb/s", "HARP, Gb/s", "times", "TCP p99.9, us", "HARP p99.9, us"):
        table.add_column(name, justify="left" if name == "link" else "right")
    for loss, mine in found.items():
        tcp, harp = (_median(mine, name, "stream", "gbit_s") for name in _CONTESTANTS)
        tails = [_median(mine, name, "ping", "p999_us") for name in _CONTESTANTS]
        numbers = [f"{tcp:.2f}", f"{harp:.2f}", f"{harp / tcp:.2f}x"]
        table.add_row(_words(loss), *numbers, *(f"{tail:,.0f}" for tail in tails))
    return table


def _plot(file: pathlib.Path, found: dict[float, list[dict[str, Any]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for index, name in enumerate(_CONTESTANTS):
        places = [place + 0.4 * index for place in range(len(found))]
        for axes, what, field in (
            (left, "stream", "gbit_s"),
            (right, "ping", "p999_us"),
        ):
            heights = [_median(mine, name, what, field) for mine in found.values()]
            axes.bar(places, heights, 0.38, color=_COLOURS[name], label=_NAMES[name])
    for axes, title in (
        (left, "Gb/s, messages of 1 MiB"),
        (right, "p99.9 of 8 bytes to and fro, us"),
    ):
        axes.set_title(title)
        axes.set_xticks([place + 0.2 for place in range(len(found))])
        axes.set_xticklabels([f"{100 * loss:g}% lost" for loss in found])
        axes.legend()
    right.set_yscale("log")
    figure.savefig(file, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
