"""The ops inside torch.compile(fullgraph=True), with mutation kept, and with dynamic sizes."""

import pytest
import torch

from tests.torch_ext._ops import fresh_state, gradient, ops

TACO = ops()  # loaded before anything is traced


def step(grad, residual, state, k):
    """A step of a rank that hears itself alone."""
    indices, values, count = TACO.topk_compress(grad * 2.0, residual, state, k, exact=True)
    return TACO.topk_decompress(indices, values, grad.numel(), scale=0.5), count + 1


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_compress_and_decompress(backend, dynamic):
    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=dynamic, backend=backend)
    for n in (5000, 8000):
        carried = [(torch.zeros(n), fresh_state()) for _ in range(2)]
        for number in range(3):
            grad = gradient(n, number)
            wanted, count = step(grad, *carried[0], n // 100)
            got, got_count = compiled(grad, *carried[1], n // 100)
            assert torch.equal(got, wanted)
            assert got_count == count == n // 100 + 1
            assert all(torch.equal(a, b) for a, b in zip(*carried, strict=True))


def through_a_buffer(tensors, lists, values):
    buffer = torch.zeros(12)
    TACO.fuse(tensors, buffer, scale=2.0)
    TACO.topk_accumulate_(buffer, lists, values)
    TACO.unfuse(buffer, tensors)
    return buffer.sum()


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_fuse_accumulate_and_unfuse(backend):
    torch._dynamo.reset()
    compiled = torch.compile(through_a_buffer, fullgraph=True, backend=backend)
    lists, values = [torch.tensor([0, 11], dtype=torch.int32)] * 2, [torch.ones(2)] * 2
    results = []
    for function in (through_a_buffer, compiled):
        tensors = [torch.arange(5.0), torch.ones(7, dtype=torch.bfloat16)]
        results.append((function(tensors, lists, values), *tensors))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
