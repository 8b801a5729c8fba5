"""What is trained: models whose gradients come cheaply, and a small one that really computes.

Every model's forward takes a step's number and gives a loss. Its gradients arrive tensor by tensor
through autograd, from the last parameter to the first, as those of any model do.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from benchmarks.lightcc import corpus, shapes

_BLOCK = 1 << 20  # values; two blocks of float32 stay in the third-level cache


class GradientSource:
    """Heavy-tailed gradients that change from step to step.

    A value is the product of a scale and of noise. The scale belongs to the place: log-normal
    (sigma 1), the same on every rank and in every step, so that large gradients stay in about the
    same places, as those of real models do. The noise is normal and of this rank and step. Both
    come from tables, at offsets that depend on tensor, rank and step: one pass of multiplication.

    Args:
        rank: of this process.
    """

    def __init__(self, rank: int) -> None:
        shared = torch.Generator().manual_seed(1)
        self._scale = torch.randn(2 * _BLOCK, generator=shared).exp_()
        self._noise = torch.randn(2 * _BLOCK, generator=torch.Generator().manual_seed(100 + rank))
        self.step = 0

    def gradient(self, like: torch.Tensor, index: int) -> torch.Tensor:
        """The gradient of one tensor.

        Args:
            like: the parameter, float32.
            index: its number in the model.
        """
        made = torch.empty_like(like)
        flat = made.view(-1)
        for number, at in enumerate(range(0, len(flat), _BLOCK)):
            piece = flat[at : at + _BLOCK]
            place = _offset(index, number, 0)
            now = _offset(index, number, self.step + 1)
            scale = self._scale[place : place + len(piece)]
            torch.mul(scale, self._noise[now : now + len(piece)], out=piece)
        return made


def _offset(*numbers: int) -> int:
    """From 0 to below a block, unlike for unlike numbers."""
    mixed = 0
    for number in numbers:
        mixed = (mixed ^ (number + 0x9E3779B9)) * 0x85EBCA6B & 0xFFFFFFFF
        mixed ^= mixed >> 15
    return mixed % _BLOCK


class _Layer(torch.autograd.Function):
    """Passes a number on; backward makes the gradient of one parameter."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, parameter: torch.Tensor, source: GradientSource, index: int
    ) -> torch.Tensor:
        ctx.made_from = (parameter.detach(), source, index)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        like, source, index = ctx.made_from
        return gradient, source.gradient(like, index), None, None


class Synthetic(nn.Module):
    """Parameters of given shapes, whose gradients a `GradientSource` makes.

    Args:
        parameters: name to shape.
        rank: of this process.
    """

    def __init__(self, parameters: shapes.Shapes, rank: int) -> None:
        super().__init__()
        self.source = GradientSource(rank)
        self.values = nn.ParameterDict(
            {name.replace(".", "_"): torch.zeros(shape) for name, shape in parameters.items()}
        )

    def forward(self, step: int) -> torch.Tensor:
        self.source.step = step
        x = torch.zeros(1, requires_grad=True)
        for index, parameter in enumerate(self.values.values()):
            x = _Layer.apply(x, parameter, self.source, index)
        return x.sum()


class CharacterModel(nn.Module):
    """A decoder-only transformer over characters.

    Args:
        layers: number of blocks.
        width: of the residual stream; heads are 32 wide.
        context: longest sequence.
        vocabulary: number of characters.
    """

    def __init__(self, layers: int, width: int, context: int, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.02 * torch.randn(context, width))
        self.blocks = nn.ModuleList(_Block(width, width // 32) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, vocabulary)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits (batch, length, vocabulary) of the next characters of tokens (batch, length)."""
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.output(self.norm(x))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inputs, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        heads = self.inputs(self.first(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.second(x))


class Characters(nn.Module):
    """A `CharacterModel` of 4.8 M values on text, 4 sequences of 64 characters a rank and step.

    Args:
        scale: of the width; 1 is 256.
        rank: of this process.
    """

    def __init__(self, scale: float, rank: int) -> None:
        super().__init__()
        self._text = corpus.load(200_000)
        width = max(32, 32 * round(8 * scale))
        self.model = CharacterModel(6, width, 64, self._text.vocabulary)
        self._generator = torch.Generator().manual_seed(rank)

    def forward(self, step: int) -> torch.Tensor:
        tokens = self._text.batch(self._text.training, 4, 65, self._generator)
        logits = self.model(tokens[:, :-1])
        return nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


MODELS = ("resnet50", "transformer", "characters")


def build(name: str, scale: float, rank: int) -> nn.Module:
    """A model of the benchmark.

    Args:
        name: one of MODELS.
        scale: 1 for the real size.
        rank: of this process; it decides on data, never on parameters.

    Raises:
        ValueError: there is no such model.
    """
    torch.manual_seed(0)
    if name == "characters":
        return Characters(math.sqrt(scale), rank)
    if name not in MODELS:
        raise ValueError(f"no model {name!r}; there are {', '.join(MODELS)}")
    wanted = shapes.resnet50() if name == "resnet50" else shapes.transformer()
    return Synthetic(shapes.scaled(wanted, scale) if scale != 1 else wanted, rank)
