"""The loop around the training function, without a launcher."""

import pytest
import taco.lightcc.torch as hvd
from taco.lightcc.torch.elastic import ObjectState, run_fn


@pytest.fixture
def state():
    return ObjectState(lambda value: value, lambda: 0, step=0)


class Failing:
    """A training function that raises these, one a call, and then returns."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.seen = []

    def __call__(self, state):
        self.seen.append(state.step)
        state.step += 1
        if self.errors:
            raise self.errors.pop(0)
        return state.step


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (hvd.HorovodInternalError("gone"), 1),
        (hvd.HostsUpdatedInterrupt(skip_sync=False), 2),
        (hvd.HostsUpdatedInterrupt(skip_sync=True), 2),
    ],
)
def test_failures_restore_and_updates_do_not(state, error, end):
    resets = []
    assert run_fn(Failing(error), lambda: resets.append(1))(state) == end
    assert resets == [1]


def test_state_is_shared_unless_hosts_only_went(state, monkeypatch):
    shared = []
    monkeypatch.setattr(state, "sync", lambda: shared.append(state.step))
    errors = [hvd.HostsUpdatedInterrupt(True), hvd.HostsUpdatedInterrupt(False)]
    run_fn(Failing(*errors), lambda: None)(state)
    assert shared == [0, 2]


def test_a_failure_while_ranks_meet_again_is_a_failure_as_any(state):
    troubles = [hvd.HorovodInternalError("gone")]
    called, resets = [], []

    def callback():
        called.append(1)
        if troubles:
            raise troubles.pop()

    state.register_reset_callbacks([callback])
    train = Failing(hvd.HostsUpdatedInterrupt(True))
    assert run_fn(train, lambda: resets.append(1))(state) == 1
    assert (len(called), len(resets)) == (2, 2)


def test_other_errors_are_the_programs_own(state):
    with pytest.raises(KeyError):
        run_fn(Failing(KeyError("x")), lambda: None)(state)


def test_outside_an_elastic_job_an_error_is_not_caught(alone):
    @hvd.elastic.run
    def train(state, by, *, more):
        state.step += by + more
        if more:
            raise hvd.HorovodInternalError("gone")
        return state.step

    state = hvd.elastic.TorchState(step=1)
    assert train(state, 2, more=0) == 3
    with pytest.raises(hvd.HorovodInternalError):
        train(state, 2, more=1)


def test_an_elastic_job_needs_its_launcher(alone, monkeypatch):
    monkeypatch.setenv("HOROVOD_ELASTIC", "1")
    with pytest.raises(ValueError, match="taco run --min-np"):
        hvd.elastic.run(lambda state: None)(hvd.elastic.TorchState())
