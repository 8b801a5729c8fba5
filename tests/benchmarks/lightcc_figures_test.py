"""LightCC's benchmark without any process: figures, verdicts, tables, cases, models."""

import json

import pytest
import torch

from benchmarks.lightcc import (
    accuracy,
    cases,
    claims,
    models,
    peer,
    process,
    report,
    rounds,
    shapes,
    training,
)
from benchmarks.lightcc import contestants as who

CASE = cases.Case("resnet50", 2, 2, 1000)


def turns(*seconds, group=0, sent=1e6):
    """Rounds of one step each."""
    return [
        {
            "group": group,
            "index": index,
            "seconds": [each],
            "processor_seconds": 0.5,
            "sent": sent,
            "received": sent / 2,
        }
        for index, each in enumerate(seconds)
    ]


def result(case=CASE, **contestants):
    """A case's result."""
    return {
        "case": case.to_json(),
        "groups": [list(contestants)],
        "contestants": {name: {"rounds": r, "note": ""} for name, r in contestants.items()},
        "elements": 25_000_000,
        "tensors": 161,
        "rtt_us": 0,
        "load": [0.5, 0.5, 0.5],
    }


def test_resnet50_has_the_papers_tensors():
    found = shapes.resnet50()
    assert (len(found), shapes.elements(found)) == (161, 25_557_032)
    assert found["stem.weight"] == (64, 3, 7, 7)
    assert found["stage4.2.expand.weight"] == (2048, 512, 1, 1)
    assert shapes.elements(shapes.transformer()) == cases._LARGEST["transformer"]
    assert len(shapes.scaled(found, 1e-3)) == 161


def test_gradients_come_last_first_heavy_tailed_and_never_twice_the_same():
    model = models.build("resnet50", 1 / 256, rank=0)
    arrived = []
    for name, parameter in model.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: arrived.append(name))

    def gradients(step):
        model.zero_grad()
        model(step).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    first, second = gradients(1), gradients(2)
    assert arrived[:161] == [name for name, _ in model.named_parameters()][::-1]
    squares = first.square().sort(descending=True).values
    assert 0.3 < squares[: len(squares) // 100].sum() / squares.sum() < 0.8
    together = torch.stack([first, second]).corrcoef()[0, 1]
    assert abs(together) < 0.1
    assert torch.stack([first, second]).abs().corrcoef()[0, 1] > 0.1, "large ones stay in place"
    assert torch.equal(gradients(1), first)
    other = models.build("resnet50", 1 / 256, rank=1)
    other(1).backward()
    assert not torch.equal(other.values["stem_weight"].grad.flatten(), first[: 64 // 256 or 1])


def test_ratios_are_of_one_round_and_of_those_side_by_side():
    # Noise that slows a whole round by ten leaves the ratio as it is.
    assert claims.faster(turns(1, 10), turns(2, 20)) == [2, 2]
    assert claims.faster(turns(1, 1, group=1), turns(5) + turns(3, 4, group=1)) == [3, 4]
    assert claims.faster(turns(1), turns(2, group=1)) == []


def test_a_step_cannot_be_shorter_than_the_link_needs():
    line = claims.lines(result(ddp=turns(1, 2, 3, sent=125e6)), ["ddp", "horovod"])[0]
    assert line.floor == pytest.approx(1.0)
    assert line.megabytes == pytest.approx(125)
    assert line.step.median == 2 and line.faster["horovod"] is None
    # 100 MB have to cross in each direction once.
    assert claims.dense_floor(result(ddp=turns(1))) == pytest.approx(0.8)
    unlimited = result(cases.Case("resnet50", 2, 2, 0), ddp=turns(1))
    assert claims.lines(unlimited, [])[0].floor is None


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.97, 0.98, 0.99], "same"),
        ([0.98, 0.99, 0.98], "within"),
        ([0.97, 0.97, 0.9701], "within"),
        ([0.90, 0.91, 0.90], "worse"),
        ([0.999, 0.999, 0.999], "better"),
    ],
)
def test_a_mode_is_judged_by_the_spread_of_seeds(values, verdict):
    dense = [0.97, 0.98, 0.99]
    assert claims.learned(values, dense, higher_is_better=True).verdict == verdict
    losses = [[1 - each for each in side] for side in (values, dense)]
    if verdict != "same":
        assert claims.learned(*losses, higher_is_better=False).verdict == verdict


def test_the_table_has_all_and_says_why_one_is_missing():
    measured = result(ddp=turns(0.9, 1.1), taco_topk=turns(0.1, 0.1, sent=2e6), horovod=[])
    measured["contestants"]["horovod"]["note"] = "rank 0's process ended: | exit status 1"
    table = "\n".join(report.training_table(measured))
    assert "### resnet50/2x2/1G" in table and "at least 800 ms of link" in table
    assert "| taco_topk | 100 [100, 100] | 10.00 [9.20, 10.80] | - | 2.0 | 16 | 500 |" in table
    assert "| horovod | not measured: rank 0's process ended: / exit status 1 |" in table
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1


def test_files_become_a_page_and_its_json(tmp_path):
    def run(kind, **more):
        return {
            "kind": kind,
            "command": f"python -m benchmarks.lightcc.{kind}",
            "started": "2026-01-01T00:00:00+00:00",
            "seconds": 5,
            "quick": False,
            "revision": {"commit": "0123456789abcdef", "modified": True},
            "machine": {"processor": "P", "processors": 2, "system": "Linux", "kernel": "6.1"},
            "missing": {},
            **more,
        }

    learned = {
        "task": "digits",
        "metric": "test accuracy",
        "higher_is_better": True,
        "ranks": 2,
        "modes": {
            "dense": {"values": [0.97, 0.98], "note": ""},
            "topk": {"values": [0.5, 0.5], "note": ""},
            "auto": {"values": [], "note": "out of | luck"},
        },
    }
    before = {"topk": {"values": [0.1], "note": ""}, "topk_dgc": {"values": [0.96], "note": ""}}
    earlier = {**learned, "modes": {**learned["modes"], **before}}
    files = []
    for number, content in enumerate(
        (
            run("accuracy", results=[earlier]),
            run("training", results=[result(ddp=turns(7))], missing={"horovod": "not installed"}),
            run("training", results=[result(ddp=turns(1), taco=turns(0.5))]),
            run("accuracy", results=[learned]),
        )
    ):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(content))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.main([*map(str, files), "--page", str(page)])
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "7000" not in text, "of a case done twice the last counts"
    assert "| taco | 500 [500, 500] | 2.00 [2.00, 2.00] |" in text
    assert "0.5000 | 0.0000 | +0.4750 | **worse** |" in text
    assert "not measured: out of / luck" in text
    kept = json.loads((tmp_path / "page.json").read_text())
    assert [len(kept[kind]) for kind in ("training", "accuracy")] == [1, 2]
    modes = [list(each["results"][0]["modes"]) for each in kept["accuracy"]]
    assert modes == [["dense", "topk_dgc"], ["dense", "topk", "auto"]]


def test_a_turn_is_as_long_as_its_slowest_rank():
    answers = [
        {"seconds": [1.0, 4.0], "processor_seconds": 1.0, "sent": 10, "received": 20},
        {"seconds": [2.0, 3.0], "processor_seconds": 2.0, "sent": 10, "received": 20},
        {"seconds": [1.0, 1.0], "processor_seconds": 3.0, "sent": 30, "received": 10},
        {"seconds": [1.0, 1.0], "processor_seconds": 4.0, "sent": 30, "received": 10},
    ]
    found = rounds.together(answers, per_machine=2)
    assert found["seconds"] == [2.0, 4.0]
    assert (found["processor_seconds"], found["sent"], found["received"]) == (5.0, 15.0, 10.0)


def test_turns_are_short_for_the_slow_and_rotate():
    assert rounds.steps_for(3.0, 10.0) == 3
    assert rounds.steps_for(3.0, 0.1) == 30
    assert rounds.steps_for(3.0, 0.0) == 100
    assert [rounds.turns(["a", "b", "c"], i)[0] for i in range(4)] == ["a", "b", "c", "a"]
    assert rounds.turns([], 1) == []


@pytest.mark.parametrize("memory", [1 << 30, 8 << 30, 16 << 30, 256 << 30])
def test_every_group_has_the_anchors_and_nobody_is_left_out(memory):
    names = who.taking_part(CASE, list(who.CONTESTANTS))
    parts = who.groups(CASE, names, memory)
    assert {name for part in parts for name in part} == set(names)
    assert all(part[:2] == ["ddp", "horovod"] for part in parts)
    assert all(len(part) <= 3 or len(part) * CASE.footprint <= memory for part in parts)


def test_levels_need_machines_of_several_ranks():
    single = cases.Case("resnet50", 2, 1, 0)
    assert "taco_2d" not in who.taking_part(single, list(who.CONTESTANTS))
    assert who.CONTESTANTS["taco_2d"].variables(CASE)["LIGHT_INTRA_SIZE"] == "2"


def test_cases_combine_and_survive_json():
    made = cases.matrix(["resnet50", "characters"], ["2x1", "2x2"], [1000, 0], 1.0)
    assert len({case.name for case in made}) == 8
    assert [cases.Case.from_json(case.to_json()) for case in made] == made
    assert {case.model for case in cases.plan(1.0)} == set(models.MODELS)
    for models_, layouts in ((["vgg"], ["2x1"]), (["resnet50"], ["2"]), (["resnet50"], ["0x2"])):
        with pytest.raises(ValueError, match="vgg|layout"):
            cases.matrix(models_, layouts, [0], 1.0)


def test_the_command_line_refuses_what_is_not_there(capsys):
    for parse, wrong in (
        (training.parse, ["--contestants", "nccl"]),
        (training.parse, ["--layouts", "two"]),
        (accuracy.parse, ["--modes", "sparse"]),
    ):
        with pytest.raises(SystemExit):
            parse(wrong)
    assert "no contestant nccl" in capsys.readouterr().err
    assert accuracy.parse(["--modes", "topk"]).modes == ["dense", "topk"]
    assert accuracy.modes_for(["dense", "2d_topk"], 2) == ["dense"]


def test_ranks_do_not_inherit_another_launchers_variables(monkeypatch):
    monkeypatch.setenv("HOROVOD_RANK", "7")
    monkeypatch.setenv("LIGHT_MODE", "auto")
    made = process.environment({"HOROVOD_SIZE": "2"})
    assert {k: v for k, v in made.items() if k.startswith(("HOROVOD_", "LIGHT_"))} == {
        "HOROVOD_SIZE": "2"
    }


def test_a_failed_build_is_explained_by_its_first_error():
    log = (
        "$ pip install\nok\n$ pip wheel\n[ 10%] x\na.cc:5: error: no such type\nmake: *** Error 2\n"
    )
    assert peer._cause(log) == "a.cc:5: error: no such type"
    assert peer._cause("$ x\nlast words\n") == "last words"


def test_an_environment_for_another_pytorch_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(peer, "LOCK", tmp_path / "horovod.lock")
    peer.LOCK.write_text("horovod==0.28.1\n")
    assert not peer.is_current(tmp_path)
    (tmp_path / peer._STAMP).write_text(peer._fingerprint())
    assert peer.is_current(tmp_path)
    monkeypatch.setattr(peer.torch, "__version__", "1.0")
    assert not peer.is_current(tmp_path)
    with pytest.raises(peer.PeerError, match="not built"):
        peer.python(tmp_path, build=False)
