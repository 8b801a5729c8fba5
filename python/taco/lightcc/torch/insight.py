"""What LightCC does and why; and what a program may tell it."""

import json
import os
from typing import Any

from taco.lightcc.adaptive.explanation import Explanation
from taco.lightcc.torch import _state


def explain() -> Explanation:
    """Per bucket of gradients: the mode, predicted and measured time, bytes at each level, and why.

    Rank 0 decides, and knows all of it; other ranks know their own times and bytes.
    `print(hvd.explain())` gives a table, `to_dict()` what JSON takes.

    Raises:
        ValueError: before `init`.
    """
    return _state.adaptive().explain()


def observe_loss(loss: Any) -> None:
    """Tells the guard the step's loss: if it jumps while TopK is in use, more is sent.

    Args:
        loss: a number, or a tensor of one element.

    Raises:
        ValueError: before `init`.
    """
    _state.adaptive().loss(float(loss))


def write_report(path: str) -> None:
    """Writes `explain()` as JSON, at once: a killed process leaves the old file or the new.

    Raises:
        OSError: the file cannot be written.
    """
    unfinished = f"{path}.{os.getpid()}.tmp"
    with open(unfinished, "w", encoding="utf-8") as file:
        json.dump(explain().to_dict(), file, indent=1)
        file.write("\n")
    os.replace(unfinished, path)
