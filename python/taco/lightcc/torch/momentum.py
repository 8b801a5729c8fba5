"""Momentum, where TopK delays gradients: the optimizer's own would delay them once more.

What TopK sends of an element is the sum of many steps' gradients. SGD's momentum applies such a sum
ten times over, long after it was due; Adam's first moment spreads it over ten more steps, in which
the same is sent again. Deep Gradient Compression (arXiv 1712.01887) applies momentum on each rank
before the selection, and clears it where an element was sent: "momentum correction". For SGD that
is exact as long as all is sent. Adam scales each element by itself, so what has to be right is the
direction: momentum is its own mean of gradients, and the step is Adam's with a first beta of 0.
"""

import logging
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from taco.lightcc._settings import Settings
from taco.lightcc.torch.compression import TopKCompression

_log = logging.getLogger("taco.lightcc")
_MOMENT = "exp_avg"


@dataclass
class Correction:
    """What is done about one optimizer's momentum.

    Attributes:
        local: above 0: momentum that each rank applies before TopK selects.
        adam: whether the optimizer is Adam or AdamW, and is to leave its first moment out where
            TopK carried the gradients.
        sparse: parameters of which that was so at the last step.
    """

    local: float = 0.0
    adam: bool = False
    sparse: Set[torch.nn.Parameter] = field(default_factory=frozenset)

    @contextmanager
    def step(self, optimizer: Any, sparse: Set[torch.nn.Parameter]) -> Iterator[None]:
        """For a step of the optimizer.

        Args:
            optimizer: the one that `correction_of` was asked about.
            sparse: parameters whose gradients TopK carried; the same on every rank.
        """
        if not self.adam:
            with _without_momentum(optimizer) if self.local else _as_it_is():
                yield
            return
        for param in self.sparse - sparse:  # its last gradient, which was applied in full
            if _MOMENT in (state := optimizer.state.get(param, {})):
                state[_MOMENT].zero_()
        self.sparse = frozenset(sparse)
        with _without_first_moment(optimizer, sparse) if sparse else _as_it_is():
            yield

    def settle(self, optimizer: Any, state_dict: dict[str, Any]) -> None:
        """Leaves out of a state_dict what `step` would, so that any rank may go on from it."""
        params = [param for group in optimizer.param_groups for param in group["params"]]
        states = state_dict["state"]
        for number, param in enumerate(params):
            if param in self.sparse and _MOMENT in states.get(number, {}):
                moment = torch.zeros_like(states[number][_MOMENT])
                states[number] = {**states[number], _MOMENT: moment}


def correction_of(
    optimizer: torch.optim.Optimizer, compression: Any, settings: Settings
) -> Correction:
    """What an optimizer needs.

    Args:
        optimizer: any.
        compression: what `DistributedOptimizer` was given.
        settings: those in force.

    Raises:
        ValueError: momentum correction was asked for, and it is not made for this optimizer.
    """
    given = isinstance(compression, TopKCompression)
    if not (given or settings.light_topk_allreduce or settings.light_mode == "auto"):
        return Correction()
    asked = given and compression.momentum_correction
    wanted = settings.taco_topk_momentum
    found, why = _local(optimizer)
    if asked or (wanted == "local" and found is not None):
        if found is None:
            raise ValueError(f"momentum_correction {why}")
        return found
    if wanted == "local":
        _log.warning("TACO_TOPK_MOMENTUM=local is left aside: it %s", why)
    if wanted == "keep" or not _is_adam(optimizer):
        return Correction()
    _log.info(
        "Adam's first moment is left out where TopK carries gradients: it would delay them once "
        "more (TACO_TOPK_MOMENTUM=keep leaves it)"
    )
    return Correction(adam=True)


def _is_adam(optimizer: torch.optim.Optimizer) -> bool:
    """Whether it is Adam or AdamW with betas that are numbers."""
    return isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)) and all(
        not isinstance(group["betas"][0], torch.Tensor) for group in optimizer.param_groups
    )


def _local(optimizer: torch.optim.Optimizer) -> tuple[Correction | None, str]:
    """Momentum before the selection; None and the reason where that cannot be."""
    groups = optimizer.param_groups
    if _is_adam(optimizer):
        betas = {float(group["betas"][0]) for group in groups}
        if len(betas) == 1 and betas != {0.0}:
            return Correction(betas.pop(), adam=True), ""
        return None, "needs one first beta above 0 for all parameters of Adam or AdamW."
    found = {float(group.get("momentum", 0.0)) for group in groups}
    plain = not any(group.get("nesterov") or group.get("dampening") for group in groups)
    if isinstance(optimizer, torch.optim.SGD) and len(found) == 1 and found != {0.0} and plain:
        return Correction(found.pop()), ""
    return None, (
        "needs torch.optim.Adam or AdamW, or torch.optim.SGD with one momentum above 0 for all "
        "parameters, dampening=0 and nesterov=False."
    )


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


@contextmanager
def _without_momentum(optimizer: Any) -> Iterator[None]:
    """For SGD's step of gradients that have it already.

    Weight decay used to pass through momentum too, which multiplies it by 1 / (1 - momentum) in the
    long run: so does this.
    """
    kept = [(group["momentum"], group["weight_decay"]) for group in optimizer.param_groups]
    try:
        for group in optimizer.param_groups:
            group["weight_decay"] = group["weight_decay"] / (1.0 - group["momentum"])
            group["momentum"] = 0.0
        yield
    finally:
        for group, (momentum, decay) in zip(optimizer.param_groups, kept, strict=True):
            group["momentum"], group["weight_decay"] = momentum, decay


@contextmanager
def _without_first_moment(optimizer: Any, sparse: Set[torch.nn.Parameter]) -> Iterator[None]:
    """For Adam's step, of these parameters alone: groups are split for as long as it takes."""
    kept = optimizer.param_groups
    groups = []
    for group in kept:
        inside = [param for param in group["params"] if param in sparse]
        outside = [param for param in group["params"] if param not in sparse]
        if inside:
            groups.append({**group, "params": inside, "betas": (0.0, group["betas"][1])})
        if outside or not inside:
            groups.append({**group, "params": outside})
    optimizer.param_groups = groups
    try:
        yield
    finally:
        optimizer.param_groups = kept
