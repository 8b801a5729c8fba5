"""Test-then-train: every window of the log is predicted before the model learns from it.

This is progressive validation (Blum, Kalai and Langford, "Beating the hold-out", COLT 1999), the
way recommenders that learn online are judged: each prediction is made on examples not yet seen,
on ids that may never have been seen.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taco.demo.embedding import SLOTS, Memory, make_embedding, memory
from taco.demo.metrics import StreamMetrics, exact_auc, log_loss_sum
from taco.demo.model import DEFAULT_HIDDEN, build_deepfm, make_optimizer
from taco.demo.sources import Chunk, Source, windows


@dataclass(frozen=True)
class RunConfig:
    """What both programs share.

    Attributes:
        dim: Length of an id's factors; a row holds one number more, the first-order weight.
        batch: Examples a training step.
        window: Examples predicted at a time before they are trained on.
        epochs: Times each window is trained on after it was predicted.
        learning_rate, optimizer, hidden: Of the model.
        rows: Examples at most; `None` for the whole log.
        seed: Of the initial weights.
    """

    dim: int = 16
    batch: int = 512
    window: int = 4096
    epochs: int = 1
    learning_rate: float = 0.003
    optimizer: str = "adam"
    hidden: tuple[int, ...] = DEFAULT_HIDDEN
    rows: int | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        assert self.optimizer in SLOTS and 0 < self.batch <= self.window

    @property
    def width(self) -> int:
        """Numbers a row."""
        return 1 + self.dim


@dataclass
class Result:
    """What one program reached.

    Attributes:
        kind: See `embedding.KINDS`.
        metrics: Pooled over all predictions.
        second_half: Pooled over the windows after the middle.
        ends: Examples seen at the end of each window.
        aucs, losses: Exact AUC and mean log-loss of each window.
        seconds: Spent in predicting and training, reading left out. Of whole windows after the
            first: in the first, and in a shorter last one, TensorFlow traces.
        timed_samples: Examples `seconds` were spent on.
        memory: After the last window.
    """

    kind: str
    metrics: StreamMetrics = field(default_factory=StreamMetrics)
    second_half: StreamMetrics = field(default_factory=StreamMetrics)
    ends: list[int] = field(default_factory=list)
    aucs: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    timed_samples: int = 0
    memory: Memory = field(default_factory=lambda: Memory(0, 0))

    def add(self, labels: NDArray[np.float32], logits: NDArray[np.floating], half: int) -> None:
        """Adds one predicted window; after `half` examples it counts to the second half."""
        if self.metrics.samples >= half:
            self.second_half.update(labels, logits)
        self.metrics.update(labels, logits)
        self.ends.append(self.metrics.samples)
        self.aucs.append(exact_auc(labels, logits))
        self.losses.append(log_loss_sum(labels, logits) / len(labels))

    @property
    def whole(self) -> int:
        """Number of windows, a shorter last one left out: its AUC is noise beside the others."""
        sizes = np.diff([0, *self.ends])
        return len(sizes) - int(len(sizes) > 1 and sizes[-1] < sizes[0])

    @property
    def speed(self) -> float:
        """Samples a second, predicted and trained on; 0 where only one window was seen."""
        return self.timed_samples / self.seconds if self.seconds > 0 else 0.0


Progress = Callable[[Result], None]


def run(
    kind: str, source: Source, config: RunConfig, *, half: int, buckets: int, progress: Progress
) -> Result:
    """Trains one program on the whole log.

    Args:
        kind: One of `embedding.KINDS`.
        source: The log; read once, in bounded memory.
        config: Shared by all kinds.
        half: Where the second half of the log begins.
        buckets: Rows of a stock table; "taco" ignores it.
        progress: Called after each window.
    """
    import keras

    keras.utils.set_random_seed(config.seed)
    layer = make_embedding(kind, config.width, buckets=buckets)
    model = build_deepfm(layer, config.hidden)
    model.compile(
        optimizer=make_optimizer(config.optimizer, config.learning_rate),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
    )
    number_ids = _Numbering() if kind == "exact" else None
    result = Result(kind)
    for window in windows(source.chunks(), config.window, config.rows):
        if number_ids is not None:
            window = Chunk(number_ids(window.ids), window.labels)
        begin = time.perf_counter()
        logits = np.asarray(model.predict_on_batch(window.ids), np.float64)[:, 0]
        _train(model, window, config)
        if result.ends and len(window) == config.window:
            result.seconds += time.perf_counter() - begin
            result.timed_samples += len(window)
        result.add(window.labels, logits, half)
        progress(result)
    result.memory = memory(kind, layer, model.optimizer)
    return result


def _train(model: Any, window: Chunk, config: RunConfig) -> None:
    for _ in range(config.epochs):
        for start in range(0, len(window), config.batch):
            part = window.slice(start, start + config.batch)
            model.train_on_batch(part.ids, part.labels[:, None])


class _Numbering:
    """Numbers ids 0, 1, 2... as they come."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}

    def __call__(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        distinct, inverse = np.unique(ids, return_inverse=True)
        known = self._numbers
        codes = [known.setdefault(key, len(known)) for key in distinct.tolist()]
        return np.array(codes, np.int64)[inverse.reshape(ids.shape)]
