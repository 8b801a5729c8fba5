"""Levels and sparse sums by the groups' own collectives, on Gloo: for any machines and length."""

import threading
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from taco import _loader
from taco.lightcc.patterns import device, device_sparse

from tests.lightcc.patterns import _gloo
from tests.lightcc.patterns._worlds import dense, lists, reference, same_bits, whole_numbers

Part = Callable[[tuple[int, ...]], dist.ProcessGroup]

# Machines, and racks of them.
WORLDS = {
    "one each": [((0,), (1,))],
    "even": [((0, 1), (2, 3))],
    "one machine": [((0, 1, 2),)],
    "uneven": [((0, 1, 2), (3,), (4, 5))],
    "three levels": [((0, 1), (2, 3), (4, 5), (6, 7)), ((0, 1, 2, 3), (4, 5, 6, 7))],
    "uneven racks": [((0, 1), (2, 3), (4, 5, 6)), ((0, 1, 2, 3), (4, 5, 6))],
    "mixed up": [((0, 3), (1, 2))],
}


def _on_all(
    inputs: list[torch.Tensor], action: Callable[[int, torch.Tensor, Part], None]
) -> list[torch.Tensor]:
    """Calls `action(rank, tensor, part)` on all ranks, each a thread; `part` makes groups."""
    store = dist.HashStore()
    results: dict[int, object] = {}

    def run(rank: int) -> None:
        def part(members: tuple[int, ...]) -> dist.ProcessGroup:
            prefix = dist.PrefixStore(repr(members), store)
            return _gloo.connect(prefix, members.index(rank), len(members), 20.0)

        tensor = inputs[rank].clone()
        try:
            action(rank, tensor, part)
            results[rank] = tensor
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results.values():
        if isinstance(result, Exception):
            raise result
    return [results[rank] for rank in range(len(inputs))]


def _stages(plan: device.Plan, part: Part) -> list[device.Stage]:
    return [device.Stage(part(members), owners) for members, owners in plan.stages]


@st.composite
def _levels(draw: st.DrawFn) -> tuple[int, tuple[device.Groups, ...]]:
    """Ranks dealt to machines, and machines to racks."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=7))
    ranks = draw(st.permutations(range(sum(sizes))))
    machines, at = [], 0
    for size in sizes:
        machines.append(tuple(sorted(ranks[at : at + size])))
        at += size
    racks: dict[int, list[int]] = {}
    for machine in machines:
        racks.setdefault(draw(st.integers(0, 2)), []).extend(machine)
    return sum(sizes), (tuple(machines), tuple(tuple(sorted(each)) for each in racks.values()))


@given(_levels(), st.integers(0, 2))
def test_every_shard_has_one_owner_in_each_group(world, deep) -> None:
    size, levels = world
    levels = levels[:deep]
    plans = [device.plan(rank, size, levels) for rank in range(size)]
    for rank, plan in enumerate(plans):
        for members, owners in plan.stages:
            assert rank in members and 1 <= owners <= len(members)
            place = plan.stages.index((members, owners))
            for other in members:  # the same group for all who are in it
                assert plans[other].stages[place] == (members, owners)
        for other in plan.across:
            assert plans[other].across == plan.across
    # What is across joins all groups: every rank's number reaches each owner exactly once.
    held = [{rank} for rank in range(size)]
    for place in range(deep):
        held = [
            set().union(*(held[each] for each in plan.stages[place][0]))
            if place < len(plan.stages)
            else set()
            for plan in plans
        ]
    for plan in plans:
        if plan.across:
            parts = [held[each] for each in plan.across]
            assert set().union(*parts) == set(range(size))
            assert sum(map(len, parts)) == size


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("length", [1, 7, 96])
def test_dense(world: str, length: int) -> None:
    levels = tuple(WORLDS[world])
    size = sum(map(len, levels[0]))
    inputs = whole_numbers(size, length)
    counted: dict[int, dict[str, int]] = {rank: {} for rank in range(size)}

    def action(rank: int, tensor: torch.Tensor, part: Part) -> None:
        plan = device.plan(rank, size, levels)
        across = part(plan.across) if plan.across else None

        def summed(shard: torch.Tensor, low: int) -> None:
            across.allreduce([shard], dist.AllreduceOptions()).wait()

        device.all_reduce(tensor, _stages(plan, part), summed, counted[rank].__setitem__)

    results = _on_all(inputs, action)
    assert all(torch.equal(each.double(), reference(inputs)) for each in results)
    if world == "even":
        assert counted[0] == {"inside": 2 * -(-length // 2) * 4}


@pytest.mark.parametrize("world", ["one each", "even", "uneven", "uneven racks"])
def test_what_topk_does_not_send_stays(world: str) -> None:
    ops, length = _loader.load_torch_ops(), 1001
    levels = tuple(WORLDS[world])
    size = sum(map(len, levels[0]))
    inputs = [
        torch.randn(length, generator=torch.Generator().manual_seed(rank)) for rank in range(size)
    ]
    residuals = [torch.zeros(length) for _ in inputs]

    def action(rank: int, tensor: torch.Tensor, part: Part) -> None:
        plan = device.plan(rank, size, levels)
        across = part(plan.across) if plan.across else None

        def summed(shard: torch.Tensor, low: int) -> None:
            mine = shard[: max(0, min(shard.numel(), length - low))]
            kept = residuals[rank][low : low + mine.numel()]
            state = torch.zeros(8, dtype=torch.float64)
            indices, values, _ = ops.topk_compress(mine, kept, state, min(50, mine.numel()))
            device_sparse.gather(across, indices, values, mine, ops)

        device.all_reduce(tensor, _stages(plan, part), summed)

    results = _on_all(inputs, action)
    assert same_bits(results)
    assert 0 < int((results[0] != 0).sum()) < length
    torch.testing.assert_close(results[0] + sum(residuals), sum(inputs))


@pytest.mark.parametrize("kind", ["random", "equal", "one region", "a block each"])
@pytest.mark.parametrize(("size", "k"), [(1, 8), (2, 64), (3, 100), (5, 7), (8, 512)])
@pytest.mark.parametrize("half", [False, True])
def test_balanced_loses_nothing_in_six_k_words(size: int, k: int, kind: str, half: bool) -> None:
    ops, length = _loader.load_torch_ops(), 2 * k * size + 1
    parts = lists(size, length, k, kind=kind)
    residuals = [torch.zeros(length) for _ in parts]
    sent = [0] * size

    def action(rank: int, tensor: torch.Tensor, part: Part) -> None:
        given, room = parts[rank], k + k // 3
        indices = torch.full((room,), length - 1, dtype=torch.int32)
        values = torch.zeros(room, dtype=torch.float16 if half else torch.float32)
        indices[: len(given.indices)] = given.indices
        values[: len(given.values)] = given.values
        group = part(tuple(range(size)))
        sent[rank] = device_sparse.balanced(group, indices, values, k, residuals[rank], tensor, ops)

    results = _on_all([torch.full((length,), 5.0) for _ in parts], action)
    assert same_bits(results)
    total = sum(map(dense, parts))
    assert torch.equal((results[0] + sum(residuals)).double(), total)
    assert int((results[0] != 0).sum()) <= max(k, size)
    if k >= size:
        assert max(sent) <= 6 * k * (3 if half else 4)
    if kind in ("random", "equal") and k >= 64 and size > 1:  # and does not wait for ever
        largest = total.abs().sort(descending=True).values[: k // 2].sum()
        assert float(results[0].abs().sum()) >= 0.8 * float(largest)
