"""Watches whether what TopK leaves out harms the training, and says what to do about it.

Three signs, all of them the same on every rank or close to it:
  * the residual's norm against that of the gradients of late: what waits must not outweigh them;
  * the angle between what was sent and the dense gradients, summed over some steps, on a sample;
  * jumps of the loss, where the program tells it (`hvd.observe_loss`).
On a breach the ratio is doubled, up to four times; a breach after that makes the bucket dense.

What is normal depends on the ratio r. In balance a step sends as much energy as comes, and what
it sends holds at least the part r of all: so the residual is below sqrt(1 / r) gradients. It is
more when gradients have become small and larger ones of the past are still to be sent. Of T steps'
gradients a part T r of the elements is sent, for which the cosine is about sqrt(T r) if gradients
are noise of one size (0.12 for r = 0.001 and T = 10, 0.35 for r = 0.01), and more otherwise.
"""

import math
from dataclasses import dataclass

RAISES = 4

PROBE_STEPS = 10
"""Executions that a probe sums up."""

_CALM = 500  # executions without a breach until the ratio comes down by half again
_PATIENCE = 20  # executions after an action before the next
_RESIDUAL = 6.0
_COSINE = 0.4
_SPIKE = 3.0
_MEMORY = 0.05  # of gradients
_LOSS_MEMORY = 0.05


@dataclass(frozen=True)
class Limits:
    """When to act.

    Attributes:
        residual: largest ratio of the norms of residual and gradient, in units of sqrt(1 / ratio).
        cosine: least cosine between what was sent and what there was, in units of
            sqrt(PROBE_STEPS * ratio).
        spike: a loss this many times the running mean (and twice as many deviations) above it is a
            jump.
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
        self._held = 0.0  # norm of the residual
        self._came: float | None = None  # mean square of the gradients' norms
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
            gradient_norm: of what there was to send: the gradient and what had stayed before.
            residual_norm: of what stayed.
            cosine: as in `Executed`, at the end of a probe; None at other times.

        Returns:
            What was done and why, for the log; empty for nothing.
        """
        self._since += 1
        finite = math.isfinite(gradient_norm) and math.isfinite(residual_norm)
        if finite:
            self._take(gradient_norm, residual_norm)
        if self._since < _PATIENCE or self.dense or not finite:
            return ""
        gradient = math.sqrt(self._came or 0.0)
        # In 1 / ratio executions all is sent that waits: half of that is time to come down in.
        waited = self._since >= 0.5 / ratio
        if waited and residual_norm > self._limits.residual * math.sqrt(1.0 / ratio) * gradient:
            times = residual_norm / max(gradient, 1e-30)
            return self._breach(f"the residual is {times:.3g} times the gradients of late")
        limit = self._limits.cosine * math.sqrt(min(1.0, PROBE_STEPS * ratio))
        if cosine is not None and cosine < limit:
            return self._breach(
                f"what is sent points elsewhere than the gradients: cosine {cosine:.2f}"
            )
        if self.raises and self._since >= _CALM:
            self._since = 0
            self.raises -= 1
            self.why = self.why if self.raises else ""
            return f"ratio halved again: no breach for {_CALM} steps"
        return ""

    def breach(self, why: str) -> str:
        """Acts on a sign from outside, such as a jump of the loss. Returns as `observe`."""
        return "" if self.dense or self._since < _PATIENCE else self._breach(why)

    def _take(self, gradient_norm: float, residual_norm: float) -> None:
        # The gradient by itself: what is independent of the residual adds to its square. What is
        # alike adds more, and then the residual counts for less.
        came = max(gradient_norm * gradient_norm - self._held * self._held, 0.0)
        self._came = came if self._came is None else self._came + _MEMORY * (came - self._came)
        self._held = residual_norm

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
        limit = max(self._limits.spike * abs(mean), 2 * self._limits.spike * spread)
        jump = loss - mean
        jumped = self._count > _PATIENCE and jump > limit
        taken = limit if jumped else jump  # one huge loss must not hide those after it
        memory = max(_LOSS_MEMORY, 1.0 / self._count)
        self._mean = mean + memory * taken
        self._spread = spread + memory * (abs(taken) - spread)
        return f"the loss jumped from {mean:.4g} to {loss:.4g}" if jumped else ""
