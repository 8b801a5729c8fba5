"""Doctor's report as tables, for people. Works without a terminal, colours or Unicode."""

import os
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from taco.cli import probe

_STYLES = {probe.LOADS: "green", probe.FAILS: "bold red", probe.NEEDS_FRAMEWORK: "yellow"}
_WIDTH_WITHOUT_TERMINAL = 120


def with_progress(work: Callable[[Callable[[str], None]], dict[str, Any]]) -> dict[str, Any]:
    """Runs `work(tell)`, showing what it tells on stderr where that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        return work(lambda what: None)
    with console.status("looking") as status:
        return work(lambda what: status.update(f"looking at {escape(what)}"))


def show(report: dict[str, Any]) -> None:
    """Prints the report to stdout."""
    console = _console()
    console.print(f"[bold]TACO {report['taco']['version']}[/]  {escape(report['taco']['package'])}")
    for table in (
        _machine(report),
        _packages(report["packages"]),
        _artefacts(report["artefacts"]),
        _tunables(report["tunables"]),
    ):
        console.print()
        console.print(table)
    console.print()
    for problem in report["problems"]:
        console.print(f"[bold red]problem:[/] {escape(problem)}", soft_wrap=True)
    if report["ok"]:
        console.print("[green]Everything that is installed loads.[/]")


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH_WITHOUT_TERMINAL
    return console


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _machine(report: dict[str, Any]) -> Table:
    system, cpu, memory = report["system"], report["cpu"], report["memory"]
    table = _table("Machine", "what", "value")
    table.add_row(
        "system",
        _words(system["distribution"], system["system"], system["kernel"], system["libc"]),
    )
    table.add_row("python", _words(system["python"], system["executable"]))
    table.add_row("processor", _words(cpu["model"], f"({cpu['usable']} of {cpu['logical']} CPUs)"))
    level = f"x86-64-{cpu['x86_64_level']}" if cpu["x86_64_level"] else system["machine"]
    table.add_row(
        "instructions", f"{level}, AVX2 {_yes(cpu['avx2'])}, AVX-512 {_yes(cpu['avx512'])}"
    )
    limit = f", limited to {_gib(memory['cgroup_limit'])}" if memory["cgroup_limit"] else ""
    table.add_row("memory", f"{_gib(memory['total'])}, {_gib(memory['available'])} free{limit}")
    table.add_row(
        "huge pages",
        _words(memory["huge_pages"], memory["huge_pages_advice"], separator=". "),
    )
    gpus = [_words(each["name"], _gib(each["memory"])) for each in report["gpus"]["found"]]
    table.add_row("GPUs", "\n".join(gpus) or escape(report["gpus"]["note"]))
    return table


def _packages(packages: list[dict[str, Any]]) -> Table:
    table = _table("Python packages", "package", "installed", "supported", "needed by")
    for package in packages:
        version = package["installed"] or "-"
        if package["fits"] is False:
            version = f"[yellow]{escape(version)} (untested)[/]"
        table.add_row(package["distribution"] or package["name"], version, package["supported"],
                      package["needed_by"])  # fmt: skip
    return table


def _artefacts(artefacts: list[dict[str, Any]]) -> Table:
    table = _table("Native libraries", "library", "state", "found", "more")
    for artefact in artefacts:
        status = artefact["status"]
        found = _words(artefact["path"], artefact["place"] and f"({artefact['place']})")
        built = ", ".join(f"{name} {value}" for name, value in artefact["built"].items())
        ops = f"{len(artefact['ops'])} ops" if artefact["ops"] else None
        more = _words(artefact["error"], ops, built, separator="; ") or artefact["gives"]
        style = _STYLES.get(status, "dim")
        table.add_row(artefact["name"], f"[{style}]{status}[/]", found, escape(more))
    return table


def _tunables(tunables: list[dict[str, Any]]) -> Table:
    table = _table("Tunables", "variable", "value", "default", "from", "meaning")
    for each in tunables:
        value = "[bold red]invalid[/]" if each["error"] else _or_auto(each["value"])
        source = "environment" if each["source"] == each["env"] else each["source"]
        table.add_row(each["env"], value, _or_auto(each["default"]), source, escape(each["doc"]))
    return table


def _words(*parts: str | None, separator: str = " ") -> str:
    return escape(separator.join(part for part in parts if part))


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _or_auto(value: Any) -> str:
    return "-" if value is None else escape(str(value))


def _gib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 2**30:.1f} GiB"
