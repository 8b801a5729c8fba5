"""Command line of the demo, and the order of events."""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from taco.demo import report
from taco.demo.embedding import KINDS, SLOTS, require, row_bytes
from taco.demo.errors import DemoError
from taco.demo.plot import save_plot
from taco.demo.progress import Reporter
from taco.demo.runner import Result, RunConfig, run
from taco.demo.sources import Source, open_source
from taco.demo.sources.detect import FORMATS
from taco.demo.survey import Survey, survey
from taco.demo.tensorflow_import import import_tensorflow, require_matplotlib

_DEFAULTS = RunConfig()
_LARGEST_DIM = 4095  # a row holds one number more, and 4096 at most
_LARGEST_RATE = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; see `taco.demo.main`."""
    args = _parser().parse_args(argv)
    console = None if args.json else Console()
    try:
        return _demo(args, console)
    except DemoError as error:
        print(f"taco demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("taco demo: interrupted, nothing written", file=sys.stderr)
        return 130


def _demo(args: argparse.Namespace, console: Console | None) -> int:
    config = _config(args)
    kinds = _kinds(args.kinds)
    reporter = Reporter(console)
    out = _folder(Path(args.out))
    require_matplotlib()
    source = open_source(args.data, args.format, rows=args.rows, seed=args.seed)
    found = survey(source, config)
    _check(source, config, found)
    _introduce(reporter, source, found)
    import_tensorflow()
    for kind in kinds:
        require(kind)
    results = _train(kinds, source, config, found, args.buckets, reporter)
    content = report.to_json(source, config, found, results)
    (out / "results.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    save_plot(out / "auc.png", source.name, results, found.ceiling)
    if console is None:
        print(json.dumps(content))
        return 0
    console.print(report.table(found, results))
    if content["difference"] is not None:
        mean, error = report.difference(*(r for k in KINDS[:2] for r in results if r.kind == k))
        reporter.note(
            f"AUC by window, TACO minus hashed: {mean:+.4f} +- {error:.4f}"
            if math.isfinite(error)
            else "AUC by window: fewer than two windows have both labels, nothing to compare"
        )
    reporter.note(f"{out / 'auc.png'}: AUC over time; {out / 'results.json'}: every number")
    return 0


def _train(
    kinds: list[str],
    source: Source,
    config: RunConfig,
    found: Survey,
    buckets: int | None,
    reporter: Reporter,
) -> list[Result]:
    """Runs the programs, TACO first: what its table ends with is what the buckets are given."""
    results: list[Result] = []
    budget = found.distinct * row_bytes(config.width, config.optimizer)
    for kind in kinds:
        rows = found.distinct
        if kind == "stock":
            rows = buckets or max(budget // row_bytes(config.width, config.optimizer), 1)
        with reporter.training(kind, found.samples) as progress:
            half = found.samples // 2
            result = run(kind, source, config, half=half, buckets=rows, progress=progress)
        if kind == "taco":
            budget = result.memory.bytes
        results.append(result)
    return results


def _introduce(reporter: Reporter, source: Source, found: Survey) -> None:
    reporter.note(
        f"{source.name}: {found.samples:,} examples in time order, {len(source.fields)} fields, "
        f"{found.distinct:,} distinct ids, {found.positives:.1%} positive"
    )
    for sentence in source.report.sentences():
        reporter.note(f"  set aside: {sentence}")


def _check(source: Source, config: RunConfig, found: Survey) -> None:
    """Raises DemoError for a log on which an AUC, or that of its second half, has no meaning."""
    if found.samples < 2 * config.window:
        raise DemoError(
            f"{source.name}: {found.samples:,} examples are fewer than two windows of "
            f"{config.window:,}, and the second half would be empty",
            f"give --rows of {2 * config.window} or more, or a smaller --window",
        )
    if found.positives in (0.0, 1.0):
        raise DemoError(
            f"{source.name}: all {found.samples:,} labels are {found.positives:.0f}, and an AUC "
            "needs both",
            "give another --data, or more --rows",
        )


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(f"{path}: {error.strerror or error}", "choose another --out") from error
    return path


def _kinds(text: str) -> list[str]:
    chosen = [kind.strip() for kind in text.split(",") if kind.strip()]
    unknown = [kind for kind in chosen if kind not in KINDS]
    if unknown or not chosen:
        raise DemoError(f"--kinds {text!r}: unknown", f"choose among {','.join(KINDS)}")
    return [kind for kind in KINDS if kind in chosen]


def _config(args: argparse.Namespace) -> RunConfig:
    if args.window < args.batch:
        raise DemoError(f"--window {args.window} is below --batch {args.batch}", "raise --window")
    if args.rows is not None and args.rows < 2 * args.window:
        raise DemoError(
            f"--rows {args.rows} is below two windows (--window {args.window})",
            f"give --rows of {2 * args.window} or more, or a smaller --window",
        )
    return RunConfig(
        dim=args.dim,
        batch=args.batch,
        window=args.window,
        epochs=args.epochs,
        learning_rate=args.learning_rate,
        optimizer=args.optimizer,
        rows=args.rows,
        seed=args.seed,
    )


def _integer(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """An argument's type: an integer within bounds."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is no integer from {least} to {most}")
        return value

    return parse


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value <= _LARGEST_RATE:
        raise argparse.ArgumentTypeError(f"{text} is no number above 0, up to {_LARGEST_RATE:g}")
    return value


def _parser() -> argparse.ArgumentParser:
    d = _DEFAULTS
    parser = argparse.ArgumentParser(
        prog="taco demo",
        description="Trains one DeepFM twice on a log in time order: keras.layers.Embedding over "
        "hashed buckets, and taco.tf.keras.Embedding, in the same memory.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", metavar="PATH", help="MovieLens folder or Criteo file; none: a generated stream")
    add("--format", choices=FORMATS, default="auto", help="of --data")
    add("--rows", type=_integer(1), help="examples at most; length of the generated stream")
    add("--epochs", type=_integer(1), default=d.epochs, help="trainings of each window once tested")
    add("--kinds", default="taco,stock", help=f"programs to run, of {','.join(KINDS)}")
    add("--dim", type=_integer(1, _LARGEST_DIM), default=d.dim, help="factors an id")
    add("--batch", type=_integer(1), default=d.batch, help="examples a training step")
    add("--window", type=_integer(1), default=d.window, help="examples tested before trained on")
    add("--optimizer", choices=sorted(SLOTS), default=d.optimizer, help="keras.optimizers")
    add("--learning-rate", type=_rate, default=d.learning_rate, help="constant")
    add("--buckets", type=_integer(1), help="of the stock program; none: TACO's memory decides")
    add("--seed", type=_integer(0), default=d.seed, help="of the generated stream and the weights")
    add("--out", default="taco_demo", help="folder for auc.png and results.json")
    add("--json", action="store_true", help="print the results as JSON and nothing else")
    return parser
