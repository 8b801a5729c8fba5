"""TopK is let alone where it does well, raised where it does harm, ended where that is no help."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from taco.lightcc.adaptive.guard import PROBE_STEPS, RAISES, Guard, Limits, LossWatch

PATIENCE, CALM = 20, 500


def calm(guard, count, ratio=0.01):
    return [guard.observe(ratio, 2.0, 1.0, None) for _ in range(count)]


def test_nothing_happens_where_nothing_is_wrong():
    guard = Guard()
    assert not any(calm(guard, 3000))
    assert (guard.factor, guard.dense, guard.why) == (1.0, False, "")


def test_a_breach_doubles_the_ratio_four_times_and_then_makes_it_dense():
    guard = Guard()
    for raised in range(1, RAISES + 1):
        calm(guard, PATIENCE)
        assert guard.breach("the loss is nan") == "ratio doubled: the loss is nan"
        assert guard.factor == 2.0**raised
        assert not guard.dense
    calm(guard, PATIENCE)
    assert guard.breach("again") == "dense from now on: again"
    assert guard.dense
    assert guard.why == "again"
    calm(guard, 1000)
    assert guard.breach("more") == ""
    assert guard.dense


def test_what_was_done_gets_time_to_work():
    guard = Guard()
    assert guard.breach("at once") == ""  # the first steps of a training are wild
    calm(guard, PATIENCE)
    assert guard.breach("one")
    calm(guard, PATIENCE - 1)
    assert guard.breach("too soon") == ""
    calm(guard, 1)
    assert guard.breach("two")


def test_calm_brings_the_ratio_down_step_by_step():
    guard = Guard()
    for _ in range(2):
        calm(guard, PATIENCE)
        guard.breach("so")
    assert guard.factor == 4.0
    assert [text for text in calm(guard, CALM) if text] == [
        "ratio halved again: no breach for 500 steps"
    ]
    assert (guard.factor, guard.why) == (2.0, "so")
    calm(guard, CALM)
    assert (guard.factor, guard.why) == (1.0, "")
    assert not any(calm(guard, 2 * CALM))


class Stream:
    """Gradients of one rank through exact TopK with error feedback, into a guard.

    Args:
        ratio: part that is sent; the guard's factor is applied.
        signal: size of what is the same in each step's gradient; the noise's is 1.
        heavy: whether elements are of very different size.
    """

    def __init__(self, ratio, signal=0.0, heavy=False, elements=4000):
        self._rng = np.random.default_rng(1)
        self._ratio = ratio
        self._scale = np.exp(1.5 * self._rng.standard_normal(elements)) if heavy else 1.0
        self._signal = signal * self._rng.standard_normal(elements) * self._scale
        self._residual = np.zeros(elements)
        self.guard = Guard()

    def run(self, steps, size=lambda step: 1.0):
        done = []
        for step in range(steps):
            noise = self._rng.standard_normal(self._residual.size) * self._scale
            total = size(step) * (self._signal + noise) + self._residual
            ratio = min(1.0, self._ratio * self.guard.factor)
            largest = np.argsort(np.abs(total))[-max(1, round(ratio * total.size)) :]
            before = math.sqrt(float(np.sum(total**2)))
            self._residual = total
            self._residual[largest] = 0.0
            after = math.sqrt(float(np.sum(self._residual**2)))
            done.append(self.guard.observe(ratio, before, after, None))
        return [text for text in done if text]


@pytest.mark.parametrize("ratio", [0.001, 0.01, 0.1])
@pytest.mark.parametrize("signal", [0.0, 0.3, 30.0])
@pytest.mark.parametrize("heavy", [False, True])
def test_a_residual_in_balance_is_no_breach(ratio, signal, heavy):
    assert Stream(ratio, signal, heavy).run(400) == []


@pytest.mark.parametrize("ratio", [0.01, 0.1])
def test_gradients_that_come_down_slowly_are_no_breach(ratio):
    assert Stream(ratio).run(600, lambda step: 0.995**step) == []


def test_gradients_that_have_become_small_raise_the_ratio_until_the_old_ones_are_sent():
    stream = Stream(0.002, elements=2000)
    assert stream.run(1000) == []
    done = stream.run(600, lambda step: 0.001)
    assert 1 <= len(done) <= 3
    assert all("times the gradients of late" in text for text in done)
    assert stream.run(2500, lambda step: 0.001)[-1].startswith("ratio halved")
    assert stream.guard.factor == 1.0


def test_gradients_of_a_part_that_is_seldom_used_are_no_breach():
    # An expert, or rows of an embedding: something comes in every tenth step.
    assert Stream(0.05).run(800, lambda step: float(step % 10 == 0)) == []


def test_gradients_that_end_do_not():
    stream = Stream(0.05)
    stream.run(100)
    stream.run(500, lambda step: 0.0)
    assert not stream.guard.dense


def test_a_flush_is_no_breach():
    # Between executions by TopK, what was held back went with a dense one.
    guard = Guard()
    for _ in range(50):
        assert guard.observe(0.01, 11.0, 10.9, None) == ""
    for _ in range(200):
        assert guard.observe(0.01, 1.5, 1.4, None) == ""


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e200])
def test_norms_that_are_no_numbers_are_left_to_the_program(value):
    guard = Guard()
    calm(guard, 100)
    for _ in range(30):
        assert guard.observe(0.01, value, 1.0, None) == ""
        assert guard.observe(0.01, value, value, None) == ""
    guard.observe(0.01, 2.0, 1.0, None)
    assert guard.raises == 0


@pytest.mark.parametrize("ratio", [0.001, 0.01, 0.05, 0.3])
def test_the_cosine_is_judged_by_what_the_ratio_lets_expect(ratio):
    normal = min(1.0, math.sqrt(PROBE_STEPS * ratio))
    guard = Guard()
    calm(guard, 100, ratio)
    assert guard.observe(ratio, 2.0, 1.0, 0.7 * normal) == ""
    for cosine in (0.2 * normal, 0.0, -1.0):
        calm(guard, 50, ratio)
        assert "points elsewhere" in guard.observe(ratio, 2.0, 1.0, cosine)


def test_limits_are_the_users():
    guard = Guard(Limits(cosine=0.0))
    calm(guard, 50)
    assert guard.observe(0.01, 2.0, 1.0, 0.01) == ""
    assert guard.observe(0.01, 2.0, 1.0, -0.01)


norms = st.one_of(st.floats(0, 1e30), st.sampled_from([math.nan, math.inf, 0.0]))


@given(
    st.lists(
        st.tuples(
            st.floats(1e-6, 1.0),
            norms,
            norms,
            st.one_of(st.none(), st.floats(-1, 1)),
            st.booleans(),
        ),
        max_size=200,
    )
)
def test_whatever_it_sees_it_stays_within_bounds(seen):
    guard = Guard()
    for ratio, gradient, residual, cosine, loss in seen:
        before = guard.raises, guard.dense
        said = guard.observe(ratio, gradient, residual, cosine)
        said += guard.breach("loss") if loss else ""
        assert bool(said) == (before != (guard.raises, guard.dense))
        assert 0 <= guard.raises <= RAISES
        assert not before[1] or guard.dense


def losses(watch, values):
    return [text for value in values if (text := watch.observe(value))]


def test_a_loss_that_falls_with_noise_is_no_jump():
    rng = np.random.default_rng(2)
    values = 5 * 0.999 ** np.arange(3000) + 0.1 + 0.2 * rng.random(3000)
    assert losses(LossWatch(), map(float, values)) == []


def test_a_loss_around_zero_is_no_jump():
    rng = np.random.default_rng(3)
    assert losses(LossWatch(), map(float, rng.standard_normal(3000))) == []


@pytest.mark.parametrize("before", [2.0, 0.01, -2.0])
def test_a_jump_is_seen(before):
    rng = np.random.default_rng(4)
    watch = LossWatch()
    assert losses(watch, [before * (1 + 0.1 * each) for each in rng.random(100)]) == []
    assert "jumped" in watch.observe(before + 20 * abs(before))


def test_one_huge_loss_does_not_hide_the_next():
    watch = LossWatch()
    losses(watch, [1.0 + 0.01 * (step % 5) for step in range(100)])
    assert watch.observe(1e30)
    assert losses(watch, [1.0] * 5) == []
    assert watch.observe(100.0)


def test_a_loss_that_stays_high_is_the_new_normal():
    watch = LossWatch()
    losses(watch, [1.0 + 0.01 * (step % 5) for step in range(100)])
    seen = losses(watch, [50.0 + step % 3 for step in range(200)])
    assert 1 <= len(seen) < 60
    assert losses(watch, [50.0 + step % 3 for step in range(200)]) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_named_and_forgotten(value):
    watch = LossWatch()
    assert watch.observe(value) == f"the loss is {value}"
    losses(watch, [1.0] * 50)
    assert watch.observe(value) == f"the loss is {value}"
    assert losses(watch, [1.0] * 50) == []
