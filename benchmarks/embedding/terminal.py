"""The summary as a table on the terminal."""

from __future__ import annotations

from typing import Any

import rich.console
import rich.markup
import rich.table


def show(console: rich.console.Console, results: dict[str, Any]) -> None:
    """Prints findings, notes, and how many targets are met."""
    title = rich.markup.escape("TACO beside its peers: median [p10, p90] of the rounds")
    table = rich.table.Table(title=title)
    for heading in ("case", "what", "contestant"):
        table.add_column(heading, no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("target", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("remark", overflow="fold")
    last = ""
    for line in results["findings"]:
        if last and line["case"] != last:
            table.add_section()
        first = line["case"] if line["case"] != last else ""
        last = line["case"]
        table.add_row(
            first, line["what"], line["peer"], value_text(line), line["target"], verdict(line),
            rich.markup.escape(line["remark"]),
        )  # fmt: skip
    console.print(table)
    for name, why in results["missing"].items():
        console.print(f"[yellow]{name} did not take part:[/] {rich.markup.escape(why)}")
    for case in results["results"]:
        for note in case["notes"]:
            console.print(f"[yellow]{case['case']['name']}:[/] {rich.markup.escape(note)}")
    console.print(tally(results))


def value_text(line: dict[str, Any]) -> str:
    """`3.10 [3.02, 3.25]`, or a dash."""
    value = line["value"]
    if not value:
        return "-"
    return f"{value['median']:.2f} [{value['p10']:.2f}, {value['p90']:.2f}]"


def verdict(line: dict[str, Any]) -> str:
    """Met, missed, not measured, or nothing where nothing was to be reached."""
    if line["met"] is None:
        return "[yellow]not measured[/]" if line["target"] else ""
    return "[green]met[/]" if line["met"] else "[red]missed[/]"


def tally(results: dict[str, Any]) -> str:
    """`12 of 15 targets met, 1 not measured; 2 missed beside a floor, 1 of them by that too`."""
    aimed = [line for line in results["findings"] if line["target"]]
    met = [line["met"] for line in aimed]
    text = f"{met.count(True)} of {len(aimed)} targets met, {met.count(None)} not measured"
    beside = [line for line in aimed if line["met"] is False and line.get("floor")]
    if not beside:
        return text
    beyond = sum(beyond_floor(line) for line in beside)
    return f"{text}; {len(beside)} missed beside a floor, {beyond} of them by that too"


def beyond_floor(line: dict[str, Any]) -> bool:
    """Whether the memory work alone, with no table around it, does not reach the target either."""
    floor = line.get("floor")
    return bool(floor) and floor["median"] < float(line["target"].strip(">= x"))
