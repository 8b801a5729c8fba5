"""The picture of a run: speed over each peer, and what growth costs in time and memory."""

from __future__ import annotations

import pathlib
from typing import Any

from benchmarks.embedding import claims
from benchmarks.embedding.cases import CONTESTANTS, MACHINE, SUBJECT

_COLOURS = {
    name: f"C{i}" for i, name in enumerate((*CONTESTANTS[1:], SUBJECT))
}  # the subject's colour never depends on who else takes part


def draw(results: dict[str, Any], file: pathlib.Path) -> bool:
    """Writes a PNG; False where there is nothing to draw."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ratios = [
        f for f in results["findings"]
        if f["what"] == "speed over" and f["value"] and f["peer"] not in MACHINE
    ]  # fmt: skip
    # A page holds the bars of one number of threads: the largest.
    threads = max((_threads(f) for f in ratios), default=0)
    ratios = [f for f in ratios if _threads(f) == threads]
    growth = [r for r in results["results"] if r["case"]["kind"] == "growth" and _measured(r)]
    panels = bool(ratios) + 2 * bool(growth)
    if not panels:
        return False
    bars = len({f["case"] for f in ratios})
    heights = ([max(3.0, 0.45 * bars)] if ratios else []) + ([3.5, 3.5] if growth else [])
    figure, axes = pyplot.subplots(
        panels, 1, figsize=(10, sum(heights) + 0.8 * panels), squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    column = list(axes[:, 0])
    if ratios:
        _draw_ratios(column.pop(0), ratios)
    if growth:
        _draw_batches(column.pop(0), growth[0])
        _draw_memory(column.pop(0), growth[0])
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
    return True


def _threads(finding: dict[str, Any]) -> int:
    return int(finding["case"].split("/")[4].removeprefix("t"))


def _measured(result: dict[str, Any]) -> bool:
    return any(c["rounds"] for c in result["contestants"].values())


def _draw_ratios(axis: Any, ratios: list[dict[str, Any]]) -> None:
    cases = list(dict.fromkeys(f["case"] for f in ratios))
    names = [c for c in CONTESTANTS if any(f["peer"] == c for f in ratios)]
    height = 0.8 / len(names)
    for i, name in enumerate(names):
        mine = [f for f in ratios if f["peer"] == name]
        places = [cases.index(f["case"]) + (i - (len(names) - 1) / 2) * height for f in mine]
        medians = [f["value"]["median"] for f in mine]
        low = [f["value"]["median"] - f["value"]["p10"] for f in mine]
        high = [f["value"]["p90"] - f["value"]["median"] for f in mine]
        axis.barh(places, medians, height, xerr=[low, high], label=name, color=_COLOURS[name])
        for place, finding in zip(places, mine, strict=True):
            least = claims.SPEED_TARGETS.get((finding["case"].split("/")[0], name))
            if least:
                axis.plot([least, least], [place - height / 2, place + height / 2], "k-", lw=2)
    axis.axvline(1.0, color="grey", lw=0.8)
    axis.set_xscale("log")
    axis.set_yticks(range(len(cases)), cases, fontsize=7)
    axis.invert_yaxis()
    axis.set_xlabel(
        "TACO's speed over the peer's (black: target; whiskers: p10, p90 of the rounds)"
    )
    axis.legend(fontsize=8)


def _draw_batches(axis: Any, result: dict[str, Any]) -> None:
    case = result["case"]
    for name, contestant in result["contestants"].items():
        if contestant["rounds"]:
            seconds = contestant["rounds"][0]["seconds"]
            rows = [(i + 1) * case["batch"] / 1e6 for i in range(len(seconds))]
            milliseconds = [s * 1e3 for s in seconds]
            axis.plot(rows, milliseconds, ".", ms=2, label=name, color=_COLOURS[name])
    axis.set_yscale("log")
    axis.set_xlabel("million rows in the table")
    axis.set_ylabel("ms a batch")
    axis.set_title(f"{case['name']}: every batch of {case['batch']} new keys", fontsize=9)
    axis.legend(fontsize=8, markerscale=5)


def _draw_memory(axis: Any, result: dict[str, Any]) -> None:
    for name, contestant in result["contestants"].items():
        if contestant["rounds"] and name not in MACHINE:
            series = contestant["rounds"][0]["memory"]["series"]
            rows = [point[0] / 1e6 for point in series]
            axis.plot(rows, [p[1] for p in series], label=name, color=_COLOURS[name])
    axis.axhline(claims.MEMORY_TARGET, color="k", lw=1, ls="--")
    axis.set_xlabel("million rows in the table")
    axis.set_ylabel("peak resident / payload")
    axis.legend(fontsize=8)
