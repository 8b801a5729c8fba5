"""Watches whether what TopK leaves out harms the training, and says what to do about it.

Three signs, all of them the same on every rank or close to it:
  * the residual's norm against the gradient's: what waits must not pile up;
  * the angle between what was sent and the dense gradients, summed over some steps, on a sample;
  * jumps of the loss, where the program tells it (`hvd.observe_loss`).
On a breach the ratio is doubled, up to four times; a breach after that makes the bucket dense.
"""

import math
from dataclasses import dataclass

RAISES = 4
_CALM = 500  # executions without a breach until the ratio comes down by half again
_PATIENCE = 20  # executions after an action before the next
_RESIDUAL = 6.0  # times sqrt(1 / ratio)
_COSINE = 0.3
_SPIKE = 3.0
_LOSS_MEMORY = 0.05


@dataclass(frozen=True)
class Limits:
    """When to act.

    Attributes:
        residual: largest ratio of the norms of residual and gradient, in units of sqrt(1 / ratio):
            independent gradients give about 1, as an element waits about 1 / ratio steps.
        cosine: least cosine between what was sent and what there was.
        spike: a loss this many times the running mean (and so many deviations above it) is a jump.
    """

    residual: float = _RESIDUAL
    cosine: float = _COSINE
    spike: float = _SPIKE


class Guard:
    """One bucket's.

    Args:
        limits: when to act.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._since = 0  # executions since the last action
        self.raises = 0
        self.dense = False
        self.why = ""

    @property
    def factor(self) -> float:
        """What the ratio is multiplied with."""
        return 2.0**self.raises

    def observe(
        self, ratio: float, gradient_norm: float, residual_norm: float, cosine: float | None
    ) -> str:
        """Takes what one execution saw.

        Args:
            ratio: part of the elements sent.
            gradient_norm: of what there was to send.
            residual_norm: of what stayed.
            cosine: as in `Executed`, at the end of a probe; None at other times.

        Returns:
            What was done and why, for the log; empty for nothing.
        """
        self._since += 1
        if self._since < _PATIENCE or self.dense:
            return ""
        limit = self._limits.residual * math.sqrt(1.0 / ratio)
        arrived = math.sqrt(max(gradient_norm**2 - residual_norm**2, 0.0))
        # In balance as much is sent in a step as comes: the norm of what is sent stands for that
        # of the gradient.
        if not math.isfinite(residual_norm) or not math.isfinite(gradient_norm):
            return ""
        if residual_norm > limit * max(arrived, 1e-30):
            times = residual_norm / max(arrived, 1e-30)
            return self._breach(f"the residual is {times:.0f} times what a step sends")
        if cosine is not None and cosine < self._limits.cosine:
            return self._breach(f"what is sent points elsewhere than the gradients: {cosine:.2f}")
        if self.raises and self._since >= _CALM:
            self._since = 0
            self.raises -= 1
            return f"ratio halved again: no breach for {_CALM} steps"
        return ""

    def breach(self, why: str) -> str:
        """Acts on a sign from outside, such as a jump of the loss. Returns as `observe`."""
        return "" if self.dense or self._since < _PATIENCE else self._breach(why)

    def _breach(self, why: str) -> str:
        self._since = 0
        self.why = why
        if self.raises >= RAISES:
            self.dense = True
            return f"dense from now on: {why}"
        self.raises += 1
        return f"ratio doubled: {why}"


class LossWatch:
    """Notices jumps of the loss."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._mean: float | None = None
        self._spread = 0.0
        self._count = 0

    def observe(self, loss: float) -> str:
        """Takes a step's loss. Returns what is wrong with it; empty for nothing."""
        self._count += 1
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        mean, spread = self._mean, self._spread
        if mean is None:
            self._mean = loss
            return ""
        memory = max(_LOSS_MEMORY, 1.0 / self._count)
        self._mean = mean + memory * (loss - mean)
        self._spread = spread + memory * (abs(loss - mean) - spread)
        jump = loss - mean
        limit = self._limits.spike
        if self._count > _PATIENCE and jump > limit * abs(mean) and jump > 2 * limit * spread:
            return f"the loss jumped from {mean:.4g} to {loss:.4g}"
        return ""
