"""The LIGHT_* rules: who gets two levels, who gets TopK, in which ratio, and who never does."""

import pytest
from taco.lightcc import _settings
from taco.lightcc.adaptive.cost import Costs, Link, predict
from taco.lightcc.adaptive.hub import setup
from taco.lightcc.adaptive.mode import DENSE, Mode, parse
from taco.lightcc.adaptive.places import Levels
from taco.lightcc.adaptive.policy import Policy
from taco.lightcc.adaptive.rules import Rules, bucket_cost, candidates
from taco.lightcc.adaptive.wish import CALIBRATE, Wish

from tests.lightcc.adaptive._worlds import HOSTS, executed, response

RACKS = Levels(((0, 1), (2, 3), (4, 5)), ((0, 1, 2, 3), (4, 5)))
COSTS = Costs(Link(5e-6, 1e-10), Link(5e-5, 8e-10), 4e-10, 4e-9, 2e-10)


def policy_of(levels=HOSTS, **variables):
    """A policy as the environment makes it."""
    """Without a warm-up, unless the variables name one."""
    variables = {"LIGHT_TOPK_WARMUP": 0, **variables}
    settings = _settings.read({name: str(value) for name, value in variables.items()})
    return Policy(setup(settings, {"light_topk_warmup"}).rules, lambda response: levels)


def assigned(policy, **about):
    return parse(policy.assign(response(**about)))


def ratios(policy, count, observed=True, **about):
    """TopK's ratios, execution by execution."""
    found = []
    for _ in range(count):
        bucket = response(**about)
        mode = policy.assign(bucket)
        found.append(parse(mode).ratio)
        if observed:
            policy.observe(bucket, executed(mode))
    return found


def test_with_nothing_set_everything_is_flat_and_dense():
    policy = policy_of(RACKS)
    for mode in ("", "gradient"):
        for elements in (1, 1 << 20, 1 << 28):
            assert policy.assign(response(mode=mode, elements=elements)) == ""


def test_measuring_is_no_mode():
    assert policy_of(LIGHT_TOPK_ALLREDUCE=1).assign(response(mode=CALIBRATE)) == CALIBRATE


def test_a_text_that_is_no_wish_is_an_error():
    with pytest.raises(ValueError):
        policy_of().assign(response(mode="gradiant"))


@pytest.mark.parametrize("variable", ["LIGHT_2D_ALLREDUCE", "HOROVOD_HIERARCHICAL_ALLREDUCE"])
@pytest.mark.parametrize("mode", ["", "gradient"])
@pytest.mark.parametrize("op", ["sum", "average", "min", "product"])
def test_two_levels_serve_all_allreduces_up_to_the_threshold(variable, mode, op):
    policy = policy_of(**{variable: 1, "LIGHT_HIERARCHICAL_THRESHOLD": 4000})
    assert assigned(policy, mode=mode, op=op, elements=1000) == Mode(2)
    assert assigned(policy, mode=mode, op=op, elements=1001) == DENSE


@pytest.mark.parametrize(("wanted", "deep"), [("LIGHT_2D_ALLREDUCE", 2), ("LIGHT_3D_ALLREDUCE", 3)])
def test_levels_are_as_many_as_the_ranks_places_have(wanted, deep):
    assert assigned(policy_of(RACKS, **{wanted: 1})) == Mode(deep)
    assert assigned(policy_of(HOSTS, **{wanted: 1})) == Mode(2)
    assert assigned(policy_of(Levels(((0, 1, 2, 3),)), **{wanted: 1})) == DENSE
    assert assigned(policy_of(Levels(((0,), (1,))), **{wanted: 1})) == DENSE


def test_topk_is_for_buckets_from_the_threshold_on():
    policy = policy_of(LIGHT_TOPK_ALLREDUCE=1, LIGHT_TOPK_THRESHOLD=4000)
    assert assigned(policy, name="a", elements=999) == DENSE
    assert assigned(policy, name="b", elements=1000) == Mode(1, 0.01)
    assert assigned(policy, name="c", elements=1999, dtype="bfloat16") == DENSE
    assert assigned(policy, name="d", elements=2000, dtype="bfloat16") == Mode(1, 0.01)


@pytest.mark.parametrize(
    "about",
    [
        {"mode": ""},  # an hvd.allreduce: a metric, a batch norm
        {"op": "min"},
        {"op": "product"},
        {"dtype": "int64"},
        {"dtype": "float64"},
        {"dtype": "complex64"},
        {"elements": 1 << 31},  # indices are 32 bits
        {"mode": "gradient:flat"},
        {"mode": "gradient:2d+half", "op": "max"},
        {"mode": "gradient:topk=0.1", "dtype": "int32"},
    ],
)
def test_topk_is_for_sums_of_floats_among_gradients_alone(about):
    for variables in ({"LIGHT_TOPK_ALLREDUCE": 1}, {"LIGHT_MODE": "auto"}):
        policy = policy_of(**variables)
        policy.calibrated(0, COSTS)
        for _ in range(30):
            mode = assigned(policy, **about)
            assert mode.lossless
            policy.observe(response(**about), executed(mode))


def test_topk_takes_the_ratio_the_half_and_the_levels_that_are_set():
    variables = {"LIGHT_TOPK_ALLREDUCE": 1, "LIGHT_TOPK_RATIO": 0.05, "LIGHT_TOPK_FP16": 1}
    assert assigned(policy_of(**variables)) == Mode(1, 0.05, True)
    two = {**variables, "LIGHT_2D_ALLREDUCE": 1}
    assert assigned(policy_of(**two)) == Mode(2, 0.05, True)
    above = {**two, "LIGHT_HIERARCHICAL_THRESHOLD": 1 << 20}
    assert assigned(policy_of(**above)) == Mode(1, 0.05, True)


def test_below_the_threshold_the_other_rules_hold():
    policy = policy_of(LIGHT_TOPK_ALLREDUCE=1, LIGHT_2D_ALLREDUCE=1)
    assert assigned(policy, elements=100) == Mode(2)


def test_many_ranks_do_not_gather_everybodys_list():
    few, many = range(8), range(9)
    flat = Levels((tuple(many),))
    policy = policy_of(flat, LIGHT_TOPK_ALLREDUCE=1)
    assert not assigned(policy, name="a", ranks=few).balanced
    assert assigned(policy, name="b", ranks=many).balanced
    assert assigned(policy, name="c", ranks=many, mode="gradient:topk=0.1").balanced


@pytest.mark.parametrize("ratio", [0.5, 0.9, 1.0])
def test_a_ratio_that_saves_nothing_is_dense(ratio):
    assert assigned(policy_of(LIGHT_TOPK_ALLREDUCE=1, LIGHT_TOPK_RATIO=ratio)) == DENSE
    rules = Rules(auto=True, ratio=ratio)
    assert not any(mode.ratio for mode in candidates(rules, HOSTS, True, 4))


def test_what_the_program_asks_for_comes_before_the_rules():
    policy = policy_of(LIGHT_TOPK_ALLREDUCE=1, LIGHT_TOPK_RATIO=0.01, LIGHT_2D_ALLREDUCE=1)
    wish = str(Wish(True, Mode(ratio=0.1, half=True)))
    assert assigned(policy, mode=wish) == Mode(2, 0.1, True)
    assert assigned(policy_of(LIGHT_MODE="auto"), mode=wish) == Mode(1, 0.1, True)


def test_another_wish_or_size_under_a_name_begins_anew():
    policy = policy_of(LIGHT_TOPK_ALLREDUCE=1, LIGHT_TOPK_WARMUP=10)
    first = ratios(policy, 5)
    assert ratios(policy, 1) < first[:1]
    assert ratios(policy, 1, elements=1 << 21) == first[:1]
    assert ratios(policy, 1, mode="gradient:topk=0.01;warmup=10") == first[:1]


@pytest.mark.parametrize("by_wish", [False, True])
def test_a_warm_up_brings_the_ratio_down_by_the_same_factor_each(by_wish):
    if by_wish:
        policy, about = policy_of(), {"mode": "gradient:topk=0.01;warmup=100"}
    else:
        policy, about = policy_of(LIGHT_TOPK_ALLREDUCE=1, LIGHT_TOPK_WARMUP=100), {}
    found = ratios(policy, 150, **about)
    assert found[0] == 0.25
    assert found[100:] == [0.01] * 50
    factors = [b / a for a, b in zip(found[:101], found[1:101], strict=False)]
    assert min(factors) == pytest.approx(max(factors), rel=1e-3)
    assert ratios(policy_of(LIGHT_TOPK_ALLREDUCE=1, LIGHT_TOPK_RATIO=0.3), 3) == [0.3] * 3


def test_topk_warms_up_by_itself_and_auto_does_not():
    def rules(**variables):
        return setup(_settings.read(variables), set()).rules

    assert rules(LIGHT_TOPK_ALLREDUCE="1").warmup == 200
    assert rules(LIGHT_TOPK_ALLREDUCE="1", LIGHT_MODE="auto").warmup == 0


def test_a_warm_up_goes_on_behind_steps_of_another_process():
    policy = policy_of(LIGHT_TOPK_ALLREDUCE=1, LIGHT_TOPK_WARMUP=10)
    whole = ratios(policy_of(LIGHT_TOPK_ALLREDUCE=1, LIGHT_TOPK_WARMUP=10), 12)
    policy.resume(0, 7)
    assert ratios(policy, 5) == whole[7:]
    assert ratios(policy, 1, set_id=1) == whole[:1]
    policy.resume(1, 5)  # also where buckets are there already
    assert ratios(policy, 3, set_id=1) == whole[5:8]


def test_a_wish_without_a_warm_up_has_none():
    policy = policy_of(LIGHT_TOPK_ALLREDUCE=1, LIGHT_TOPK_WARMUP=20)
    assert ratios(policy, 3, mode="gradient:topk=0.05") == [0.05] * 3


@pytest.mark.parametrize(("ranks", "joined"), [((1, 2), ()), ((0, 1, 2), (0,))])
def test_a_warm_up_goes_on_where_rank_0_sees_nothing(ranks, joined):
    # A process set without it; or it has no data left.
    policy = policy_of(LIGHT_TOPK_ALLREDUCE=1, LIGHT_TOPK_WARMUP=20)
    found = ratios(policy, 300, observed=False, ranks=ranks, joined=joined)
    assert found[20:] == [0.01] * 280
    # Nobody would look at a probe.
    assert not any(assigned(policy, ranks=ranks, joined=joined).probe for _ in range(200))


@pytest.mark.parametrize("guard", [0, 1])
def test_ten_steps_of_every_two_hundred_are_probed(guard):
    policy = policy_of(LIGHT_TOPK_ALLREDUCE=1, LIGHT_TOPK_GUARD=guard)
    probed = []
    for step in range(1000):
        mode = assigned(policy)
        policy.observe(response(), executed(mode, cosine=0.9 if mode.probe else None))
        probed += [step] if mode.probe else []
    assert probed == ([s for s in range(1000) if s % 200 >= 190] if guard else [])


def run(policy, cosine):
    mode = assigned(policy)
    policy.observe(response(), executed(mode, cosine=cosine if mode.probe else None))


def probes(policy, count, cosine):
    """The ratio after so many executions."""
    for _ in range(count):
        run(policy, cosine)
    return assigned(policy).ratio


def test_a_probe_is_judged_when_it_ends():
    notes = []
    policy = Policy(Rules(topk=True), lambda response: HOSTS, notes.append)
    for _ in range(199):
        run(policy, -0.5)
    assert (notes, assigned(policy).ratio) == ([], 0.01)
    policy = Policy(Rules(topk=True), lambda response: HOSTS, notes.append)
    assert probes(policy, 200, -0.5) == 0.02
    assert notes == [
        "bucket.0: ratio doubled: what is sent points elsewhere than the gradients: cosine -0.50"
    ]
    probes(policy, 4 * 200 - 1, -0.5)
    assert assigned(policy) == DENSE
    assert notes[-1].startswith("bucket.0: dense from now on")


def test_a_loss_that_jumps_raises_the_ratio_of_what_runs_by_topk():
    policy = policy_of(LIGHT_TOPK_ALLREDUCE=1)
    ratios(policy, 50)
    ratios(policy, 1, name="small", elements=10)
    for _ in range(50):
        policy.loss(1.0)
    policy.loss(20.0)
    assert ratios(policy, 1) == [0.02]
    policy.loss(float("nan"))  # too soon after
    assert ratios(policy, 1) == [0.02]
    assert {each.name: each.guard.raises for each in policy.buckets()} == {
        "bucket.0": 1,
        "small": 0,
    }


def test_the_guard_can_be_switched_off():
    policy = policy_of(LIGHT_TOPK_ALLREDUCE=1, LIGHT_TOPK_GUARD=0)
    for _ in range(1000):
        mode = assigned(policy)
        policy.observe(response(), executed(mode, residual_norm=1e9, cosine=-1.0))
        policy.loss(float("nan"))
    assert assigned(policy).ratio == 0.01


def test_a_guard_that_ends_topk_leaves_the_levels():
    policy = policy_of(LIGHT_TOPK_ALLREDUCE=1, LIGHT_2D_ALLREDUCE=1)
    assert probes(policy, 1000, -0.5) == 0.0
    assert assigned(policy) == Mode(2)


def test_sets_do_not_share_buckets():
    policy = policy_of(LIGHT_TOPK_ALLREDUCE=1, LIGHT_TOPK_WARMUP=100)
    ratios(policy, 50)
    assert ratios(policy, 1, set_id=1)[0] == 0.25
    assert [(each.set_id, each.name) for each in policy.buckets()] == [
        (0, "bucket.0"),
        (1, "bucket.0"),
    ]


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr("taco.lightcc.adaptive.policy._BUCKETS", 50)
    policy = policy_of(LIGHT_TOPK_ALLREDUCE=1)
    for at in range(500):
        ratios(policy, 2, name=f"bucket.{at}")
        assert len(policy.buckets()) <= 50
    for at in range(500):  # others are not remembered at all
        policy.assign(response(name=f"metric.{at}", mode=""))
    assert len(policy.buckets()) <= 50


def test_nothing_is_expected_of_executions_that_nobody_assigned():
    policy_of().observe(response(name="unknown"), executed(DENSE))


def test_layouts_are_cut_by_the_mode_that_will_run():
    def cost(**rules):
        return bucket_cost(Rules(**rules), COSTS, HOSTS, 4)

    large, small = 64 << 20, 1 << 10
    flat, two, topk = cost(), cost(levels=2), cost(topk=True)
    assert flat(0) >= 0
    assert flat(large) == predict(DENSE, large // 4, 4, HOSTS, COSTS)
    assert two(large) == predict(Mode(2), large // 4, 4, HOSTS, COSTS)
    assert topk(large) == predict(Mode(1, 0.01), large // 4, 4, HOSTS, COSTS)
    assert topk(small) == flat(small)
    auto, lossless = cost(auto=True), cost(auto=True, lossy=False)
    assert auto(large) <= min(topk(large), lossless(large), flat(large))
    assert lossless(large) <= flat(large)
