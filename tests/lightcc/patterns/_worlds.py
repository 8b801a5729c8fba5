"""Worlds of simulated ranks, and the slow, obvious results that patterns are compared with."""

import functools
from collections.abc import Callable, Sequence

import torch
from taco.lightcc.patterns.reduction import Reduction
from taco.lightcc.patterns.simulated import SimulatedNetwork, SimulatedTransport
from taco.lightcc.patterns.sparse_list import SparseList

_OPERATORS: dict[Reduction, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    Reduction.SUM: lambda a, b: a + b,
    Reduction.MIN: torch.minimum,
    Reduction.MAX: torch.maximum,
    Reduction.PRODUCT: lambda a, b: a * b,
}


def whole_numbers(
    size: int, length: int, dtype: torch.dtype = torch.float32, seed: int = 0, limit: int = 4
) -> list[torch.Tensor]:
    """A tensor for each rank of numbers so small that every order of adding them is exact."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randint(-limit, limit + 1, (length,), generator=generator).to(dtype)
        for _ in range(size)
    ]


def reference(tensors: Sequence[torch.Tensor], op: Reduction = Reduction.SUM) -> torch.Tensor:
    """The reduction in float64, in order of the ranks."""
    return functools.reduce(_OPERATORS[op], [tensor.double() for tensor in tensors])


def run(
    function: Callable[[SimulatedTransport, torch.Tensor], object], inputs: Sequence[torch.Tensor]
) -> tuple[list[torch.Tensor], SimulatedNetwork]:
    """What the ranks hold after `function(transport, tensor)`, and the network that they used."""
    network = SimulatedNetwork(len(inputs))
    tensors = [each.clone() for each in inputs]
    network.run(lambda transport: function(transport, tensors[transport.rank]))
    assert network.unread() == 0
    return tensors, network


def same_bits(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether all hold the same bits, so that 0 differs from -0 and NaN equals itself."""
    first = tensors[0].contiguous().view(torch.uint8)
    return all(torch.equal(first, each.contiguous().view(torch.uint8)) for each in tensors)


def lists(
    size: int, length: int, k: int, seed: int = 0, limit: int = 1000, kind: str = "random"
) -> list[SparseList]:
    """A list of at most k elements for each rank; values are whole numbers other than 0."""
    generator = torch.Generator().manual_seed(seed)
    same = torch.randperm(length, generator=generator)[:k].sort().values
    result = []
    for rank in range(size):
        indices = {
            "random": torch.randperm(length, generator=generator)[:k].sort().values,
            "equal": same,
            "interleaved": torch.arange(k) * size + rank,
            "one region": torch.arange(k) + rank * (k // 3),
            "same dense start": torch.arange(k),
            "a block each": torch.arange(k) + rank * k,
        }[kind]
        indices = indices[indices < length]
        values = torch.randint(1, limit, (len(indices),), generator=generator)
        signs = torch.randint(0, 2, (len(indices),), generator=generator) * 2 - 1
        result.append(SparseList(indices.int(), (values * signs).float(), length))
    return result


def dense(part: SparseList) -> torch.Tensor:
    """The tensor that a list stands for."""
    out = torch.zeros(part.length, dtype=torch.float64)
    for index, value in zip(part.indices.tolist(), part.values.tolist(), strict=True):
        out[index] = value
    return out


def sent(network: SimulatedNetwork, rank: int) -> int:
    """Bytes that a rank sent."""
    return sum(count for (src, _), count in network.bytes.items() if src == rank)


def received(network: SimulatedNetwork, rank: int) -> int:
    """Bytes that a rank received."""
    return sum(count for (_, dst), count in network.bytes.items() if dst == rank)
