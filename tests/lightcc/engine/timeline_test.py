"""The timeline is a trace that tools read, whenever it is closed."""

import json

import pytest
from taco.lightcc.engine import requests as rq
from taco.lightcc.engine.requests import Request, Response, TensorSpec
from taco.lightcc.engine.timeline import Timeline

REQUEST = Request(rq.ALLREDUCE, "allreduce.x", tensors=(TensorSpec("float32", (3,)),), op="sum")
RESPONSE = Response(rq.ALLREDUCE, ("allreduce.x",), tensors=REQUEST.tensors, counts=(1,), op="sum")


def play(timeline):
    timeline.observe("request", (0, REQUEST))
    timeline.observe("request", (1, REQUEST))
    timeline.observe("response", RESPONSE)
    timeline.span(RESPONSE, "ALLREDUCE", True, bytes=12)
    timeline.span(RESPONSE, "ALLREDUCE", False)


def test_every_begin_has_its_end(tmp_path):
    timeline = Timeline()
    timeline.start(str(tmp_path / "t.json"), mark_cycles=True)
    play(timeline)
    timeline.stop()
    events = json.loads((tmp_path / "t.json").read_text())
    phases = [(e["name"], e["ph"]) for e in events if e["ph"] in "BE"]
    assert phases == [
        ("NEGOTIATE_ALLREDUCE", "B"),
        ("NEGOTIATE_ALLREDUCE", "E"),
        ("ALLREDUCE", "B"),
        ("ALLREDUCE", "E"),
    ]
    assert {e["name"] for e in events} >= {"0", "1", "CYCLE_START"}


def test_a_timeline_stopped_in_the_middle_is_whole(tmp_path):
    timeline = Timeline()
    timeline.start(str(tmp_path / "t.json"))
    timeline.observe("request", (0, REQUEST))
    timeline.stop()
    events = json.loads((tmp_path / "t.json").read_text())
    assert [e["ph"] for e in events if e["name"].startswith("NEGOTIATE")] == ["B", "E"]


def test_without_a_file_nothing_happens_and_a_bad_path_is_an_error(tmp_path):
    timeline = Timeline()
    play(timeline)
    timeline.stop()
    with pytest.raises(OSError, match="no/such"):
        timeline.start(str(tmp_path / "no/such/t.json"))
    assert not timeline.active
