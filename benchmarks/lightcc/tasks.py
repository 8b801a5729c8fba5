"""What the accuracy benchmark learns: handwritten digits, and the next character of a text.

A task's data and its split are fixed. A seed decides on the first parameters and on the order of
the batches; the batch of a step is the same whatever the number of ranks, which share it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from benchmarks.lightcc import corpus
from benchmarks.lightcc.models import CharacterModel


@dataclasses.dataclass(frozen=True)
class Run:
    """One seed's training.

    Attributes:
        model: with its first parameters.
        optimizer: of its parameters.
        schedule: of the optimizer's rate, by steps.
        loss: step -> this rank's loss.
        score: what is reported, from the trained model.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Callable[[int], float]
    loss: Callable[[int], torch.Tensor]
    score: Callable[[], float]


@dataclasses.dataclass(frozen=True)
class Task:
    """Something to learn.

    Attributes:
        name: in results.
        metric: what the score is.
        higher_is_better: whether it is an accuracy, and not a loss.
        steps: of one seed's training.
        begin: (seed, rank, ranks, steps) -> its training.
    """

    name: str
    metric: str
    higher_is_better: bool
    steps: int
    begin: Callable[[int, int, int, int], Run]


_DIGITS_BATCH, _DIGITS_STEPS = 32, 500
_TEXT_BATCH, _TEXT_STEPS, _TEXT_SGD_STEPS, _CONTEXT = 16, 800, 2000, 32


def _digits(seed: int, rank: int, ranks: int, steps: int) -> Run:
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy(data.images).float().unsqueeze(1) / 16
    labels = torch.from_numpy(data.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    test, train = order[:450], order[450:]
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1024, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)

    def loss(step: int) -> torch.Tensor:
        chosen = torch.randint(len(train), (_DIGITS_BATCH,), generator=generator)
        mine = train[chosen[rank::ranks]]
        return nn.functional.cross_entropy(model(images[mine]), labels[mine])

    def score() -> float:
        with torch.no_grad():
            return float((model(images[test]).argmax(1) == labels[test]).float().mean())

    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return Run(model, optimizer, _schedule(steps), loss, score)


def _text_adam(seed: int, rank: int, ranks: int, steps: int) -> Run:
    return _text(seed, rank, ranks, steps, lambda them: torch.optim.Adam(them, lr=3e-3))


def _text_sgd(seed: int, rank: int, ranks: int, steps: int) -> Run:
    # Of the rates 0.03, 0.1, 0.3 and 1 dense learns most with 0.1 in 800 steps; with half of that
    # longer training is steady.
    return _text(
        seed, rank, ranks, steps, lambda them: torch.optim.SGD(them, lr=0.05, momentum=0.9)
    )


def _text(
    seed: int,
    rank: int,
    ranks: int,
    steps: int,
    optimizer_of: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
) -> Run:
    text = corpus.load(500_000)
    torch.manual_seed(seed)
    model = CharacterModel(2, 64, _CONTEXT, text.vocabulary)
    generator = torch.Generator().manual_seed(seed)

    def entropy(tokens: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(
            model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()
        )

    def loss(step: int) -> torch.Tensor:
        tokens = text.batch(text.training, _TEXT_BATCH, _CONTEXT + 1, generator)
        return entropy(tokens[rank::ranks])

    def score() -> float:
        fixed = torch.Generator().manual_seed(1)
        with torch.no_grad():
            tokens = text.batch(text.validation, 256, _CONTEXT + 1, fixed)
            return float(entropy(tokens)) / math.log(2)

    return Run(model, optimizer_of(model.parameters()), _schedule(steps), loss, score)


def _schedule(steps: int) -> Callable[[int], float]:
    """A rise over the first twentieth, then half a cosine down to zero."""
    rise = max(1, steps // 20)

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))

    return factor


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("digits", "test accuracy", True, _DIGITS_STEPS, _digits),
        Task("text", "bits a character", False, _TEXT_STEPS, _text_adam),
        Task("text_sgd", "bits a character", False, _TEXT_SGD_STEPS, _text_sgd),
    )
}
