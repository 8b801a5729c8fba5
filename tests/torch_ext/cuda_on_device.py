"""The CUDA kernels on a GPU, beside the CPU's.

`make test` runs this where PyTorch sees a GPU. By hand, after `make build`, with a PyTorch that is
built for CUDA, and CuPy:

    .venv/bin/python -m pytest tests/torch_ext/cuda_on_device.py
"""

import functools
from types import SimpleNamespace

import pytest
import torch
from taco import _loader
from taco.lightcc import cuda
from taco.lightcc.cuda.ops import NAMES

torch.set_default_device("cuda")  # before the tests below make tensors

from tests.torch_ext import _cuda_cases, fuse_test, topk_test  # noqa: E402
from tests.torch_ext._cuda_cases import compare_compress, same  # noqa: E402
from tests.torch_ext._ops import fresh_state, gradient  # noqa: E402

# What the CPU's ops have to do, and what the emulated kernels have to do.
for module in (_cuda_cases, topk_test, fuse_test):
    globals().update({name: v for name, v in vars(module).items() if name.startswith("test_")})

OPS = _loader.load_torch_ops()
LARGE = 25_600_001


def waiting(name):
    """An op that raises at once what the kernels find out."""

    @functools.wraps(getattr(OPS, name))
    def call(*args, **kwargs):
        result = getattr(OPS, name)(*args, **kwargs)
        cuda.synchronize()
        return result

    return call


WAITING = SimpleNamespace(device="cuda", **{name: waiting(name) for name in NAMES})


@pytest.fixture(autouse=True)
def in_their_place(monkeypatch):
    for module in (topk_test, fuse_test):
        monkeypatch.setattr(module, "ops", lambda: WAITING)


@pytest.fixture
def others():
    return lambda order: WAITING


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_gradients(dtype, exact):
    kinds = ("normal", "normal", "ties", "normal")
    compare_compress(WAITING, kinds, LARGE, LARGE // 100, dtype, momentum=0.9, exact=exact)


def test_steps_on_a_stream_of_their_own():
    grads = [gradient(1_000_000, number) for number in range(10)]

    def run(device):
        residual, total = torch.zeros(1_000_000, device=device), torch.zeros(1_000_000)
        state, total = fresh_state().to(device), total.to(device)
        for grad in grads:
            packed = OPS.topk_compress(grad.to(device), residual, state, 10_000)
            OPS.topk_accumulate_(total, [packed[0]] * 3, [packed[1]] * 3, scale=0.3)
        return residual, total, state[:6]

    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        made = run("cuda")
    cuda.synchronize()
    assert all(same(a, b) for a, b in zip(run("cpu"), made, strict=True))


def test_no_op_waits_for_the_device():
    grad, residual, state = gradient(1_000_000), torch.zeros(1_000_000), fresh_state()
    buffer, out = torch.zeros(1_000_000, dtype=torch.bfloat16), torch.zeros(1_000_000)

    def work():
        indices, values, _ = OPS.topk_compress(grad, residual, state, 10_000)
        OPS.topk_accumulate_(out, [indices] * 2, [values] * 2)
        OPS.topk_decompress(indices, values, 1_000_000)
        OPS.fuse([grad], buffer)
        OPS.unfuse(buffer, [grad])

    work()  # compiles
    torch.cuda.synchronize()
    torch.cuda._sleep(2_000_000_000)  # cycles: about a second
    work()
    assert not torch.cuda.current_stream().query()
    cuda.synchronize()


def test_a_bad_list_is_reported_later_and_adds_nothing():
    out, values = torch.zeros(10), torch.ones(2)
    bad = torch.tensor([3, 10], dtype=torch.int32)
    good = torch.tensor([3, 4], dtype=torch.int32)
    OPS.topk_accumulate_(out, [good], [values])
    with pytest.raises(RuntimeError, match=r"list 1, position 1: index 10 is not in \[0, 10\)"):
        OPS.topk_accumulate_(out, [good, bad], [values, values])
        cuda.synchronize()
    cuda.synchronize()  # once
    assert out.sum() == 2


def test_they_pass_opcheck():
    indices, values = torch.tensor([1, 5], dtype=torch.int32), torch.ones(2)
    tensors = [torch.ones(3), torch.ones(2, 2, dtype=torch.float16)]
    check = torch.library.opcheck
    check(OPS.topk_compress.default, (gradient(5000), torch.zeros(5000), fresh_state(), 50))
    check(OPS.topk_decompress.default, (indices, values, 10))
    check(OPS.topk_accumulate_.default, (torch.zeros(10), [indices], [values]))
    check(OPS.fuse.default, (tensors, torch.zeros(7)), {"scale": 2.0})
    check(OPS.unfuse.default, (torch.ones(7), tensors))
