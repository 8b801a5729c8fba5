"""What TopK has not sent yet, and what belongs to it: the state of one bucket on one rank.

The sum over the ranks of all residuals is what the parameters still have to get. A residual is as
long as its bucket; in two levels only this rank's shard of it is not zero, and holds the shard's
share of the whole machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

THRESHOLD_FIELDS = 8
"""Elements of the state of `torch.ops.taco.topk_compress` (docs/lightcc_ops.md)."""


@dataclass
class BucketState:
    """One bucket's.

    Attributes:
        momentum: above 0: momentum is applied here, before the selection (Deep Gradient
            Compression, arXiv 1712.01887), and must not be applied by the optimizer.
        residual: (n,) float32; None as long as nothing was held back.
        velocity: (n,) float32, with momentum.
        thresholds: by first element of a shard's chunk: TopK's state.
        family: the mode in which these came about, as text.
        half_scale: power of two that the values are multiplied with before they travel as float16.
        scale: what the gradients, and so what is held back, were multiplied with.
        recut: whether rank 0 wants buckets cut anew.
        probe: sums over a sample of the elements, of what was sent and of the dense result.
        sparse: whether TopK carried the bucket the last time.
        mean: momentum is a mean of gradients, as Adam's first moment, and no sum of them as SGD's;
            what travels dense has none, as there the optimizer applies it.
    """

    momentum: float = 0.0
    residual: torch.Tensor | None = None
    velocity: torch.Tensor | None = None
    thresholds: dict[int, torch.Tensor] = field(default_factory=dict)
    family: str = ""
    half_scale: float = 1.0
    scale: float = 1.0
    recut: bool = False
    probe: tuple[torch.Tensor, torch.Tensor] | None = None
    sparse: bool = False
    mean: bool = False

    def threshold(self, low: int, device: torch.device | None = None) -> torch.Tensor:
        """TopK's state for the chunk that begins at `low`."""
        state = self.thresholds.get(low)
        if state is None:
            state = self.thresholds[low] = torch.zeros(
                THRESHOLD_FIELDS, dtype=torch.float64, device=device
            )
        return state

    def prepare(self, elements: int, device: torch.device | None = None) -> None:
        """Makes what is not there yet, for a bucket of so many elements; moves it where it is."""
        for kind in ("residual", "velocity"):
            there = getattr(self, kind)
            if there is not None and device is not None and there.device != device:
                setattr(self, kind, there.to(device))
                self.thresholds.clear()
        if self.residual is None or self.residual.numel() != elements:
            self.residual = torch.zeros(elements, device=device)
            self.thresholds.clear()
        if self.momentum and (self.velocity is None or self.velocity.numel() != elements):
            self.velocity = torch.zeros(elements, device=device)

    @property
    def gain(self) -> float:
        """What a gradient is multiplied with before it is added to the velocity."""
        return 1.0 - self.momentum if self.mean else 1.0

    def accelerate(self, tensor: torch.Tensor) -> None:
        """Does what momentum does to gradients that travel dense, (n,), in place."""
        if not self.momentum:
            return
        if not self.mean:
            self.prepare(tensor.numel(), tensor.device)
            assert self.velocity is not None
            self.velocity.mul_(self.momentum).add_(tensor)
            tensor.copy_(self.velocity)
        elif self.velocity is not None:
            # What it would have given in all steps to come goes with the residual.
            self.prepare(tensor.numel(), tensor.device)
            assert self.residual is not None
            self.residual.add_(self.velocity, alpha=self.momentum / (1.0 - self.momentum))
            self.velocity = None

    def rescale(self, scale: float) -> None:
        """Brings what is held back to the scale of the gradients to come."""
        if scale == self.scale:
            return
        for kept in (self.residual, self.velocity):
            if kept is not None:
                kept.mul_(scale / self.scale)
        self.scale = scale
        self.half_scale = 1.0
        self.probe = None
        self.thresholds.clear()

    @property
    def empty(self) -> bool:
        """Whether there is nothing that a checkpoint would miss."""
        return self.residual is None and self.velocity is None

    def norms(self) -> tuple[float, float]:
        """Of the last selection: norms of what there was to send, and of what stayed."""
        if not self.thresholds:
            return 0.0, 0.0
        states = list(self.thresholds.values())
        before = sum(float(state[6]) for state in states)
        after = sum(float(state[7]) for state in states)
        return before**0.5, after**0.5


Parts = dict[str, dict[str, torch.Tensor]]
"""By parameter: "residual" and perhaps "velocity", in the parameter's shape."""


def split(state: BucketState, shapes: Sequence[tuple[str, torch.Size]]) -> Parts:
    """A bucket's state by parameter, of gradients as they are; views where those are not scaled.

    Args:
        state: of the bucket.
        shapes: names and shapes of its parameters, in order.
    """
    parts: Parts = {}
    for kind in ("residual", "velocity"):
        whole = getattr(state, kind)
        if whole is None:
            continue
        if state.scale != 1.0:
            whole = whole / state.scale
        pieces = whole.split([shape.numel() for _, shape in shapes])
        for (name, shape), piece in zip(shapes, pieces, strict=True):
            parts.setdefault(name, {})[kind] = piece.view(shape)
    return parts


def join(
    parts: Mapping[str, Mapping[str, torch.Tensor]],
    shapes: Sequence[tuple[str, torch.Size]],
    momentum: float = 0.0,
    mean: bool = False,
) -> BucketState:
    """The reverse of `split`, for buckets that may be cut in another way. What is missing is zero.

    Raises:
        ValueError: a part has another number of elements than its parameter.
    """
    state = BucketState(momentum, mean=mean)
    for kind in ("residual", "velocity"):
        if not any(kind in parts.get(name, {}) for name, _ in shapes):
            continue
        pieces = []
        for name, shape in shapes:
            piece = parts.get(name, {}).get(kind)
            if piece is not None and piece.numel() != shape.numel():
                raise ValueError(
                    f"the {kind} of {name} has {piece.numel()} elements, the parameter "
                    f"{shape.numel()}: it belongs to another model"
                )
            if piece is None:
                piece = torch.zeros(shape)
            pieces.append(piece.detach().to("cpu", torch.float32).reshape(-1))
        setattr(state, kind, torch.cat(pieces))
    return state
