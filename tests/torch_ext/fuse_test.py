"""fuse and unfuse against torch's own casts and copies."""

import pytest
import torch

from tests.torch_ext._ops import FLOATS, gradient, ops, same_bits

SIZES = (0, 1, 7, 1000, 70_001)


@pytest.mark.parametrize("scale", [1.0, 0.37])
@pytest.mark.parametrize("to", FLOATS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_casts_are_torchs(dtype, to, scale):
    tensors = [gradient(n, n, dtype) for n in SIZES]
    buffer = torch.zeros(sum(SIZES), dtype=to)
    ops().fuse(tensors, buffer, scale=scale)
    wanted = torch.cat([(t.float() * torch.tensor(scale)).to(to) for t in tensors])
    assert same_bits(buffer, wanted)
    back = [torch.empty(n, dtype=dtype) for n in SIZES]
    ops().unfuse(buffer, back, scale=scale)
    parts = (buffer.float() * torch.tensor(scale)).to(dtype).split(SIZES)
    assert all(same_bits(a, b) for a, b in zip(back, parts, strict=True))


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool]
)
def test_other_types_are_copied(dtype):
    tensors = [torch.arange(n).to(dtype).view(-1) for n in (3, 100_000)]
    buffer = torch.zeros(100_005, dtype=dtype)
    ops().fuse(tensors, buffer)
    assert torch.equal(buffer[:100_003], torch.cat(tensors))
    assert not buffer[100_003:].any()
    back = [torch.zeros_like(t) for t in tensors]
    ops().unfuse(buffer, back)
    assert all(torch.equal(a, b) for a, b in zip(back, tensors, strict=True))


def test_shapes_are_kept_and_types_may_differ_in_a_list():
    tensors = [torch.ones(2, 3), torch.full((4, 1), 2.0, dtype=torch.bfloat16), torch.tensor(3.0)]
    buffer = torch.zeros(11)
    ops().fuse(tensors, buffer, scale=2.0)
    assert buffer.tolist() == [2.0] * 6 + [4.0] * 4 + [6.0]
    ops().unfuse(buffer, tensors, scale=0.5)
    assert tensors[1].shape == (4, 1) and tensors[1].eq(2).all() and tensors[2] == 3


@pytest.mark.parametrize(
    ("tensors", "buffer", "scale", "says"),
    [
        ([torch.ones(3)], torch.zeros(2), 1.0, "hold 3 elements and the buffer 2"),
        ([torch.ones(3).int()], torch.zeros(3).int(), 0.5, "integer type, which cannot be scaled"),
        ([torch.ones(3).double()], torch.zeros(3), 1.0, "use a buffer of the tensor's type"),
        ([torch.ones(3, 2).t()], torch.zeros(6), 1.0, "not contiguous"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(tensors, buffer, scale, says):
    with pytest.raises(RuntimeError, match=f"taco::fuse: .*{says}"):
        ops().fuse(tensors, buffer, scale=scale)
    assert not buffer.any()
    with pytest.raises(RuntimeError, match=f"taco::unfuse: .*{says}"):
        ops().unfuse(buffer, tensors, scale=scale)
