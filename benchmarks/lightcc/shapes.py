"""The parameter shapes of two well-known models, by the rule of their architecture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

Shapes = Mapping[str, tuple[int, ...]]


def resnet50() -> dict[str, tuple[int, ...]]:
    """ResNet-50 for 1000 classes: 161 tensors, 25 557 032 values, in order of registration.

    Source: He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385, table 1.
    """
    return dict(_resnet50())


def _resnet50() -> Iterator[tuple[str, tuple[int, ...]]]:
    expansion, channels = 4, 64
    yield from _convolution("stem", 3, channels, 7)
    for stage, (blocks, width) in enumerate(
        zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True), start=1
    ):
        wide = expansion * width
        for block in range(blocks):
            name = f"stage{stage}.{block}"
            yield from _convolution(f"{name}.reduce", channels, width, 1)
            yield from _convolution(f"{name}.spatial", width, width, 3)
            yield from _convolution(f"{name}.expand", width, wide, 1)
            if block == 0:
                yield from _convolution(f"{name}.shortcut", channels, wide, 1)
            channels = wide
    yield "classifier.weight", (1000, channels)
    yield "classifier.bias", (1000,)


def _convolution(
    name: str, inputs: int, outputs: int, kernel: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A convolution without bias, and the batch normalisation behind it."""
    yield f"{name}.weight", (outputs, inputs, kernel, kernel)
    yield f"{name}.norm.weight", (outputs,)
    yield f"{name}.norm.bias", (outputs,)


def transformer(
    layers: int = 12, width: int = 512, vocabulary: int = 16_384, context: int = 512
) -> dict[str, tuple[int, ...]]:
    """A GPT-2-like decoder with tied embeddings: 148 tensors, 46.5 M values by default.

    Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
    """
    shapes: dict[str, tuple[int, ...]] = {
        "tokens.weight": (vocabulary, width),
        "positions.weight": (context, width),
    }
    for layer in range(layers):
        for name, inputs, outputs in (
            ("attention.inputs", width, 3 * width),
            ("attention.output", width, width),
            ("mlp.inputs", width, 4 * width),
            ("mlp.output", 4 * width, width),
        ):
            shapes[f"{layer}.{name}.weight"] = (outputs, inputs)
            shapes[f"{layer}.{name}.bias"] = (outputs,)
        for norm in ("attention.norm", "mlp.norm"):
            shapes[f"{layer}.{norm}.weight"] = (width,)
            shapes[f"{layer}.{norm}.bias"] = (width,)
    shapes["norm.weight"] = shapes["norm.bias"] = (width,)
    return shapes


def scaled(shapes: Shapes, factor: float) -> dict[str, tuple[int, ...]]:
    """As many tensors, each with its first dimension `factor` times as long (at least 1)."""
    return {name: (max(1, round(factor * shape[0])), *shape[1:]) for name, shape in shapes.items()}


def elements(shapes: Shapes) -> int:
    """Values in all tensors together."""
    return sum(map(math.prod, shapes.values()))
