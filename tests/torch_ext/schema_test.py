"""Each op passes torch.library.opcheck: schema, fake tensors, autograd registration, dispatch."""

import pytest
import torch

from tests.torch_ext._ops import FLOATS, fresh_state, gradient, ops


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("exact", [False, True])
def test_topk_compress(dtype, exact):
    args = (gradient(5000, 1, dtype), torch.zeros(5000), fresh_state(), 50)
    torch.library.opcheck(ops().topk_compress.default, args, {"exact": exact, "scale": 0.5})


def test_topk_compress_with_everything():
    args = (gradient(5000), torch.zeros(5000), fresh_state(), 50)
    kwargs = {"velocity": torch.zeros(5000), "momentum": 0.9, "values_dtype": torch.float16}
    torch.library.opcheck(ops().topk_compress.default, args, kwargs)


@pytest.mark.parametrize("dtype", FLOATS)
def test_topk_decompress(dtype):
    args = (torch.tensor([1, 5], dtype=torch.int32), torch.ones(2, dtype=dtype), 10)
    torch.library.opcheck(ops().topk_decompress.default, args, {"scale": 0.5})


def test_topk_accumulate():
    indices = [torch.tensor([1, 5], dtype=torch.int32), torch.tensor([0], dtype=torch.int32)]
    args = (torch.zeros(10), indices, [torch.ones(2), torch.ones(1)])
    torch.library.opcheck(ops().topk_accumulate_.default, args, {"scale": 0.5})


def test_fuse_and_unfuse():
    tensors = [torch.ones(3), torch.ones(2, 2, dtype=torch.float16)]
    torch.library.opcheck(ops().fuse.default, (tensors, torch.zeros(7)), {"scale": 2.0})
    torch.library.opcheck(ops().unfuse.default, (torch.ones(7), tensors))
