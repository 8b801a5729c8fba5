"""Tables of the benchmark, and the page in docs/ that shows them.

python -m benchmarks.harp.report build/benchmarks/harp/results.json
"""

from __future__ import annotations

import json
import pathlib
import statistics
import sys
from typing import Any

from benchmarks.lightcc import about

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "harp_benchmarks.md"
_BEGIN = "<!-- results: begin (made by benchmarks.harp.report; do not edit) -->"
_END = "<!-- results: end -->"

_COLUMNS = {
    "stream": (("gbit_s", "Gb/s", 2), ("sender_processor", "sender, processors", 2))
    + (("receiver_processor", "receiver, processors", 2),),
    "ping": (("p50_us", "p50, us", 1), ("p99_us", "p99, us", 1), ("p999_us", "p99.9, us", 1))
    + (("machine_p999_us", "the machine's own p99.9, us", 1),),
}
# Of which of these the ratio to TCP is taken.
_RATIOS = {"stream": ("gbit_s",), "ping": ("p50_us", "p999_us")}

# What a stream costs each side; fields begin with its name.
_COSTS = (
    ("cycles_byte", "cycles a byte", 2),
    ("calls_mib", "system calls a MiB", 1),
    ("user_copies", "copies by the process", 2),
    ("kernel_copies", "by the kernel", 2),
)
_SIDES = ("sender", "receiver")
_COSTS_OF = 1 << 20  # bytes of a message


def costs(results: dict[str, Any]) -> list[str]:
    """Lines of Markdown: what each side of a stream of 1 MiB messages costs, medians of the rounds.
    None where the results have no such stream or are of a time before it was counted."""
    fields = [f"{side}_{name}" for side in _SIDES for name, _, _ in _COSTS]
    mine = [e for e in results["results"] if (e["what"], e["bytes"]) == ("stream", _COSTS_OF)]
    mine = [each for each in mine if f"{_SIDES[0]}_cycles_byte" in each]
    if not mine:
        return []
    heads = [f"{side}: {head}" for side in _SIDES for _, head, _ in _COSTS]
    digits = [digits for _ in _SIDES for _, _, digits in _COSTS]
    lines = [f"### What streams of {_COSTS_OF:,} bytes cost", ""]
    lines += [f"| contestant | {' | '.join(heads)} |", "| --- | " + "--: | " * len(heads)]
    for name in dict.fromkeys(each["contestant"] for each in mine):
        rounds = [each for each in mine if each["contestant"] == name]
        cells = [
            f"{statistics.median(e[field] for e in rounds):.{places}f}"
            if all(field in e for e in rounds)
            else ""
            for field, places in zip(fields, digits, strict=True)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def table(results: dict[str, Any]) -> list[str]:
    """Lines of Markdown: for each kind of measurement its contestants, medians of the rounds; and
    the ratio to `tcp`, taken within a round, with the least and the most; of round trips that of
    the p99.9, too. Then `costs`."""
    lines = []
    kinds = sorted({(each["what"], each["bytes"]) for each in results["results"]}, reverse=True)
    for what, size in kinds:
        mine = [e for e in results["results"] if (e["what"], e["bytes"]) == (what, size)]
        # A field may be younger than the results.
        columns = [c for c in _COLUMNS[what] if all(c[0] in each for each in mine)]
        ratios = _RATIOS[what]
        title = "Streams" if what == "stream" else "Round trips"
        lines += [f"### {title} of {size:,} bytes", ""]
        heads = [head for _, head, _ in columns]
        heads += ["times tcp", "p99.9, times tcp"][: len(ratios)]
        lines += [f"| contestant | {' | '.join(heads)} |"]
        lines += ["| --- | " + "--: | " * len(heads)]
        for name in dict.fromkeys(each["contestant"] for each in mine):
            rounds = [each for each in mine if each["contestant"] == name]
            cells = [
                f"{statistics.median(e[field] for e in rounds):.{digits}f}"
                for field, _, digits in columns
            ]
            cells += [_ratio(mine, rounds, field) for field in ratios]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return lines + costs(results)


def _ratio(everybody: list[dict[str, Any]], rounds: list[dict[str, Any]], field: str) -> str:
    tcp = {each["round"]: each[field] for each in everybody if each["contestant"] == "tcp"}
    ratios = [each[field] / tcp[each["round"]] for each in rounds if each["round"] in tcp]
    if not ratios:
        return ""
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"


def main(arguments: list[str] | None = None) -> int:
    """Renews the page and the JSON beside it."""
    (file,) = sys.argv[1:] if arguments is None else arguments
    results = json.loads(pathlib.Path(file).read_text())
    machine, revision = results["machine"], results["revision"]
    described = (
        f"{machine['processor']}, {machine['processors']} processors, {machine['system']}, kernel "
        f"{machine['kernel']}"
    )
    changed = " with changes" if revision["modified"] else ""
    text = PAGE.read_text()
    before, rest = text.split(_BEGIN)
    after = rest.split(_END)[1]
    body = [
        _BEGIN,
        "",
        f"Command: `{results['command']}`, started {results['started']}, revision "
        f"{revision['commit'][:12]}{changed}. Machine: {described}. Load average at the end: "
        f"{results['load'][0]}.",
        "",
        *table(results),
        "Every round, as JSON: [harp_benchmarks.json](harp_benchmarks.json).",
        "",
        _END,
    ]
    PAGE.write_text(before + "\n".join(body) + after)
    about.write(PAGE.with_suffix(".json"), results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
