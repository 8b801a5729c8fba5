"""Saving, restoring and sharing, with one rank."""

import copy

import pytest
import taco.lightcc.torch as hvd
import torch
from taco.lightcc.torch import functions
from taco.lightcc.torch.elastic import ElasticSampler, State, TorchState
from taco.lightcc.torch.elastic import state as states

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture
def model():
    return torch.nn.Linear(2, 1)


def train(model, optimizer, steps=1):
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("wrapped", [False, True])
def test_restore_undoes_what_was_not_committed_as_often_as_needed(model, wrapped):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    if wrapped:
        optimizer = hvd.DistributedOptimizer(optimizer, model.named_parameters())
    state = TorchState(model, optimizer, batch=3)
    train(model, optimizer, 2)
    state.batch = 4
    state.commit()
    at_commit = {name: value.clone() for name, value in model.state_dict().items()}
    ends = []
    for _ in range(2):
        train(model, optimizer, 3)
        state.batch = 9
        ends.append(model.weight.detach().clone())
        state.restore()
        assert state.batch == 4
        for name, value in model.state_dict().items():
            assert torch.equal(value, at_commit[name])
    assert torch.equal(*ends)  # the optimizer's state was restored, too


def test_sync_keeps_the_state_and_is_a_commit(model):
    state = TorchState(model, batch=1)
    state.batch = 2
    with torch.no_grad():
        model.weight.fill_(7.0)
    state.sync()
    with torch.no_grad():
        model.weight.zero_()
    state.restore()
    assert state.batch == 2
    assert model.weight.tolist() == [[7.0, 7.0]]


def test_another_model_may_take_the_place_of_one(model):
    state = TorchState(model)
    other = torch.nn.Linear(2, 1)
    state.model = other
    weight = other.weight.detach().clone()
    with torch.no_grad():
        other.weight.zero_()
    state.restore()
    assert torch.equal(other.weight, weight)
    assert state.model is other


def test_a_sampler_is_restored_and_reset(monkeypatch):
    sampler = ElasticSampler(range(8), shuffle=False)
    state = TorchState(sampler=sampler, optimizer=None)
    sampler.record_batch(0, 3)
    state.commit()
    sampler.record_batch(1, 3)
    state.restore()
    assert sampler.processed_num == 3
    assert list(sampler) == [3, 4, 5, 6, 7]
    monkeypatch.setattr("taco.lightcc.torch.elastic.sampler.size", lambda: 2)
    state.on_reset()
    assert list(sampler) == [3, 5, 7]


def test_changes_of_the_hosts_interrupt_after_the_commit():
    state = TorchState(step=1)
    for update, skip in (1, True), (2, False), (3, False):
        state.step += 1
        state.on_hosts_updated(update, update)
        with pytest.raises(hvd.HostsUpdatedInterrupt) as caught:
            state.commit()
        assert caught.value.skip_sync is skip
        state.step += 1
        state.restore()
        assert state.step == 1 + update
    state.on_hosts_updated(1, 2)  # an old one
    state.commit()


@pytest.mark.parametrize(("kind", "skip"), [("removed", True), ("added", False), ("mixed", False)])
def test_what_the_launcher_says_is_seen(kind, skip):
    state = TorchState(step=1)
    state.watch(lambda: kind)
    with pytest.raises(hvd.HostsUpdatedInterrupt) as caught:
        state.check_host_updates()
    assert caught.value.skip_sync is skip
    state.watch(lambda: None)
    state.check_host_updates()


def test_rank_0_decides():
    state = State(lambda value: 0, lambda: 1)
    state.watch(lambda: pytest.fail("not rank 0"))
    state.on_hosts_updated(1, 2)
    state.check_host_updates()


def test_callbacks_come_with_each_reset():
    state, called = TorchState(), []
    state.register_reset_callbacks([lambda: called.append("a"), lambda: called.append("b")])
    state.on_reset()
    assert called == ["a", "b"]


class PerRank(torch.optim.SGD):
    """An optimizer with something in its state_dict that is each rank's own."""

    own = None

    def state_dict(self):
        state = super().state_dict()
        return state if self.own is None else state | {"lightcc": {"residual": self.own}}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.own = state["lightcc"]["residual"] if "lightcc" in state else None


@pytest.fixture
def share(monkeypatch):
    """`share(handler, rank)` shares state as that rank would; rank 0 comes first."""
    sent = []

    def broadcast_object(obj, *_):
        if functions._state.runtime().rank == 0:
            sent.append(copy.deepcopy(obj))
        return sent[0]

    def broadcast_(tensor, root, name, process_set):
        if functions._state.runtime().rank == 0:
            sent.append(tensor.clone())
        else:
            tensor.copy_(sent[1 + int(name.rpartition(".")[2])])

    monkeypatch.setattr(functions, "broadcast_object", broadcast_object)
    monkeypatch.setattr(functions, "broadcast_", broadcast_)

    def run(handler, rank):
        monkeypatch.setattr(functions._state.runtime(), "rank", rank)
        handler.sync()

    return run


def test_what_is_each_ranks_own_is_not_shared(model, share):
    """Rank 0 and a rank that stayed keep theirs; a newcomer gets none. The rest is rank 0's."""
    models = [copy.deepcopy(model) for _ in range(3)]
    optimizers = [
        PerRank(each.parameters(), lr=0.1 + i, momentum=0.9) for i, each in enumerate(models)
    ]
    train(models[0], optimizers[0], 2)
    optimizers[0].own, optimizers[1].own = torch.ones(3), torch.full((3,), 5.0)
    for rank, optimizer in enumerate(optimizers):
        share(states.OptimizerStateHandler(optimizer), rank)
    for optimizer in optimizers[1:]:
        assert optimizer.param_groups[0]["lr"] == 0.1
        buffers = [state["momentum_buffer"].tolist() for state in optimizer.state.values()]
        assert buffers == [s["momentum_buffer"].tolist() for s in optimizers[0].state.values()]
    assert optimizers[0].own.tolist() == [1.0, 1.0, 1.0]
    assert optimizers[1].own.tolist() == [5.0, 5.0, 5.0]
    assert optimizers[2].own is None


def test_what_is_each_ranks_own_is_restored_under_another_rank(model, monkeypatch):
    optimizer = PerRank(model.parameters(), lr=0.1)
    optimizer.own = torch.ones(3)
    handler = states.OptimizerStateHandler(optimizer)
    optimizer.own = torch.zeros(3)
    monkeypatch.setattr(states, "rank", lambda: 4)
    loaded = []
    monkeypatch.setattr(optimizer, "load_state_dict", loaded.append)
    handler.reset()
    handler.restore()
    assert loaded[0]["lightcc"] == {"residual": loaded[0]["lightcc"]["residual"], "rank": 4}
    assert loaded[0]["lightcc"]["residual"].tolist() == [1.0, 1.0, 1.0]


def test_programs_may_bring_handlers_of_their_own(monkeypatch):
    class Handler(states.StateHandler):
        def save(self):
            self.saved = list(self.value)

        def restore(self):
            self.value[:] = self.saved

        def sync(self):
            pass

    kept = states.get_handler_registry()
    monkeypatch.setattr(states, "_registry", kept)
    states.set_handler_registry([(list, Handler), *kept])
    state = TorchState(items=[1])
    state.commit()
    state.items.append(2)
    state.restore()
    state.on_reset()
    assert state.items == [1]
