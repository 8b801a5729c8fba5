"""In a new round a DistributedOptimizer begins as that of a newcomer does."""

import pytest
import taco.lightcc.torch as hvd
import torch
from taco.lightcc.engine.runtime import Runtime
from taco.lightcc.torch import _state

pytestmark = pytest.mark.usefixtures("alone")

ONE_BY_ONE = {"allreduce.weight", "allreduce.bias"}


@pytest.fixture
def names(monkeypatch):
    """`names(model, optimizer)` trains a step, and gives what was handed in."""
    monkeypatch.setenv("HOROVOD_ELASTIC", "1")
    seen = []
    submit = Runtime.submit

    def note(self, request, *rest):
        seen.append(request.name)
        return submit(self, request, *rest)

    monkeypatch.setattr(Runtime, "submit", note)

    def step(model, optimizer):
        seen.clear()
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        return {name for name in seen if not name.startswith("broadcast")}

    return step


@pytest.fixture
def model():
    return torch.nn.Linear(2, 1)


def wrapped(model, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return hvd.DistributedOptimizer(optimizer, model.named_parameters(), **options)


def begin_round():
    hvd.shutdown()
    hvd.init()


@pytest.mark.parametrize("kept", [True, False])
def test_buckets_are_cut_again(model, names, kept):
    """With the optimizer in the elastic state, and by itself where the program forgot that."""
    optimizer = wrapped(model)
    state = hvd.elastic.TorchState(model, optimizer if kept else None)
    for _ in range(2):
        assert [names(model, optimizer) for _ in range(2)] == [ONE_BY_ONE, ONE_BY_ONE]
        cut = names(model, optimizer)
        assert len(cut) == 1 and cut == names(model, optimizer)
        assert "bucket" in next(iter(cut))
        begin_round()
        state.on_reset()


def test_what_was_in_progress_is_forgotten(model, names):
    optimizer = wrapped(model)
    state = hvd.elastic.TorchState(model, optimizer)
    model(torch.ones(1, 2)).sum().backward()
    begin_round()
    state.on_reset()
    assert names(model, optimizer) == ONE_BY_ONE


def test_groups_stay_and_nobody_is_asked_for_them(model, names, monkeypatch):
    """A newcomer makes its optimizer while the others are elsewhere."""
    with monkeypatch.context() as patch:
        patch.setattr(_state.runtime(), "submit", lambda *_: pytest.fail("asked the other ranks"))
        optimizer = wrapped(model, groups=1)
    state = hvd.elastic.TorchState(model, optimizer)
    before = [names(model, optimizer) for _ in range(3)]
    begin_round()
    state.on_reset()
    assert [names(model, optimizer) for _ in range(3)] == before
    assert len(before[0]) == 1


def test_groups_that_differ_never_have_the_same_name(names):
    """Otherwise gradients of different parameters would be added up."""
    found = []
    for order in ("0.weight", "0.bias", "1.bias"), ("0.weight", "1.bias", "0.bias"):
        model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Linear(1, 1))
        group = [model.get_parameter(name) for name in order]
        found.append(names(model, wrapped(model, groups=[group])))
    assert len(found[0]) == len(found[1]) == 2
    assert len(found[0] & found[1]) == 1  # the group of what is in none


def test_who_takes_part_is_asked_again(model, names, monkeypatch):
    ranks = hvd.global_process_set
    monkeypatch.setattr(ranks, "included", lambda: False)
    optimizer = wrapped(model)
    assert names(model, optimizer) == set()
    begin_round()
    monkeypatch.setattr(ranks, "included", lambda: True)
    assert names(model, optimizer) == ONE_BY_ONE


def test_what_topk_holds_back_is_scaled_with_the_world(model, monkeypatch):
    """It is due as a part of an average over the ranks."""
    average, total = wrapped(model), wrapped(model, op=hvd.Sum)
    with monkeypatch.context() as patch:
        patch.setattr(_state, "last_rank_and_size", lambda: (2, 4))
        for optimizer in average, total:
            optimizer._reducer.load_residuals({"weight": {"residual": torch.tensor([[4.0, 8.0]])}})
        states = [hvd.elastic.TorchState(optimizer=each) for each in (average, total)]
    monkeypatch.setattr(_state.runtime(), "size", 4)
    begin_round()
    for state, optimizer, left in zip(states, (average, total), (1.0, 4.0), strict=True):
        state.on_reset()
        assert optimizer._reducer.residuals()["weight"]["residual"].tolist() == [[left, 2 * left]]
        state.restore()  # the commit is of the old world
        assert optimizer._reducer.residuals()["weight"]["residual"].tolist() == [[left, 2 * left]]
