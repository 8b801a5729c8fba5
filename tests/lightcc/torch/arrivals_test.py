"""When gradients arrive: by the clock on the CPU, by events on a GPU."""

import pytest
import torch
from taco.lightcc.torch import arrivals
from taco.lightcc.torch.arrivals import Arrivals


class _Param:
    def __init__(self, device: str) -> None:
        self.device = torch.device(device)


class _Event:
    """Of a device that has done the n-th kernel n milliseconds later."""

    made = 0
    waited = 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self, stream: str) -> None:
        assert stream == "stream of cuda:0"
        _Event.made += 1
        self.at = _Event.made

    def synchronize(self) -> None:
        _Event.waited = self.at

    def elapsed_time(self, later: "_Event") -> float:
        assert later.at <= _Event.waited, "asked before it was there"
        return float(later.at - self.at)


def test_the_order_is_that_of_arrival() -> None:
    found = Arrivals()
    for name in "cab":
        found.note(name, _Param("cpu"), timed=True)
    assert found.names == ["c", "a", "b"]
    times = list(found.seconds().values())
    assert times[0] == 0 and times == sorted(times)


def test_on_a_gpu_it_is_the_devices_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals.torch.cuda, "Event", _Event)
    monkeypatch.setattr(arrivals.torch.cuda, "current_stream", lambda of: f"stream of {of}")
    found = Arrivals()
    for name in "cab":
        found.note(name, _Param("cuda:0"), timed=True)
    assert found.seconds() == {"c": 0.0, "a": 1e-3, "b": 2e-3}


def test_where_nobody_asks_no_time_is_taken() -> None:
    found = Arrivals()
    assert found.seconds() == {}
    found.note("a", _Param("cpu"), timed=True)
    found.note("b", _Param("cpu"), timed=False)
    assert found.names == ["a", "b"] and found.seconds() == {}
