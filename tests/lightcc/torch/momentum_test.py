"""Momentum where TopK delays gradients: SGD's and Adam's, beside stock optimizers."""

import pytest
import torch
from taco.lightcc._settings import Settings
from taco.lightcc.adaptive.execution import _flush, _move
from taco.lightcc.adaptive.residuals import BucketState
from taco.lightcc.torch.compression import Compression
from taco.lightcc.torch.momentum import Correction, correction_of

from tests.lightcc.torch._training import TRAINING as _WORLD

# Stock optimizers get the gradients that the wrapped one gets, and have to come to the same bits.
_BESIDE_STOCK = (
    _WORLD
    + """
stock = make()
optimizer = hvd.DistributedOptimizer(
    OPTIMIZER(model.parameters(), lr=0.01 OPTIONS), model.named_parameters(),
    groups=[list(model[0].parameters()), list(model[2].parameters())],
)
twins = [
    OPTIMIZER(stock[0].parameters(), lr=0.01, betas=(FIRST, 0.999) OPTIONS),
    OPTIMIZER(stock[2].parameters(), lr=0.01 OPTIONS),
]
for step in range(12):
    optimizer.zero_grad()
    loss_of(model, data(step, rank)).backward()
    optimizer.synchronize()
    for mine, twin in zip(model.parameters(), stock.parameters()):
        twin.grad = mine.grad.clone()
    with optimizer.skip_synchronize():
        optimizer.step()
    for twin in twins:
        twin.step()
    assert torch.equal(flat(model), flat(stock)), step
same_everywhere(model)
# The first layer is large enough for TopK, the second is not.
found = sorted(each.mode.split("=")[0] for each in hvd.explain().buckets)
assert found == ["flat", "flat+topk"], found
assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)
assert len(optimizer.param_groups) == 1
"""
)
_TOPK = {
    "LIGHT_TOPK_ALLREDUCE": "1",
    "LIGHT_TOPK_RATIO": "0.05",
    "LIGHT_TOPK_THRESHOLD": "8192",
    "LIGHT_TOPK_WARMUP": "0",
}


@pytest.mark.parametrize(
    "name, options, variables, first",
    [
        ("torch.optim.Adam", "", {}, 0.0),
        ("torch.optim.Adam", ", fused=True, amsgrad=True", {}, 0.0),
        ("torch.optim.AdamW", ", weight_decay=0.1, foreach=True", {}, 0.0),
        ("torch.optim.Adam", "", {"TACO_TOPK_MOMENTUM": "keep"}, 0.9),
    ],
)
def test_adam_beside_stock(ranks, name, options, variables, first) -> None:
    program = _BESIDE_STOCK.replace("OPTIMIZER", name).replace("OPTIONS", options)
    ranks(2, program.replace("FIRST", str(first)), **_TOPK, **variables)


# What a rank sends is what was there without what stays: its sum over the ranks is the gradient.
_REFERENCE = (
    _WORLD
    + """
ADAM = NAME == "Adam"
beta, gain = 0.9, 0.1 if ADAM else 1.0
made = (
    torch.optim.Adam(model.parameters(), lr=0.01)
    if ADAM
    else torch.optim.SGD(model.parameters(), lr=0.01, momentum=beta)
)
optimizer = hvd.DistributedOptimizer(made, model.named_parameters())
n = flat(model).numel()
velocity, residual = torch.zeros(n), torch.zeros(n)
names = [name for name, _ in model.named_parameters()]
for step in range(12):
    twin = make()
    twin.load_state_dict(model.state_dict())
    loss_of(twin, data(step, rank)).backward()
    gradient = torch.cat([each.grad.flatten() for each in twin.parameters()]) / size
    optimizer.zero_grad()
    loss_of(model, data(step, rank)).backward()
    optimizer.synchronize()
    reduced = torch.cat([each.grad.flatten() for each in model.parameters()])
    parts = optimizer.state_dict()["lightcc"]["residuals"]
    held = {
        kind: torch.cat([parts[name][kind].flatten() for name in names]) / size
        for kind in ("residual", "velocity")
    }
    velocity = beta * velocity + gain * gradient
    sent = residual + velocity - held["residual"]
    gone = held["velocity"] == 0
    assert 0.01 < gone.float().mean() < 0.2, gone.float().mean()
    assert torch.allclose(sent[~gone], torch.zeros(()), atol=1e-6)
    assert torch.allclose(held["velocity"][~gone], velocity[~gone], rtol=1e-4, atol=1e-7)
    assert torch.allclose(sum(hvd.allgather_object(sent)), reduced, rtol=1e-4, atol=1e-6)
    velocity, residual = held["velocity"], held["residual"]
    with optimizer.skip_synchronize():
        optimizer.step()
same_everywhere(model)
"""
)


@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_local_momentum_is_applied_before_the_selection(ranks, name) -> None:
    variables = {**_TOPK, "LIGHT_TOPK_THRESHOLD": "0", "TACO_TOPK_MOMENTUM": "local"}
    ranks(2, _REFERENCE.replace("NAME", repr(name)), **variables)


def test_momentum_correction_with_all_elements_is_momentum(ranks) -> None:
    ranks(
        2,
        _WORLD
        + """
stock = make()
plain = torch.optim.SGD(stock.parameters(), lr=0.1, momentum=0.9, weight_decay=0.0)
optimizer = hvd.DistributedOptimizer(
    torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    model.named_parameters(),
    compression=hvd.Compression.topk(1.0, momentum_correction=True),
)
for step in range(10):
    plain.zero_grad()
    (sum(loss_of(stock, data(step, r)) for r in range(size)) / size).backward()
    plain.step()
    optimizer.zero_grad()
    loss_of(model, data(step, rank)).backward()
    optimizer.step()
same_everywhere(model)
assert torch.allclose(flat(model), flat(stock), atol=1e-5), (flat(model) - flat(stock)).abs().max()
assert optimizer.param_groups[0]["momentum"] == 0.9
""",
    )


def test_velocity_is_state(ranks) -> None:
    ranks(
        2,
        _WORLD
        + """
def build():
    model = make()
    return model, hvd.DistributedOptimizer(
        torch.optim.AdamW(model.parameters(), lr=0.01), model.named_parameters(),
        compression=hvd.Compression.topk(0.05, momentum_correction=True), groups=1,
    )

def train(model, optimizer, steps):
    for step in steps:
        optimizer.zero_grad()
        loss_of(model, data(step, rank)).backward()
        optimizer.step()

import copy
model, optimizer = build()
train(model, optimizer, range(6))
saved, weights = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(model.state_dict())
again, second = build()
again.load_state_dict(weights)
second.load_state_dict(saved)
back = second.state_dict()
kept = saved["lightcc"]["residuals"]
assert {kind for each in kept.values() for kind in each} == {"residual", "velocity"}
for name, parts in back["lightcc"]["residuals"].items():
    assert all(torch.equal(parts[kind], kept[name][kind]) for kind in kept[name])
# What TopK carried was applied in full: its first moment is nothing to go on with.
moments = [each["exp_avg"] for each in saved["state"].values()]
assert moments and not any(bool(each.any()) for each in moments)
train(again, second, range(6, 12))
same_everywhere(again)
""",
        LIGHT_TOPK_THRESHOLD="0",
    )


def test_adam_begins_its_first_moment_anew_where_topk_ends() -> None:
    torch.manual_seed(0)
    param, other, twin = (torch.nn.Parameter(torch.ones(8)) for _ in range(3))
    optimizer, stock = torch.optim.Adam([param, other]), torch.optim.Adam([twin])
    correction = Correction(adam=True)
    for step, sparse in enumerate([{param}, {param}, set(), set()]):
        gradient = torch.randn(8)
        for each in (param, other, twin):
            each.grad = gradient.clone()
        stock.param_groups[0]["betas"] = (0.0 if sparse else 0.9, 0.999)
        if step == 2:
            stock.state[twin]["exp_avg"].zero_()
            saved = optimizer.state_dict()
            before = saved["state"][0]["exp_avg"].clone()
            correction.settle(optimizer, saved)
            assert float(before.abs().sum()) > 0
            assert float(saved["state"][0]["exp_avg"].abs().sum()) == 0.0
            assert float(saved["state"][1]["exp_avg"].abs().sum()) > 0
            assert torch.equal(optimizer.state[param]["exp_avg"], before)  # its own is as it was
        with correction.step(optimizer, sparse):
            optimizer.step()
        stock.step()
        assert torch.equal(param, twin), step


@pytest.mark.parametrize("mean", [False, True])
def test_momentum_goes_on_in_other_levels(mean: bool) -> None:
    torch.manual_seed(1)
    beta, (residual, velocity, gradient) = 0.9, torch.randn(3, 5)
    state = BucketState(beta, mean=mean, residual=residual.clone(), velocity=velocity.clone())
    tensor = gradient.clone()
    _move(tensor, state)
    assert state.velocity is None
    assert float(state.residual.abs().sum()) == 0.0
    # All that is to come, if nothing is ever sent: a geometric series.
    due = residual + (beta * velocity + state.gain * gradient) / (1 - beta)
    assert torch.allclose(state.gain * tensor / (1 - beta), due, atol=1e-4)


def test_what_momentum_had_before_it_goes_dense_is_not_lost() -> None:
    torch.manual_seed(2)
    beta, (residual, velocity, gradient) = 0.9, torch.randn(3, 5)
    adam = BucketState(beta, mean=True, residual=residual.clone(), velocity=velocity.clone())
    adam.sparse = True
    tensor = gradient.clone()
    _flush(tensor, adam)
    assert torch.allclose(tensor, gradient + residual + velocity * beta / (1 - beta), atol=1e-5)
    assert (adam.velocity, adam.residual, adam.sparse) == (None, None, False)
    tensor = gradient.clone()
    _flush(tensor, adam)
    assert torch.equal(tensor, gradient)  # Adam has its own
    sgd = BucketState(beta, residual=residual.clone(), velocity=velocity.clone())
    tensor = gradient.clone()
    _flush(tensor, sgd)
    assert torch.allclose(tensor, residual + beta * velocity + gradient, atol=1e-6)


def _settings(**more) -> Settings:
    return Settings(light_topk_allreduce=True, **more)


def test_what_is_done_for_whom(caplog) -> None:
    params = [torch.nn.Parameter(torch.ones(2))]
    adam, sgd = torch.optim.Adam(params), torch.optim.SGD(params, lr=0.1, momentum=0.5)
    for optimizer, dense in ((adam, Settings()), (sgd, _settings())):
        correction = correction_of(optimizer, Compression.none, dense)
        assert (correction.local, correction.adam) == (0.0, False)
    for settings in (_settings(), Settings(light_mode="auto")):
        correction = correction_of(adam, Compression.none, settings)
        assert (correction.local, correction.adam) == (0.0, True)
    local = _settings(taco_topk_momentum="local")
    assert correction_of(adam, Compression.none, local) == Correction(0.9, adam=True)
    assert correction_of(sgd, Compression.none, local) == Correction(0.5)
    assert not caplog.records
    rprop = torch.optim.Rprop(params)
    assert correction_of(rprop, Compression.none, local) == Correction()
    assert "TACO_TOPK_MOMENTUM=local is left aside: it needs torch.optim.Adam" in caplog.text


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda them: torch.optim.SGD(them, lr=0.1), "torch.optim.SGD with one momentum above 0"),
        (
            lambda them: torch.optim.SGD(them, lr=0.1, momentum=0.9, nesterov=True),
            "nesterov=False",
        ),
        (torch.optim.Rprop, "torch.optim.Adam or AdamW"),
        (lambda them: torch.optim.Adam(them, betas=(0.0, 0.999)), "one first beta above 0"),
    ],
)
def test_momentum_correction_needs_a_momentum_that_it_knows(make, said) -> None:
    params = [torch.nn.Parameter(torch.ones(2))]
    compression = Compression.topk(momentum_correction=True)
    with pytest.raises(ValueError, match="momentum_correction needs") as error:
        correction_of(make(params), compression, Settings())
    assert said in str(error.value)
