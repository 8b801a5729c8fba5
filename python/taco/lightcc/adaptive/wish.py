"""What a request asks for, as the text in its `mode`: the same on all ranks, or it is an error.

The empty text is any allreduce: only exact modes serve it. `gradient` is a bucket of gradients,
whose error is fed back. `gradient:topk=0.05+half` names a mode, and `;warmup=100` behind it, in how
many steps TopK comes down to its ratio.
"""

from dataclasses import dataclass

from taco.lightcc.adaptive.mode import Mode, parse

CALIBRATE = "calibrate"
"""The mode of the allreduce that measures; its tensor holds `Costs.numbers()` afterwards."""

RECUT = ";recut"
"""Behind the mode of a response: who executes it cuts its buckets anew after the next step."""

_WORD = "gradient"


@dataclass(frozen=True)
class Wish:
    """One.

    Attributes:
        gradient: whether TopK and float16 may be used at all.
        mode: that and no other, but for the guard; None leaves the choice.
        warmup: steps in which the mode's ratio comes down from 25%.
    """

    gradient: bool = False
    mode: Mode | None = None
    warmup: int = 0

    def __str__(self) -> str:
        if not self.gradient:
            return ""
        text = _WORD
        if self.mode is not None:
            text += f":{self.mode.title}"
        return f"{text};warmup={self.warmup}" if self.warmup else text


def understand(text: str) -> Wish:
    """The reverse of `str`.

    Raises:
        ValueError: it is no wish.
    """
    if not text:
        return Wish()
    text, _, tail = text.partition(";")
    word, colon, mode = text.partition(":")
    if word != _WORD or (tail and not tail.startswith("warmup=")):
        raise ValueError(f"{text!r} is no wish for a mode")
    return Wish(True, parse(mode) if colon else None, int(tail[7:]) if tail else 0)
