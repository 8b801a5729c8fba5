"""A mode: how one allreduce is carried out. Rank 0 decides it; all ranks read it in the response.

As text: `2d+topk=0.01+half`. The empty text is the flat dense one.
"""

from dataclasses import dataclass

_LEVELS = {"flat": 1, "2d": 2, "3d": 3}


@dataclass(frozen=True)
class Mode:
    """One way.

    Attributes:
        levels: 1: flat; 2: in the machine, then across; 3: with racks between.
        ratio: part of the elements that TopK keeps; 0: all are sent (dense).
        half: values travel as float16.
        balanced: TopK's lists are reduced where they are due, not gathered by everybody.
        probe: TopK's result is compared with a sample of the dense one.
    """

    levels: int = 1
    ratio: float = 0.0
    half: bool = False
    balanced: bool = False
    probe: bool = False

    @property
    def lossless(self) -> bool:
        """Whether all bits of all values take part."""
        return not self.ratio and not self.half

    @property
    def family(self) -> "Mode":
        """The mode without what changes from step to step."""
        return Mode(self.levels, 1.0 if self.ratio else 0.0, self.half, self.balanced)

    def __str__(self) -> str:
        parts = [name for name, levels in _LEVELS.items() if levels == self.levels]
        if self.ratio:
            parts.append(f"topk={self.ratio:.6g}")
        parts += [name for name in ("half", "balanced", "probe") if getattr(self, name)]
        return "" if parts == ["flat"] else "+".join(parts)

    @property
    def title(self) -> str:
        """For people."""
        return str(self) or "flat"


DENSE = Mode()


def parse(text: str) -> Mode:
    """The reverse of `str`.

    Raises:
        ValueError: it is no mode.
    """
    levels, ratio, flags = 1, 0.0, set()
    for part in text.split("+") if text else ():
        if part in _LEVELS:
            levels = _LEVELS[part]
        elif part.startswith("topk="):
            ratio = float(part[5:])
            if not 0 < ratio <= 1:
                raise ValueError(f"mode {text!r}: the ratio must be above 0 and at most 1")
        elif part in ("half", "balanced", "probe"):
            flags.add(part)
        else:
            raise ValueError(
                f"mode {text!r}: {part!r} is none of flat, 2d, 3d, topk=RATIO, half, balanced"
            )
    return Mode(levels, ratio, "half" in flags, "balanced" in flags, "probe" in flags)
