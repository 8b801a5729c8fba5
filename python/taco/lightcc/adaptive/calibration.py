"""Measures what `cost` needs: all ranks of a set together, in a fraction of a second."""

import functools
import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from taco import _loader
from taco.lightcc.adaptive.cost import Costs, Link
from taco.lightcc.adaptive.places import Levels
from taco.lightcc.patterns import ring, tree
from taco.lightcc.patterns.transport import Subgroup, Transport

_SMALL, _LARGE = 4 << 10, 1 << 20  # bytes of a message
_LARGE_ON_DEVICE = 4 << 20
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
    return _costs(inside, across, torch.device("cpu"))


def measure_on_device(
    inside: dist.ProcessGroup | None, across: dist.ProcessGroup | None, device: torch.device
) -> Costs:
    """As `measure`, by the groups' own collectives.

    Args:
        inside: the ranks of this machine; None for one alone.
        across: one rank of each machine, all of which measure at the same time; None where there is
            one machine, or for a rank that owns no shard.
        device: of the tensors.
    """
    near = _group_link(inside, device)
    far = _group_link(across, device, inside.size() if inside is not None else 1)
    return _costs(near, far, device)


def _costs(inside: Link | None, across: Link | None, device: torch.device) -> Costs:
    inside = inside or across or Link(0.0, 0.0)
    return Costs(inside, across or inside, *_memory(device))


def _link(members: Transport, tag: int, sharing: int = 1) -> Link | None:
    """A ring's step, timed at two sizes."""
    if members.size == 1:
        return None

    def took(size: int) -> float:
        tensor = torch.zeros(size // 4 * members.size)
        options = ring.RingOptions(piece_bytes=size)
        return _best(functools.partial(ring.all_reduce, members, tensor, tag=tag, options=options))

    return _fitted(took, members.size, (_SMALL, _LARGE), sharing)


def _group_link(
    group: dist.ProcessGroup | None, device: torch.device, sharing: int = 1
) -> Link | None:
    if group is None or group.size() == 1:
        return None

    def took(size: int) -> float:
        tensor = torch.zeros(size // 4 * group.size(), device=device)
        options = dist.AllreduceOptions()
        return _best(lambda: group.allreduce([tensor], options).wait(), device)

    return _fitted(took, group.size(), (_SMALL, _LARGE_ON_DEVICE), sharing)


def _fitted(took: Callable[[int], float], ranks: int, sizes: tuple[int, int], sharing: int) -> Link:
    """A step of a ring, from the seconds of an allreduce in which messages have these sizes."""
    small, large = (took(size) / (2 * (ranks - 1)) for size in sizes)
    # So many ranks send at once over the link; a flow by itself gets all of it.
    per_byte = max((large - small) / (sizes[1] - sizes[0]), 1e-12) / sharing
    return Link(max(small - sizes[0] * per_byte * sharing, 1e-7), per_byte)


def _memory(device: torch.device) -> tuple[float, float, float]:
    ops = _loader.load_torch_ops()
    grad = torch.randn(_ELEMENTS, generator=torch.Generator().manual_seed(1)).to(device)
    residual = torch.zeros(_ELEMENTS, device=device)
    state = torch.zeros(8, dtype=torch.float64, device=device)
    kept = int(_ELEMENTS * _RATIO)
    lists: list[torch.Tensor] = []

    def select() -> None:
        lists[:] = ops.topk_compress(grad, residual, state, kept)

    select()  # estimates the threshold
    chosen = _best(select, device)
    out = torch.zeros(_ELEMENTS, device=device)
    added = _best(lambda: ops.topk_accumulate_(out, [lists[0]], [lists[1]]), device)
    cast = _best(lambda: out.copy_(grad.to(torch.float16)), device)
    return chosen / _ELEMENTS, added / kept, cast / _ELEMENTS


def _best(action: Callable[[], object], device: torch.device | None = None) -> float:
    times = []
    for _ in range(_ROUNDS):
        _wait_for(device)
        started = time.perf_counter()
        action()
        _wait_for(device)
        times.append(time.perf_counter() - started)
    return min(times)


def _wait_for(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
