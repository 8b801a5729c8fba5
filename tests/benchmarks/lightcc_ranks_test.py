"""LightCC's benchmark from end to end, tiny: real ranks, links where they can be had."""

import json

import pytest

from benchmarks.lightcc import accuracy, cases, links, process, report, rounds


def test_contestants_take_turns_over_a_link(tmp_path):
    settings = rounds.Settings(
        tmp_path, ("ddp", "taco_topk"), rounds=2, turn_seconds=0.0, warm_up_seconds=0.0
    )
    try:
        found = rounds.run(cases.Case("resnet50", 2, 1, 1000, scale=1 / 16), settings)
    except links.LinksUnavailable as error:
        pytest.skip(str(error))
    sent = {}
    for name, contestant in found["contestants"].items():
        assert [r["index"] for r in contestant["rounds"]] == [0, 1], contestant["note"]
        assert all(len(r["seconds"]) == 3 for r in contestant["rounds"])
        sent[name] = contestant["rounds"][-1]["sent"]
    # Dense: each of two ranks sends its gradients once.
    assert 1 < sent["ddp"] / (4 * found["elements"]) < 1.1
    assert sent["taco_topk"] < sent["ddp"] / 4
    assert found["tensors"] == 161
    assert len(report.training_table(found)) > 8


def test_modes_learn_from_the_same_batches(tmp_path):
    file = tmp_path / "accuracy.json"
    flags = ["--quick", "--tasks", "text", "--ranks", "2", "--modes", "topk"]
    assert accuracy.main([*flags, "--seeds", "2", "--json", str(file)]) == 0
    (result,) = json.loads(file.read_text())["results"]
    dense, topk = (result["modes"][mode] for mode in ("dense", "topk"))
    assert len(dense["values"]) == len(topk["values"]) == 2, topk["note"]
    assert dense["values"] != topk["values"], "TopK did not act"


def test_a_rank_that_dies_gives_the_reason(tmp_path):
    log = tmp_path / "log"
    argv = ["sh", "-c", "echo it is so >&2; exit 3"]
    with (
        process.Ranks(process.local, [0], [argv], [{}], log) as ranks,
        pytest.raises(process.ContestantError, match="exit status 3; last words: it is so"),
    ):
        ranks.greetings(20)


def test_a_rank_that_says_nothing_is_waited_for_no_longer_than_told(tmp_path):
    with (
        process.Ranks(process.local, [0], [["sleep", "60"]], [{}], tmp_path / "log") as ranks,
        pytest.raises(process.ContestantError, match="no answer within 0 s from ranks 0"),
    ):
        ranks.greetings(0.1)
