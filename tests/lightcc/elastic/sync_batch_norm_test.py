"""SyncBatchNorm is BatchNorm of the batches of all ranks together."""

import pytest
import torch

# Compares with the stock module on the whole batch: outputs, gradients, running statistics.
COMPARE = """
from taco.lightcc.torch.sync_batch_norm import SyncBatchNorm


class Stock(torch.nn.modules.batchnorm._BatchNorm):
    def _check_input_dim(self, input):
        pass


def compare(sizes, shape, dtype=torch.float64, offset=0.0, tolerance=1e-9, **options):
    torch.manual_seed(1)
    stock, ours = Stock(4, **options).to(dtype), SyncBatchNorm(4, **options).to(dtype)
    if stock.affine:
        torch.nn.init.normal_(stock.weight)
        torch.nn.init.normal_(stock.bias)
    ours.load_state_dict(stock.state_dict())
    first = sum(sizes[: hvd.rank()])
    mine = slice(first, first + sizes[hvd.rank()])

    def close(a, b):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)

    for step in range(3):
        whole = (torch.randn(sum(sizes), 4, *shape, dtype=dtype) * 3 + offset).requires_grad_()
        part = whole.detach()[mine].clone().requires_grad_()
        scale = torch.randn_like(whole)
        want, got = stock(whole), ours(part)
        close(got, want[mine])
        stock.zero_grad(), ours.zero_grad()
        (want * scale).square().sum().backward()
        (got * scale[mine]).square().sum().backward()
        close(part.grad, whole.grad[mine])
        for a, b in zip(ours.parameters(), stock.parameters(), strict=True):
            close(hvd.allreduce(a.grad, op=hvd.Sum), b.grad)
        for a, b in zip(ours.buffers(), stock.buffers(), strict=True):
            close(a, b)
    stock.eval(), ours.eval()
    if stock.track_running_stats:
        close(ours(part), stock(whole)[mine])  # by itself: nobody is asked
        if hvd.rank() == 0:
            ours(part)
    else:
        close(ours(part), stock(whole)[mine])
"""


def test_two_ranks_are_one_batch(taco_run):
    done = taco_run(
        ["-np", "2"],
        COMPARE
        + """
for shape in (), (5,), (3, 2), (2, 3, 2), (1, 2, 1, 2):
    compare([4, 4], shape)
compare([6, 2], (3, 3))
compare([1, 5], ())
compare([0, 5], (2,))
compare([3, 4], (3,), momentum=None)
compare([3, 4], (3,), momentum=0.0)
compare([3, 4], (3,), affine=False)
compare([3, 4], (3,), track_running_stats=False)
compare([3, 4], (3,), affine=False, track_running_stats=False, eps=0.1)
compare([3, 4], (3, 3), torch.float32, tolerance=1e-4)
compare([3, 4], (3, 3), torch.float32, offset=1000.0, tolerance=2e-2)
""",
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_half_precision_and_memory_format(taco_run):
    done = taco_run(
        ["-np", "2"],
        """
from taco.lightcc.torch.sync_batch_norm import SyncBatchNorm

norm = SyncBatchNorm(4)
x = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(hvd.rank()))
want = norm(x)
half = x.bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
got = norm(half)
assert got.dtype == torch.bfloat16
assert got.is_contiguous(memory_format=torch.channels_last)
torch.testing.assert_close(got.float(), want, rtol=2e-2, atol=2e-2)
got.sum().backward()
assert half.grad.dtype == torch.bfloat16
with torch.no_grad():
    torch.testing.assert_close(norm(x), want)
frozen = norm(x)
assert not norm.running_mean.requires_grad
""",
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("alone")
def test_one_rank_is_the_stock_module_and_wrong_shapes_are_refused():
    from taco.lightcc.torch.sync_batch_norm import SyncBatchNorm

    stock, ours = torch.nn.BatchNorm2d(3), SyncBatchNorm(3)
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(stock(x), ours(x))
    assert torch.equal(stock.running_var, ours.running_var)
    assert int(ours.num_batches_tracked) == 1
    with pytest.raises(ValueError, match="at least 2D"):
        ours(torch.ones(3))
    with pytest.raises(ValueError, match="3 channels"):
        ours(torch.ones(2, 4))
