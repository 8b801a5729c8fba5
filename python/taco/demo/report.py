"""Results as a table for people and as JSON for machines."""

import math
import os
import platform
import sys
from dataclasses import asdict
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from taco.demo.embedding import TITLES
from taco.demo.runner import Result, RunConfig
from taco.demo.sources import Source
from taco.demo.survey import Survey


def difference(ours: Result, stock: Result) -> tuple[float, float]:
    """Compares the AUC of two programs window by window, on the same examples.

    Args:
        ours, stock: Results over the same windows.

    Returns:
        Mean of the paired differences over whole windows and its standard error, windows taken as
        independent; (nan, nan) where fewer than two windows have both classes.
    """
    pairs = (np.array(ours.aucs) - np.array(stock.aucs))[: ours.whole]
    pairs = pairs[np.isfinite(pairs)]
    if len(pairs) < 2:
        return math.nan, math.nan
    return float(pairs.mean()), float(pairs.std(ddof=1) / math.sqrt(len(pairs)))


def table(survey: Survey, results: list[Result]) -> Table:
    """Lays out the closing table: a row a program, the ceiling, the difference."""
    grid = Table(
        title="DeepFM, test-then-train", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    grid.add_column("embedding", no_wrap=True, min_width=14)
    for name in ("AUC", "2nd half", "log-loss", "samples/s", "memory", "rows"):
        grid.add_column(name, justify="right")
    for result in results:
        grid.add_row(
            TITLES[result.kind],
            *_scores(result),
            f"{result.speed:,.0f}",
            _size(result.memory.bytes),
            f"{result.memory.rows:,}",
        )
    by_kind = {result.kind: result for result in results}
    if "taco" in by_kind and "stock" in by_kind:
        grid.add_section()
        grid.add_row("difference", *_compare(by_kind["taco"], by_kind["stock"]))
    if survey.ceiling is not None:
        grid.add_section()
        grid.add_row("ceiling", *_scores(survey.ceiling), "", "", "")
    return grid


def _size(number: int) -> str:
    return f"{number / 2**30:,.1f} GiB" if number >= 2**30 else f"{number / 2**20:,.1f} MiB"


def _score(score: float, sign: str = "") -> str:
    """Four digits; "none" for the AUC of examples that have one label only."""
    return f"{score:{sign}.4f}" if math.isfinite(score) else "none"


def _scores(result: Result) -> tuple[str, ...]:
    scores = (result.metrics.auc, result.second_half.auc, result.metrics.log_loss)
    return tuple(_score(score) for score in scores)


def _compare(ours: Result, stock: Result) -> tuple[str, ...]:
    def ratio(a: float, b: float) -> str:
        return f"{a / b:.2f}x" if b else ""

    return (
        _score(ours.metrics.auc - stock.metrics.auc, "+"),
        _score(ours.second_half.auc - stock.second_half.auc, "+"),
        _score(ours.metrics.log_loss - stock.metrics.log_loss, "+"),
        ratio(ours.speed, stock.speed),
        ratio(ours.memory.bytes, stock.memory.bytes),
        "",
    )


def to_json(
    source: Source, config: RunConfig, survey: Survey, results: list[Result]
) -> dict[str, Any]:
    """Gathers everything a reader needs to repeat and to judge the run; NaN becomes null."""
    by_kind = {result.kind: result for result in results}
    content: dict[str, Any] = {
        "log": {
            "name": source.name,
            "fields": list(source.fields),
            "samples": survey.samples,
            "distinct_ids": survey.distinct,
            "positives": survey.positives,
            "lines": source.report.lines,
            "set_aside": dict(source.report.reasons),
            "set_aside_first": dict(source.report.examples),
        },
        "config": asdict(config),
        "machine": _machine(),
        "results": [_one(result) for result in results],
        "ceiling": None if survey.ceiling is None else _one(survey.ceiling),
        "difference": None,
    }
    if "taco" in by_kind and "stock" in by_kind:
        mean, error = difference(by_kind["taco"], by_kind["stock"])
        content["difference"] = {"window_auc_mean": mean, "standard_error": error}
    return _finite(content)


def _one(result: Result) -> dict[str, Any]:
    return {
        "kind": result.kind,
        "auc": result.metrics.auc,
        "auc_second_half": result.second_half.auc,
        "log_loss": result.metrics.log_loss,
        "log_loss_second_half": result.second_half.log_loss,
        "samples": result.metrics.samples,
        "samples_per_second": result.speed,
        "rows": result.memory.rows,
        "bytes": result.memory.bytes,
        "table": result.memory.stats,
        "windows": {"end": result.ends, "auc": result.aucs, "log_loss": result.losses},
    }


def _machine() -> dict[str, Any]:
    versions = {
        name: getattr(sys.modules.get(name), "__version__", None)
        for name in ("tensorflow", "keras", "numpy", "taco")
    }
    return {"cpus": os.cpu_count(), "python": platform.python_version(), **versions}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
