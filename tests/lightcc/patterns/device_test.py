"""Two levels by the groups' own collectives: the sum, on every rank, for any length."""

import threading

import pytest
import torch
import torch.distributed as dist
from taco import _loader
from taco.lightcc.patterns import device

from tests.lightcc.patterns import _gloo


def _on_all(hosts: int, local: int, inputs: list[torch.Tensor], action) -> list[torch.Tensor]:
    """Calls `action(rank, tensor, inside, across)` on all ranks, each a thread."""
    store = dist.HashStore()
    results: dict[int, object] = {}

    def run(rank: int) -> None:
        host, place = divmod(rank, local)
        inside = _gloo.connect(dist.PrefixStore(f"in{host}", store), place, local, 20.0)
        across = _gloo.connect(dist.PrefixStore(f"across{place}", store), host, hosts, 20.0)
        tensor = inputs[rank].clone()
        try:
            action(rank, tensor, inside if local > 1 else None, across)
            results[rank] = tensor
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(hosts * local)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results.values():
        if isinstance(result, Exception):
            raise result
    return [results[rank] for rank in range(hosts * local)]


@pytest.mark.parametrize(("hosts", "local"), [(2, 1), (2, 2), (1, 3), (3, 2)])
@pytest.mark.parametrize("length", [1, 7, 96])
def test_dense(hosts: int, local: int, length: int) -> None:
    inputs = [torch.arange(length).float() * (rank + 1) for rank in range(hosts * local)]
    results = _on_all(
        hosts, local, inputs, lambda _, t, inside, across: device.all_reduce(t, inside, across)
    )
    assert all(torch.equal(result, sum(inputs)) for result in results)


@pytest.mark.parametrize(("hosts", "local"), [(2, 1), (2, 2), (1, 2)])
def test_what_topk_does_not_send_stays(hosts: int, local: int) -> None:
    ops = _loader.load_torch_ops()
    length = 1001
    inputs = [
        torch.randn(length, generator=torch.Generator().manual_seed(rank))
        for rank in range(hosts * local)
    ]
    residuals = [torch.zeros(length) for _ in inputs]

    def action(rank, tensor, inside, across) -> None:
        state = torch.zeros(8, dtype=torch.float64)

        def compress(shard, low):
            high = min(low + shard.numel(), length)
            shard = shard[: high - low]
            indices, values, _ = ops.topk_compress(shard, residuals[rank][low:high], state, 50)
            return indices, values

        device.all_reduce(tensor, inside, across, compress, ops.topk_accumulate_)

    results = _on_all(hosts, local, inputs, action)
    assert all(torch.equal(result, results[0]) for result in results)
    assert int((results[0] != 0).sum()) <= 67 * hosts * local
    torch.testing.assert_close(results[0] + sum(residuals), sum(inputs))
