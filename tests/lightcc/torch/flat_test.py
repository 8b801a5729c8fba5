"""Gradients that stand side by side: copied once, read where they are, never taken from others."""

import pytest
import torch
from taco.lightcc.torch.flat import FlatGradients


def _params(*shapes, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = [torch.nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in shapes]
    for param in made:
        param.grad = torch.randn(param.shape, generator=generator).to(dtype)
    return made


def _pointers(params):
    return [param.grad.data_ptr() for param in params]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_gradients_become_views_of_one_buffer(dtype, factor):
    params = _params((3, 4), (5,), (0,), (), dtype=dtype)
    wanted = [param.grad.clone() * factor for param in params]
    views = FlatGradients(params).take(factor)
    for param, view, want in zip(params, views, wanted, strict=True):
        assert torch.equal(param.grad, want) and param.grad.shape == want.shape
        assert param.grad.data_ptr() == view.data_ptr()
    assert len({view.untyped_storage().data_ptr() for view in views}) == 1
    at = views[0].data_ptr()
    for view in (view for view in views if view.numel()):
        assert view.data_ptr() == at
        at += view.nbytes


@pytest.mark.parametrize("to_none", [True, False])
def test_the_buffer_is_kept_while_nobody_else_reads_it(to_none):
    params = _params((3, 4), (5,))
    optimizer = torch.optim.SGD(params, lr=0.1)
    flat = FlatGradients(params)
    flat.take(0.5)
    before = _pointers(params)
    for step in range(3):
        optimizer.zero_grad(set_to_none=to_none)
        new = [torch.full_like(param, step + 1.0) for param in params]
        for param, grad in zip(params, new, strict=True):
            param.grad = grad if param.grad is None else param.grad.add_(grad)
        flat.take(0.5)
        assert _pointers(params) == before
        assert all(torch.equal(p.grad, 0.5 * g) for p, g in zip(params, new, strict=True))


@pytest.mark.parametrize("keep", ["the gradient", "a view of it", "a slice", "its detached self"])
def test_what_a_program_kept_stays_as_it_was(keep):
    params = _params((3, 4), (5,))
    flat = FlatGradients(params)
    flat.take(1.0)
    kept = {
        "the gradient": lambda grad: grad,
        "a view of it": lambda grad: grad.view(-1),
        "a slice": lambda grad: grad[1:],
        "its detached self": lambda grad: grad.detach(),
    }[keep](params[0].grad)
    copy = kept.clone()
    for param in params:
        param.grad = torch.full_like(param, 7.0)
    flat.take(1.0)
    assert torch.equal(kept, copy)
    assert all(bool((param.grad == 7).all()) for param in params)
    after = _pointers(params)
    del kept
    for param in params:
        param.grad = torch.full_like(param, 8.0)
    flat.take(1.0)
    assert _pointers(params) == after


def test_some_accumulate_in_place_and_others_come_anew():
    params = _params((4,), (5,))
    flat = FlatGradients(params)
    flat.take(1.0)
    params[0].grad.fill_(2.0)
    params[1].grad = torch.full((5,), 6.0)
    flat.take(0.5)
    assert params[0].grad.tolist() == [1.0] * 4 and params[1].grad.tolist() == [3.0] * 5


def test_other_strides_and_graphs_stay_where_they_are():
    image = torch.nn.Parameter(torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last))
    plain, graph = torch.nn.Parameter(torch.zeros(4)), torch.nn.Parameter(torch.zeros(3))
    image.grad = torch.arange(96.0).reshape(2, 3, 4, 4).to(memory_format=torch.channels_last)
    plain.grad = torch.ones(4)
    graph.grad = torch.ones(3, requires_grad=True) * 2
    params = [image, plain, graph]
    before = _pointers(params)
    flat = FlatGradients(params)
    views = flat.take(1.0)
    assert torch.equal(views[0].reshape(-1), torch.arange(96.0))
    for view in views:
        view.mul_(3)  # as the reduction does
    flat.write(views)
    assert image.grad.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(image.grad, 3 * torch.arange(96.0).reshape(2, 3, 4, 4))
    assert plain.grad.tolist() == [3.0] * 4 and graph.grad.tolist() == [6.0] * 3
    assert graph.grad.grad_fn is not None
    after = _pointers(params)
    assert (after[0], after[2]) == (before[0], before[2]) and after[1] != before[1]


def test_an_early_division_is_exact_or_is_not_made():
    flat = FlatGradients(_params((4,), (5,)))
    assert [flat.early_division(size) for size in (1, 2, 3, 4, 6, 8)] == [1, 0.5, 1, 0.25, 1, 0.125]
    assert FlatGradients(_params((4,), (5,), dtype=torch.float16)).early_division(2) == 1.0


def test_who_can_have_a_buffer():
    mixed = [*_params((4,)), *_params((4,), dtype=torch.bfloat16)]
    assert FlatGradients.suits(_params((4,), (5,)))
    assert not FlatGradients.suits(_params((4,)))
    assert not FlatGradients.suits(mixed)
    assert not FlatGradients.suits([torch.nn.Parameter(torch.zeros(3, device="meta"))] * 2)


def test_a_sparse_gradient_has_no_place():
    params = _params((4,), (3, 2))
    params[1].grad = torch.sparse_coo_tensor([[0]], [[1.0, 2.0]], (3, 2), check_invariants=True)
    with pytest.raises(ValueError, match="sparse_as_dense"):
        FlatGradients(params).take(1.0)


def test_ranks_share_the_sum_and_keep_their_old_gradients(ranks):
    for size in (2, 3):
        ranks(
            size,
            """
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
optimizer = hvd.DistributedOptimizer(
    torch.optim.SGD(model.parameters(), lr=0.1), model.named_parameters()
)
kept = []
for step in range(8):
    local = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    local.load_state_dict(model.state_dict())
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(10 * step + rank))
    local(x).square().sum().backward()
    optimizer.zero_grad(set_to_none=step % 3 != 2)
    model(x).square().sum().backward()
    for mine, theirs in zip(model.parameters(), local.parameters()):
        stock = hvd.allreduce(theirs.grad, op=hvd.Average)
        # With three ranks the order of the sum depends on the place in the buffer.
        worst = float((mine.grad - stock).abs().max())
        assert worst == 0 if size == 2 else worst < 1e-6, (step, worst)
    if step % 3 == 0:
        kept.append([(p.grad, p.grad.clone()) for p in model.parameters()])
    optimizer.step()
# A gradient zeroed in place is the same tensor, as in stock; the others were left alone.
for grads in (kept[0], kept[2]):
    assert all(torch.equal(grad, copy) for grad, copy in grads) or grads is kept[2]
storages = {p.grad.untyped_storage().data_ptr() for p in model.parameters()}
assert len(storages) == 1, "gradients stand in one buffer"
""",
        )


def test_what_is_held_back_is_in_units_of_the_gradients(ranks):
    ranks(
        2,
        """
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.Linear(32, 32))
optimizer = hvd.DistributedOptimizer(
    torch.optim.SGD(model.parameters(), lr=0.0),
    model.named_parameters(),
    compression=hvd.Compression.topk(ratio=0.1, warmup_steps=0),
)
given = [torch.zeros_like(p) for p in model.parameters()]
received = [torch.zeros_like(p) for p in model.parameters()]
for step in range(6):
    optimizer.zero_grad()
    for i, p in enumerate(model.parameters()):
        g = torch.Generator().manual_seed(100 * step + 10 * i + rank)
        grad = torch.randn(p.shape, generator=g)
        given[i] += grad
        (p * grad).sum().backward()
    optimizer.step()
    for total, p in zip(received, model.parameters()):
        total += p.grad
    if step == 3:  # a checkpoint in between changes nothing
        optimizer.load_state_dict(optimizer.state_dict())
parts = optimizer.state_dict()["lightcc"]["residuals"]
for total, got, (name, p) in zip(given, received, model.named_parameters()):
    held = parts[name]["residual"] if name in parts else torch.zeros_like(p)
    assert torch.allclose(hvd.allreduce(total - held), got, atol=1e-5), name
""",
        LIGHT_TOPK_THRESHOLD="64",
    )
