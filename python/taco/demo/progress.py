"""What is seen while a program trains: a live line on a terminal, plain lines elsewhere."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from taco.demo import runner
from taco.demo.embedding import TITLES

_PLAIN_LINES = 10  # a program, where there is no terminal


class Reporter:
    """Shows progress and notes on a console, or nothing at all.

    Args:
        console: Where to; `None` keeps silent.
    """

    def __init__(self, console: Console | None) -> None:
        self._console = console

    def note(self, text: str) -> None:
        """Prints one line as it is, unwrapped."""
        if self._console is not None:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def training(self, kind: str, total: int) -> Iterator[runner.Progress]:
        """Yields the callback to hand to `runner.run` for one program of `total` samples."""
        if self._console is None:
            yield lambda result: None
        elif self._console.is_terminal:
            with self._bar(TITLES[kind], total) as update:
                yield update
        else:
            yield self._lines(TITLES[kind], total)

    @contextmanager
    def _bar(self, title: str, total: int) -> Iterator[runner.Progress]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as bars:
            task = bars.add_task(title, total=total, facts="tracing")

            def update(result: runner.Result) -> None:
                bars.update(task, completed=result.metrics.samples, facts=_facts(result))

            yield update

    def _lines(self, title: str, total: int) -> runner.Progress:
        step = max(total // _PLAIN_LINES, 1)
        shown = 0

        def update(result: runner.Result) -> None:
            nonlocal shown
            done = result.metrics.samples
            if done // step > shown or done == total:
                shown = done // step
                self.note(f"{title}: {done:,} of {total:,} samples, {_facts(result)}")

        return update


def _facts(result: runner.Result) -> str:
    speed = f"{result.speed:,.0f} samples/s, " if result.speed else ""
    auc = result.metrics.auc
    return f"{speed}AUC {auc:.4f}" if math.isfinite(auc) else f"{speed}one label so far"
