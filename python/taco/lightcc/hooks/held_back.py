"""What the hook has not sent yet, by parameter: DDP cuts its buckets anew after the first step.

Parameters have no names here. They are numbered in the order in which the hook sees them for the
first time: that of DDP's first buckets, which follows from the model and `bucket_cap_mb` alone.
"""

import dataclasses
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

from taco.lightcc.adaptive.residuals import BucketState, join

_VERSION = 1


class Bucket:
    """Parameters that travel together.

    Attributes:
        state: what is held back of them.
        bounds: (parameters + 1,) where each begins in the bucket, and the end.
        steps: how often they have been reduced.
    """

    def __init__(self, params: Sequence[torch.Tensor], state: BucketState, steps: int) -> None:
        self._params = [weakref.ref(param) for param in params]
        self.bounds = [0]
        for param in params:
            self.bounds.append(self.bounds[-1] + param.numel())
        self.state = state
        self.steps = steps

    def holds(self, params: Sequence[torch.Tensor]) -> bool:
        """Whether it is made of these, in this order."""
        return len(params) == len(self._params) and all(
            mine() is other for mine, other in zip(self._params, params, strict=True)
        )

    def residual_of(self, param: torch.Tensor) -> torch.Tensor | None:
        """(elements,) a view; None if nothing is held back."""
        if self.state.residual is None:
            return None
        place = next(at for at, mine in enumerate(self._params) if mine() is param)
        return self.state.residual[self.bounds[place] : self.bounds[place + 1]]


@dataclasses.dataclass
class _Entry:
    """One parameter. `steps` and `residual` are for as long as it has no bucket."""

    number: int
    elements: int
    bucket: Bucket | None = None
    steps: int = 0
    residual: torch.Tensor | None = None


class HeldBack:
    """All buckets of one state. It does not keep the parameters alive."""

    def __init__(self) -> None:
        self._entries: Any = WeakIdKeyDictionary()  # by parameter
        self._numbered = 0
        self._unclaimed: dict[int, Mapping[str, Any]] = {}  # what was loaded for later parameters
        self._loaded: Mapping[str, Any] | None = None

    def bucket(self, params: Sequence[torch.Tensor], settle: Callable[[], None]) -> Bucket:
        """The bucket of these parameters; if it is new, made of what is known of each.

        Args:
            params: in the bucket's order.
            settle: called before other buckets are cut up for it: waits until nobody uses them.

        Raises:
            ValueError: what was loaded belongs to other parameters.
        """
        first = self._entries.get(params[0])
        if first is not None and first.bucket is not None and first.bucket.holds(params):
            found: Bucket = first.bucket
            return found
        entries = [self._entry(param) for param in params]
        if any(entry.bucket is not None for entry in entries):
            settle()
        parts, shapes = {}, []
        for param, entry in zip(params, entries, strict=True):
            if entry.bucket is not None:
                entry.steps = entry.bucket.steps
                entry.residual = entry.bucket.residual_of(param)
            if entry.residual is not None:
                parts[str(entry.number)] = {"residual": entry.residual}
            shapes.append((str(entry.number), torch.Size([entry.elements])))
        new = Bucket(params, join(parts, shapes), max(entry.steps for entry in entries))
        for entry in entries:
            entry.bucket, entry.residual = new, None
        return new

    def record(self, rank: int, size: int) -> dict[str, Any]:
        """For a checkpoint of this rank; copies."""
        if self._loaded is not None:
            return dict(self._loaded)
        saved = []
        for param, entry in self._in_order():
            steps, residual = entry.steps, entry.residual
            if entry.bucket is not None:
                steps, residual = entry.bucket.steps, entry.bucket.residual_of(param)
            kept = None if residual is None else residual.to("cpu", copy=True)
            saved.append({"elements": entry.elements, "steps": steps, "residual": kept})
        saved += [dict(each) for _, each in sorted(self._unclaimed.items())]
        return {"version": _VERSION, "rank": rank, "size": size, "parameters": saved}

    def load(self, record: Mapping[str, Any]) -> None:
        """Takes a record in place of what is there, when `adopt` is called.

        Raises:
            ValueError: it is no record.
        """
        try:
            fits = record["version"] == _VERSION and record["size"] > 0 and record["rank"] >= 0
            fits = fits and all(each["elements"] >= 0 for each in record["parameters"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is not as TopKState.state_dict() gives it: {error!r}") from None
        if not fits:
            raise ValueError("this was not made by TopKState.state_dict() of this version of TACO")
        self._loaded = record

    def adopt(self, rank: int, size: int) -> None:
        """Makes what was loaded this rank's.

        Of another rank's record it takes the steps alone: ranks that all load rank 0's would send
        what it holds several times. What is held back is averaged when it travels, so that it is
        scaled in a world of another size.

        Raises:
            ValueError: it belongs to other parameters.
        """
        if self._loaded is None:
            return
        record, self._loaded = self._loaded, None
        factor = size / record["size"] if record["rank"] == rank else 0.0
        self._unclaimed = {}
        for number, each in enumerate(record["parameters"]):
            residual = each["residual"]
            kept = residual * factor if residual is not None and factor else None
            self._unclaimed[number] = {**each, "residual": kept}
        there, self._numbered = self._in_order(), 0
        self._entries = WeakIdKeyDictionary()
        for param, _ in there:
            self._entry(param)

    def _in_order(self) -> list[tuple[torch.Tensor, _Entry]]:
        return sorted(self._entries.items(), key=lambda item: item[1].number)

    def _entry(self, param: torch.Tensor) -> _Entry:
        entry = self._entries.get(param)
        if entry is None:
            entry = _Entry(self._numbered, param.numel())
            saved = self._unclaimed.pop(entry.number, None)
            if saved is not None:
                if saved["elements"] != entry.elements:
                    raise ValueError(
                        "The TopK state that was loaded belongs to another model, or bucket_cap_mb "
                        f"differs: its parameter {entry.number} has {saved['elements']} elements, "
                        f"that of this DDP {entry.elements}."
                    )
                entry.steps, entry.residual = saved["steps"], saved["residual"]
            self._entries[param] = entry
            self._numbered += 1
        found: _Entry = entry
        return found
