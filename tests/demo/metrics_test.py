"""AUC and log-loss against slow, obvious references."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taco.demo.metrics import StreamMetrics, exact_auc, expected_auc, log_loss_sum, logit


def slow_auc(labels, scores):
    """Counts every pair of a positive and a negative."""
    won, pairs = 0.0, 0
    for label, score in zip(labels, scores, strict=True):
        for other_label, other in zip(labels, scores, strict=True):
            if label == 1 and other_label == 0:
                pairs += 1
                won += 1.0 if score > other else 0.5 if score == other else 0.0
    return won / pairs if pairs else math.nan


def slow_log_loss(labels, logits):
    total = 0.0
    for label, z in zip(labels, logits, strict=True):
        p = 1.0 / (1.0 + math.exp(-z))
        total -= math.log(p) if label == 1 else math.log(1.0 - p)
    return total


examples = st.lists(st.tuples(st.integers(0, 1), st.integers(-4, 4)), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(examples)
def test_exact_auc_counts_pairs_and_halves_ties(rows):
    labels, scores = np.array(rows, np.float64).T
    assert exact_auc(labels, scores) == pytest.approx(slow_auc(labels, scores), nan_ok=True)


@settings(max_examples=100, deadline=None)
@given(examples)
def test_log_loss_is_the_cross_entropy(rows):
    labels, logits = np.array(rows, np.float64).T
    assert log_loss_sum(labels, logits) == pytest.approx(slow_log_loss(labels, logits))


def test_log_loss_of_huge_logits_does_not_overflow():
    assert log_loss_sum(np.array([1.0, 0.0]), np.array([-1000.0, 1000.0])) == 2000.0


def test_auc_of_one_class_is_nan():
    assert math.isnan(exact_auc(np.ones(5), np.arange(5.0)))
    assert math.isnan(StreamMetrics().auc) and math.isnan(StreamMetrics().log_loss)


def test_stream_metrics_over_windows_agree_with_the_whole():
    rng = np.random.default_rng(3)
    logits = rng.normal(-1.0, 1.5, 50_000)
    labels = (rng.uniform(size=logits.size) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    stream = StreamMetrics()
    for start in range(0, logits.size, 777):
        stream.update(labels[start : start + 777], logits[start : start + 777])
    assert stream.samples == logits.size
    assert stream.auc == pytest.approx(exact_auc(labels, logits), abs=1e-5)
    assert stream.log_loss == pytest.approx(log_loss_sum(labels, logits) / logits.size)


def test_stream_auc_takes_logits_beyond_its_range():
    stream = StreamMetrics()
    stream.update(np.array([0.0, 1.0]), np.array([-1e9, 1e9]))
    assert stream.auc == 1.0


def test_expected_auc_is_the_mean_over_drawn_labels():
    rng = np.random.default_rng(4)
    p = np.round(rng.beta(1.0, 4.0, 400), 2)  # rounding makes ties
    pairs, won = 0.0, 0.0
    for _ in range(400):
        labels = rng.uniform(size=p.size) < p
        weight = labels.sum() * (~labels).sum()
        pairs += weight
        won += weight * exact_auc(labels, p)
    assert expected_auc(p) == pytest.approx(won / pairs, abs=2e-3)


def test_expected_auc_by_enumeration():
    p = np.array([0.2, 0.2, 0.7])
    won = pairs = 0.0
    for bits in range(8):
        labels = np.array([bits >> i & 1 for i in range(3)], float)
        chance = np.prod(np.where(labels == 1, p, 1 - p))
        number = labels.sum() * (1 - labels).sum()
        if number:
            pairs += chance * number
            won += chance * number * slow_auc(labels, p)
    assert expected_auc(p) == pytest.approx(won / pairs)


def test_logit_is_finite_at_certainty():
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
    assert logit(np.array([0.5]))[0] == 0.0
