"""AUC over time as a PNG."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taco.demo.embedding import LAYERS
from taco.demo.runner import Result

_COLOURS = {"taco": "#d1495b", "stock": "#30638e", "exact": "#8d99ae"}
_POINTS = 60  # a curve; windows between are averaged


def save_plot(path: Path, title: str, results: list[Result], ceiling: Result | None) -> None:
    """Draws the AUC of every program over the log, and the difference below it.

    Args:
        path: PNG to write.
        title: What the log is.
        results: Over the same windows.
        ceiling: AUC of the true chances; drawn dashed where known.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    by_kind = {result.kind: result for result in results}
    both = "taco" in by_kind and "stock" in by_kind
    figure, axes = plt.subplots(
        2 if both else 1,
        1,
        figsize=(9, 6.5 if both else 4.5),
        sharex=True,
        squeeze=False,
        height_ratios=(2.2, 1) if both else (1,),
        layout="constrained",
    )
    top = axes[0][0]
    for result in results:
        top.plot(*_smooth(result, result.aucs), color=_COLOURS[result.kind], label=_label(result))
    if ceiling is not None:
        curve = _smooth(ceiling, ceiling.aucs)
        label = f"ceiling: the true chances (AUC {ceiling.metrics.auc:.4f})"
        top.plot(*curve, color="#444444", linestyle="--", linewidth=1, label=label)
    top.set_ylabel("AUC of each window before it is trained on")
    top.set_title(f"DeepFM, test-then-train: {title}")
    top.legend(loc="best")
    if both:
        gap = np.array(by_kind["taco"].aucs) - np.array(by_kind["stock"].aucs)
        bottom = axes[1][0]
        bottom.axhline(0.0, color="#444444", linewidth=1)
        bottom.plot(*_smooth(by_kind["taco"], gap), color=_COLOURS["taco"])
        bottom.set_ylabel("TACO minus hashed")
    axes[-1][0].set_xlabel("examples seen (thousands)")
    for axis in axes[:, 0]:
        axis.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _label(result: Result) -> str:
    return f"{LAYERS[result.kind]} (AUC {result.metrics.auc:.4f})"


def _smooth(
    result: Result, values: list[float] | NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Averages neighbouring whole windows to at most `_POINTS` points; leaves out NaN."""
    x = np.array(result.ends[: result.whole]) / 1000.0
    y = np.array(values, np.float64)[: result.whole]
    keep = np.isfinite(y)
    x, y = x[keep], y[keep]
    groups = [part for part in np.array_split(np.arange(len(y)), _POINTS) if len(part)]
    return (
        np.array([x[part].mean() for part in groups]),
        np.array([y[part].mean() for part in groups]),
    )
