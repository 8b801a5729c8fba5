"""LIGHT_MODE: whole trainings, whose true times are known, come to their best modes and stay."""

import random

import pytest
from taco.lightcc.adaptive.choice import SLOWER, TRIES, WINDOW
from taco.lightcc.adaptive.cost import Costs, Link
from taco.lightcc.adaptive.mode import DENSE, Mode, parse
from taco.lightcc.adaptive.policy import Policy
from taco.lightcc.adaptive.rules import Rules
from taco.lightcc.adaptive.steps import Verdict

from tests.lightcc.adaptive._worlds import (
    FLAT,
    HALF,
    HOSTS,
    TOPK,
    TWO,
    TWO_HALF,
    TWO_TOPK,
    Noise,
    executed,
    response,
    run_step,
)

# 1 Gbit/s between machines: what is predicted for a bucket of 4 MB is about
# 53 ms flat, 37 in two levels, and half of these in float16; TopK 5 and 4.
COSTS = Costs(Link(5e-6, 1e-10), Link(5e-5, 8e-9), 4e-10, 4e-9, 2e-10)
TRUE = {FLAT: 0.05, TWO: 0.036, HALF: 0.03, TWO_HALF: 0.02, TOPK: 0.008, TWO_TOPK: 0.005}


class Job:
    """A training whose steps take as long as computing and what its buckets take, in part.

    Args:
        buckets: number of them.
        true: seconds of a bucket's execution, by family.
        shown: part of the communication that the step does not hide.
        compute: seconds.
        rules: for the policy.
    """

    def __init__(
        self, buckets=4, true=None, shown=1.0, compute=0.1, seed=0, calibrated=True, **rules
    ):
        self.notes = []
        self.policy = Policy(Rules(auto=True, **rules), lambda response: HOSTS, self.notes.append)
        if calibrated:
            self.policy.calibrated(0, COSTS)
        self.buckets = [response(f"bucket.{at}") for at in range(buckets)]
        self.true = dict(TRUE if true is None else true)
        self.shown, self.compute = shown, compute
        self.penalty = dict.fromkeys(self.true, 0.0)  # of a step, for a bucket in such a mode
        self._noise = Noise(seed)
        self._step_noise = Noise(seed + 1, spread=0.1, outliers=0.02)

    def run(self, steps):
        """The modes of each step, and its true seconds."""
        history = []
        for _ in range(steps):
            true = []

            def step(modes, true=true):
                families = [mode.family for mode in modes]
                took = self.compute + sum(
                    self.shown * self.true[each] + self.penalty[each] for each in families
                )
                true.append(took)
                return took * self._step_noise()

            modes = run_step(
                self.policy,
                self.buckets,
                lambda bucket, mode: self.true[mode.family] * self._noise(),
                step,
            )
            history.append(([mode.family for mode in modes], true[0]))
        return history

    def best(self, family):
        return self.compute + len(self.buckets) * (self.shown * self.true[family])


def share(history, family):
    """Part of the executions in a mode."""
    modes = [mode for modes, _ in history for mode in modes]
    return modes.count(family) / len(modes)


def mean(history):
    return sum(took for _, took in history) / len(history)


@pytest.mark.parametrize("seed", range(4))
def test_a_job_comes_to_its_best_mode_and_its_looks_cost_little(seed):
    job = Job(seed=seed)
    first, later = job.run(200), job.run(1300)
    assert share(later[200:], TWO_TOPK) > 0.9
    assert mean(first) < 1.8 * job.best(TWO_TOPK)
    assert mean(later) < 1.05 * job.best(TWO_TOPK)
    assert any("from now on: measured" in note for note in job.notes)


def test_topk_runs_in_the_ratio_that_is_set_from_its_first_trial_on():
    half = {Mode(levels, 1.0, True): TRUE[Mode(levels, 1.0)] for levels in (1, 2)}
    job = Job(ratio=0.02, topk_half=True, true=TRUE | half)
    seen = set()
    for _ in range(150):
        job.run(1)
        seen |= {job.policy.buckets()[0].last.mode.ratio}
    assert seen == {0.0, 0.02}


def test_lossless_jobs_lose_nothing():
    job = Job(lossy=False)
    history = job.run(400)
    assert all(mode.lossless for modes, _ in history for mode in modes)
    assert share(history[300:], TWO) > 0.9


def test_nothing_is_chosen_before_costs_are_measured():
    job = Job(calibrated=False)
    assert share(job.run(50), FLAT) == 1.0
    job.policy.calibrated(0, COSTS)
    assert share(job.run(300)[200:], TWO_TOPK) > 0.9


def test_a_gpus_costs_are_its_own():
    policy = Policy(Rules(auto=True), lambda response: HOSTS)
    policy.calibrated(0, COSTS)
    on_gpu = response(device="cuda")
    for _ in range(20):
        assert parse(policy.assign(on_gpu)) == FLAT
        policy.observe(on_gpu, executed(FLAT))
    policy.calibrated(0, COSTS, "cuda")
    tried = []
    for _ in range(400):
        mode = parse(policy.assign(on_gpu))
        tried.append(mode.family)
        policy.observe(on_gpu, executed(mode, TRUE[mode.family]))
    assert tried[-100:].count(TWO_TOPK) > 90
    assert set(policy.costs()) == {(0, "cpu"), (0, "cuda")}


@pytest.mark.parametrize("about", [{"ranks": (1, 2)}, {"joined": (3,)}])
def test_what_rank_0_cannot_measure_runs_by_the_rules(about):
    policy = Policy(Rules(auto=True), lambda response: HOSTS)
    policy.calibrated(0, COSTS)
    for _ in range(50):
        mode = parse(policy.assign(response(**about)))
        assert mode == TWO  # what is predicted to be best of what loses nothing
        policy.observe(response(**about), executed(mode))


def test_a_rank_that_joins_for_a_while_changes_nothing():
    job = Job()
    job.run(300)
    joined = [response(f"bucket.{at}", joined=(3,)) for at in range(4)]
    for _ in range(300):
        modes = run_step(job.policy, joined, lambda bucket, mode: 1e-9, lambda modes: 1e-9)
        assert all(mode.lossless for mode in modes)
    assert share(job.run(50), TWO_TOPK) > 0.7


def test_large_sums_of_others_take_the_levels_that_are_predicted_best():
    policy = Policy(Rules(auto=True), lambda response: HOSTS)
    large, small = response(mode="", elements=1 << 20), response(mode="", elements=100)
    assert parse(policy.assign(large)) == DENSE
    policy.calibrated(0, COSTS)
    assert parse(policy.assign(large)) == TWO
    assert parse(policy.assign(small)) == DENSE


def test_warm_up_is_dense_and_then_topk_has_its_chance():
    job = Job(warmup=100)
    early = job.run(100)
    assert not any(mode.ratio for modes, _ in early for mode in modes)
    seen = set()
    for _ in range(200):
        job.run(1)
        seen |= {bucket.last.mode.ratio for bucket in job.policy.buckets()}
    assert seen == {0.0, 0.01}
    assert share(job.run(100), TWO_TOPK) > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_steps_that_are_slower_although_buckets_are_faster_go_back_to_dense(seed):
    # TopK takes the processor from backward: each bucket's selection costs the step 60 ms.
    job = Job(shown=0.1, seed=seed, lossy=True)
    for mode in (TOPK, TWO_TOPK):
        job.penalty[mode] = 0.06
    job.penalty |= {TWO: 0.06, HALF: 0.06, TWO_HALF: 0.06}
    history = job.run(1500)
    assert any("all but dense is left: steps take" in note for note in job.notes)
    # Left after a window at the latest, for rests that grow.
    assert share(history[:400], FLAT) > 0.5
    assert share(history[400:], FLAT) > 0.75
    assert share(history, TWO_TOPK) > 0


@pytest.mark.parametrize("seed", range(3))
def test_steps_that_gain_nothing_by_losing_bits_do_not_lose_them(seed):
    # Communication is hidden behind backward.
    job = Job(shown=0.0, seed=seed)
    history = job.run(1200)
    assert any("losing bits gains nothing" in note for note in job.notes)
    lossless = [all(mode.lossless for mode in modes) for modes, _ in history[200:]]
    assert sum(lossless) > 0.7 * len(lossless)


def test_only_buckets_that_lose_bits_are_kept_from_it():
    # TopK of one bucket shows no gain in the steps; another has not had its chance yet.
    job = Job(buckets=2)
    job.run(300)
    one, other = (bucket.choice for bucket in job.policy.buckets())
    assert not one.mode.lossless
    other.mode = DENSE
    job.policy._back(Verdict("nothing gained", lossy_only=True))
    assert one.mode.lossless
    assert (bool(one._barred), bool(other._barred)) == (True, False)
    job.run(120)
    assert other.mode == TWO_TOPK


@pytest.mark.parametrize("seed", range(3))
def test_gains_that_steps_show_are_kept(seed):
    job = Job(shown=0.5, seed=seed)
    job.run(200)
    assert share(job.run(1000), TWO_TOPK) > 0.85
    assert not any("left: steps" in note for note in job.notes)


def test_a_slow_step_is_judged_by_dense_steps_of_these_times():
    # Everything becomes three times as slow: the data, the processor, the network.
    job = Job()
    job.run(300)
    job.true = {mode: 3 * took for mode, took in job.true.items()}
    job.compute *= 3
    job.run(200)
    assert share(job.run(300), TWO_TOPK) > 0.8


@pytest.mark.parametrize("slower", [1.5, 3.0])
def test_a_step_that_computes_longer_is_put_right_in_time(slower):
    # Longer sequences: no bucket's time shows it, and dense steps of old are no measure any longer.
    job = Job()
    job.run(300)
    job.compute *= slower
    job.run(700)
    assert share(job.run(800), TWO_TOPK) > 0.85


def test_when_the_network_becomes_fast_topk_is_left():
    job = Job()
    job.run(300)
    job.true = {FLAT: 0.004, TWO: 0.006, HALF: 0.006, TWO_HALF: 0.008, TOPK: 0.02, TWO_TOPK: 0.02}
    job.run(150)
    assert share(job.run(300), FLAT) > 0.8


def test_a_layout_is_wanted_once_when_times_change_for_half_of_the_buckets():
    job = Job(buckets=6)
    job.run(300)
    assert not job.policy.wants_layout()
    job.true = {mode: 2.5 * took for mode, took in job.true.items()}
    wanted = 0

    def seconds(bucket, mode):
        # Asked at each bucket, as in a job: some have seen the change before others.
        nonlocal wanted
        wanted += job.policy.wants_layout()
        return job.true[mode.family]

    for _ in range(300):
        run_step(job.policy, job.buckets, seconds, lambda modes: 1.0)
    assert wanted == 1


def test_a_layout_is_not_wanted_for_one_bucket_of_many():
    job = Job(buckets=6)
    slow = 1.0

    def seconds(bucket, mode):
        return job.true[mode.family] * (slow if bucket.names == ("bucket.0",) else 1.0)

    for step in range(600):
        slow = 3.0 if step > 300 else 1.0
        run_step(job.policy, job.buckets, seconds, lambda modes: 1.0)
        assert not job.policy.wants_layout()


def test_buckets_of_an_old_layout_stand_in_nobodys_way():
    # They are left in the middle of a trial, and never run again.
    job = Job(buckets=9)
    job.run(9)
    job.buckets = [response(f"new.{at}") for at in range(3)]
    for mode in (TWO, HALF, TWO_HALF, TOPK, TWO_TOPK):
        job.penalty[mode] = 0.06
    job.shown = 0.1
    job.run(400)
    assert any("all but dense is left" in note for note in job.notes)


def test_a_guard_that_ends_topk_leaves_the_rest_to_choose_from():
    job = Job(buckets=1)
    job.run(200)
    for _ in range(6):
        for _ in range(30):
            job.run(1)
            job.policy.loss(1.0)
        job.policy.loss(float("nan"))
    after = job.run(400)
    assert not any(mode.ratio for modes, _ in after for mode in modes)
    assert share(after[200:], TWO_HALF) > 0.85
    (bucket,) = job.policy.buckets()
    assert bucket.guard.dense
    assert bucket.choice.settled


def test_a_guard_that_raises_the_ratio_beyond_use_ends_topk_too():
    job = Job(buckets=1, ratio=0.3)
    job.run(200)
    assert share(job.run(50), TWO_TOPK) > 0.8
    job.policy.loss(float("nan"))
    after = job.run(400)
    assert not any(mode.ratio for modes, _ in after for mode in modes)
    assert share(after[200:], TWO_HALF) > 0.85


def test_the_first_step_of_a_bucket_is_no_measure_of_dense_steps():
    # Costs are measured in it, or something is compiled.
    job = Job()
    job.run(1)
    assert job.policy._steps.dense == 0
    job.run(1)
    assert job.policy._steps.dense == 1


def test_what_the_program_asked_for_is_not_judged_by_steps():
    policy = Policy(Rules(auto=True), lambda response: HOSTS, notes := [].append)
    policy.calibrated(0, COSTS)
    bucket = response(mode="gradient:topk=0.01")
    for _ in range(300):
        modes = run_step(policy, [bucket], lambda bucket, mode: 1.0, lambda modes: 1.0)
        assert modes[0].ratio == 0.01
    assert notes.__self__ == []


def test_hundreds_of_buckets_explore_together_at_a_bounded_cost():
    rng = random.Random(1)
    job = Job(buckets=0)
    job.buckets = [response(f"bucket.{at}", elements=1 << rng.randint(4, 22)) for at in range(200)]
    total = 0.0
    dense = 0.0

    def seconds(bucket, mode):
        small = bucket.nbytes < 1 << 20
        factor = bucket.nbytes / (4 << 20)
        if small:
            return 1e-4 if mode.levels == 1 else 3e-4
        return job.true[mode.family] * factor

    noise = Noise(3)
    for step in range(200):
        took = []

        def noisy(bucket, mode, took=took):
            took.append(seconds(bucket, mode))
            return took[-1] * noise()

        modes = run_step(job.policy, job.buckets, noisy, lambda modes, took=took: sum(took))
        total += sum(took)
        dense += sum(seconds(bucket, DENSE) for bucket in job.buckets)
        if step < 60:
            assert total < 1.1 * dense  # looking never costs more than staying dense would
    assert total < 0.4 * dense
    for bucket, mode in zip(job.buckets, modes, strict=True):
        assert seconds(bucket, mode) <= 1.5 * seconds(bucket, DENSE)
    assert len(job.policy.buckets()) == 200


def test_constants_agree_with_the_page():
    assert (TRIES, WINDOW, SLOWER) == (6, 20, 1.03)
