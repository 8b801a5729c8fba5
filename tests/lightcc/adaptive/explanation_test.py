"""What `hvd.explain()` says is what ran, for this rank's eyes, in a table and as JSON."""

import json

import pytest
from taco.lightcc.adaptive.cost import Costs, Link
from taco.lightcc.adaptive.explanation import Explanation, explain
from taco.lightcc.adaptive.mode import Mode, parse
from taco.lightcc.adaptive.policy import Policy
from taco.lightcc.adaptive.rules import Rules

from tests.lightcc.adaptive._worlds import HOSTS, executed, response, run_step

COSTS = Costs(Link(5e-6, 1e-10), Link(5e-5, 8e-9), 4e-10, 4e-9, 2e-10)


def explained(rules, steps, buckets, seconds=lambda bucket, mode: 1e-3, events=()):
    """Rank 0's view after some steps."""
    policy = Policy(rules, lambda response: HOSTS)
    policy.calibrated(0, COSTS)
    for _ in range(steps):
        run_step(policy, buckets, seconds, lambda modes: 1.0)
    latest = [
        (bucket, known.last)
        for bucket in buckets
        for known in policy.buckets()
        if (known.set_id, known.name) == (bucket.set_id, bucket.names[0])
    ]
    return explain(0, latest, policy, events), policy


def test_other_ranks_say_what_they_saw_and_no_more():
    latest = [(response("a"), executed(Mode(2, 0.01), 2e-3))]
    found = explain(3, latest, None, [])
    (bucket,) = found.buckets
    assert (found.rank, found.links) == (3, {})
    assert (bucket.name, bucket.nbytes, bucket.mode) == ("a", 4 << 20, "2d+topk=0.01")
    assert (bucket.predicted, bucket.dense, bucket.why) == (None, None, "")
    assert (bucket.measured, bucket.sent, bucket.residual) == (2e-3, {"across": 1}, 0.5)


@pytest.mark.parametrize(
    ("rules", "wish", "why"),
    [
        (Rules(topk=True), "gradient:topk=0.1", "asked for by compression="),
        (Rules(topk=True), "gradient", "LIGHT_TOPK_ALLREDUCE"),
        (Rules(topk=True, levels=2), "gradient", "LIGHT_TOPK_ALLREDUCE, LIGHT_2D_ALLREDUCE"),
        (
            Rules(topk=True, topk_threshold=1 << 30),
            "gradient",
            "below LIGHT_TOPK_THRESHOLD=1073741824",
        ),
        (
            Rules(topk=True, ratio=0.9),
            "gradient",
            "no float, or a ratio of TopK at which dense is as short",
        ),
        (
            Rules(levels=2, hierarchical_threshold=9),
            "gradient",
            "above LIGHT_HIERARCHICAL_THRESHOLD=9",
        ),
        (Rules(), "gradient", "the default: no LIGHT_* variable asks for more"),
    ],
)
def test_rules_and_wishes_are_named(rules, wish, why):
    found, _ = explained(rules, 3, [response(mode=wish)])
    assert found.buckets[0].why == why


def test_the_guards_reason_comes_first_while_topk_runs():
    bucket = response()
    found, policy = explained(Rules(topk=True), 50, [bucket])
    policy.loss(float("nan"))
    run_step(policy, [bucket], lambda bucket, mode: 1.0, lambda modes: 1.0)
    found = explain(0, [(bucket, policy.buckets()[0].last)], policy, [])
    assert found.buckets[0].mode == "flat+topk=0.02"
    assert found.buckets[0].why == "the loss is nan"


def test_a_choice_says_what_was_predicted_what_dense_took_and_why():
    true = {Mode(): 0.05, Mode(2): 0.02}
    found, _ = explained(
        Rules(auto=True, lossy=False), 100, [response()], lambda bucket, mode: true[mode.family]
    )
    (bucket,) = found.buckets
    assert bucket.mode == "2d"
    assert bucket.predicted == pytest.approx(0.02, rel=0.1)
    assert (bucket.measured, bucket.dense) == (0.02, 0.05)
    assert bucket.why == "measured 20.00 ms, dense flat 50.00 ms"
    assert bucket.residual is None
    assert found.links["0/cpu"]["across"]["per_byte"] == 8e-9


def test_a_guards_reason_is_none_for_a_mode_that_was_chosen_by_its_time():
    true = {Mode(): 0.05, Mode(2): 0.02, Mode(1, 1.0): 0.005, Mode(2, 1.0): 0.004}
    bucket = response(dtype="bfloat16")

    def seconds(bucket, mode):
        return true[mode.family]

    def steps(policy, count):
        for _ in range(count):
            run_step(policy, [bucket], seconds, lambda modes: true[modes[0].family])

    policy = Policy(Rules(auto=True), lambda response: HOSTS)
    policy.calibrated(0, COSTS)
    steps(policy, 200)
    for _ in range(6):
        steps(policy, 30)
        policy.loss(float("nan"))
    steps(policy, 200)
    assert policy.buckets()[0].guard.dense
    found = explain(0, [(bucket, policy.buckets()[0].last)], policy, [])
    assert found.buckets[0].mode == "2d"
    assert found.buckets[0].why == "measured 20.00 ms, dense flat 50.00 ms"


def test_measured_is_the_median_of_the_last_executions():
    times = iter([1.0, 9.0, 2.0, 3.0, 100.0])
    found, _ = explained(Rules(), 5, [response()], lambda bucket, mode: next(times))
    assert found.buckets[0].measured == 3.0


def test_buckets_of_one_name_in_two_sets_are_told_apart():
    buckets = [response(set_id=0), response(mode="gradient:topk=0.1", set_id=1)]
    found, _ = explained(Rules(topk=True), 3, buckets)
    assert [each.why for each in found.buckets] == [
        "LIGHT_TOPK_ALLREDUCE",
        "asked for by compression=",
    ]


def test_it_is_a_table_for_people_and_json_for_programs():
    found, _ = explained(Rules(topk=True), 3, [response(), response("b", 10)], events=["so it is"])
    lines = str(found).splitlines()
    assert lines[0].split() == [
        *("bucket", "MB", "mode", "predicted", "measured"),
        *("dense", "bytes", "sent", "why"),
    ]
    assert lines[1].split()[:5] == ["bucket.0", "4.19", "flat+topk=0.01", "-", "1.00"]
    assert lines[2].startswith("b ")
    assert lines[3:] == ["so it is"]
    assert lines[0].index("mode") == lines[1].index("flat") == lines[2].index("flat")
    data = json.loads(json.dumps(found.to_dict()))
    assert data["buckets"][1]["name"] == "b"
    assert data["events"] == ["so it is"]
    for bucket in data["buckets"]:
        parse(bucket["mode"])


def test_with_nothing_to_say_there_is_a_head():
    assert str(Explanation(0)).startswith("bucket  MB  mode")
    assert explain(0, [], None, []).to_dict()["buckets"] == ()
