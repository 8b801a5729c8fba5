"""Adasum: gradients that point the same way are averaged, orthogonal ones added.

Two vectors a and b become (1 - a.b / 2|a|^2) a + (1 - a.b / 2|b|^2) b; a group does so in pairs at
distance 1, 2, 4, ... (Maleki et al., "Scaling Distributed Training with Adaptive Summation",
MLSys 2021). The number of members has to be a power of two.
"""

import torch
import torch.distributed as dist

from taco.lightcc.engine.exchange import as_bytes

_TINY = 1.5e-154  # below its square no norm is told from nought


def adasum_(group: dist.ProcessGroup, tensor: torch.Tensor) -> None:
    """Combines a contiguous floating-point tensor over the group, in place.

    Both of a pair compute the same expression in the same order, so all members end with the same
    bits. Each step exchanges the whole vector: log2(size) times its bytes.
    """
    theirs = torch.empty_like(tensor)
    distance = 1
    while distance < group.size():
        partner = group.rank() ^ distance
        receiving = group.recv([as_bytes(theirs)], partner, 0)
        group.send([as_bytes(tensor)], partner, 0).wait()
        receiving.wait()
        low, high = (tensor, theirs) if group.rank() < partner else (theirs, tensor)
        tensor.copy_(combine(low, high))
        distance *= 2


def combine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The adaptive sum of two tensors of one shape, computed in float64 norms."""
    flat_a, flat_b = a.reshape(-1).double(), b.reshape(-1).double()
    dot = torch.dot(flat_a, flat_b).item()
    norm_a, norm_b = torch.dot(flat_a, flat_a).item(), torch.dot(flat_b, flat_b).item()
    factor_a = 1.0 - dot / (2.0 * norm_a) if norm_a > _TINY else 1.0
    factor_b = 1.0 - dot / (2.0 * norm_b) if norm_b > _TINY else 1.0
    return a * factor_a + b * factor_b
