"""Measures what `cost` needs: all ranks of a set together, in a fraction of a second."""

import functools
import time
from collections.abc import Callable

import torch

from taco import _loader
from taco.lightcc.adaptive.cost import Costs, Link
from taco.lightcc.adaptive.places import Levels
from taco.lightcc.patterns import ring, tree
from taco.lightcc.patterns.transport import Subgroup, Transport

_SMALL, _LARGE = 4 << 10, 1 << 20  # bytes of a message
_ROUNDS = 3
_ELEMENTS = 1 << 19
_RATIO = 0.01


def measure(transport: Transport, levels: Levels, tag: int) -> Costs:
    """What this rank sees. The ranks' numbers differ a little; average them.

    Args:
        transport: joins the ranks.
        levels: their groups.
        tag: of all messages.
    """
    own = next(group for group in levels.hosts if transport.rank in group)
    place = own.index(transport.rank)
    peers = [group[place] for group in levels.hosts if len(group) > place]
    tree.barrier(transport, tag)
    inside = _link(Subgroup(transport, own), tag)
    tree.barrier(transport, tag)
    across = _link(Subgroup(transport, peers), tag, sharing=len(own))
    tree.barrier(transport, tag)
    inside = inside or across or Link(0.0, 0.0)
    return Costs(inside, across or inside, *_memory())


def _link(members: Transport, tag: int, sharing: int = 1) -> Link | None:
    """A ring's step, timed at two sizes."""
    if members.size == 1:
        return None
    times = []
    for size in (_SMALL, _LARGE):
        tensor = torch.zeros(size // 4 * members.size)
        options = ring.RingOptions(piece_bytes=size)
        took = _best(functools.partial(ring.all_reduce, members, tensor, tag=tag, options=options))
        times.append(took / (2 * (members.size - 1)))
    small, large = times
    # So many ranks send at once over the link; a flow by itself gets all of it.
    per_byte = max((large - small) / (_LARGE - _SMALL), 1e-12) / sharing
    return Link(max(small - _SMALL * per_byte * sharing, 1e-7), per_byte)


def _memory() -> tuple[float, float, float]:
    ops = _loader.load_torch_ops()
    grad = torch.randn(_ELEMENTS, generator=torch.Generator().manual_seed(1))
    residual, state = torch.zeros(_ELEMENTS), torch.zeros(8, dtype=torch.float64)
    kept = int(_ELEMENTS * _RATIO)
    lists: list[torch.Tensor] = []

    def select() -> None:
        lists[:] = ops.topk_compress(grad, residual, state, kept)

    select()  # estimates the threshold
    chosen = _best(select)
    out = torch.zeros(_ELEMENTS)
    added = _best(lambda: ops.topk_accumulate_(out, [lists[0]], [lists[1]]))
    cast = _best(lambda: out.copy_(grad.to(torch.float16)))
    return chosen / _ELEMENTS, added / kept, cast / _ELEMENTS


def _best(action: Callable[[], object]) -> float:
    times = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times)
