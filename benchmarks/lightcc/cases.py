"""What is measured: a model, on machines of so many ranks, over links of a rate."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from benchmarks.lightcc.models import MODELS

# Measured: what a process has before its model, and what it holds of the model's size at most
# (parameters, gradients, fused gradients, residuals, Horovod's fusion buffer).
_PROCESS_BYTES = 250 << 20
_COPIES = 5
_LARGEST = {"resnet50": 25_557_032, "transformer": 46_480_384, "characters": 4_804_704}


@dataclasses.dataclass(frozen=True)
class Case:
    """One setting in which all contestants run.

    Attributes:
        model: one of MODELS.
        machines: network namespaces.
        per_machine: ranks in each.
        mbits: rate of a machine's link in each direction; 0: no limit.
        scale: of the model's size, 1 for the real one.
    """

    model: str
    machines: int
    per_machine: int
    mbits: int
    scale: float = 1.0

    @property
    def size(self) -> int:
        """Ranks."""
        return self.machines * self.per_machine

    @property
    def name(self) -> str:
        """For example `resnet50/2x2/1G`."""
        rate = f"{self.mbits / 1000:g}G" if self.mbits else "no limit"
        return f"{self.model}/{self.machines}x{self.per_machine}/{rate}"

    @property
    def footprint(self) -> int:
        """Bytes that the processes of one contestant need, roughly."""
        model = int(4 * _LARGEST[self.model] * self.scale)
        return self.size * (_PROCESS_BYTES + _COPIES * model)

    def floor_seconds(self, sent: float) -> float | None:
        """What the link alone needs for bytes; None where it has no limit."""
        return 8 * sent / (self.mbits * 1e6) if self.mbits else None

    def to_json(self) -> dict[str, Any]:
        """The fields, and the name."""
        return {"name": self.name, **dataclasses.asdict(self)}

    @staticmethod
    def from_json(fields: dict[str, Any]) -> Case:
        """The reverse."""
        return Case(**{key: value for key, value in fields.items() if key != "name"})


# What is measured unless other cases are asked for: models, layouts, rates.
_PLAN = (
    (("resnet50",), ("2x1", "2x2"), (1000, 10_000, 0)),
    (("transformer",), ("2x1",), (1000, 10_000)),
    (("characters",), ("2x2",), (1000, 0)),
)


def plan(scale: float) -> list[Case]:
    """The cases of the page: over an hour on two cores."""
    return [case for part in _PLAN for case in matrix(*part, scale)]


def matrix(
    models: Sequence[str], layouts: Sequence[str], mbits: Sequence[int], scale: float
) -> list[Case]:
    """All combinations.

    Args:
        models: of MODELS.
        layouts: machines x ranks in each, such as `2x1`.
        mbits: rates; 0 for no limit.
        scale: of the models.

    Raises:
        ValueError: there is no such model, or a layout is none.
    """
    for model in models:
        if model not in MODELS:
            raise ValueError(f"no model {model!r}; there are {', '.join(MODELS)}")
    places = []
    for layout in layouts:
        machines, _, per_machine = layout.partition("x")
        if not machines.isdigit() or not per_machine.isdigit() or "0" in (machines, per_machine):
            raise ValueError(f"layout {layout!r} must be machines x ranks in each, such as 2x1")
        places.append((int(machines), int(per_machine)))
    return [
        Case(model, *place, rate, scale)
        for model, place, rate in itertools.product(models, places, mbits)
    ]
