"""The generated stream: deterministic, drifting, long-tailed, and true to its claimed chances."""

import numpy as np
import pytest
from taco.demo.metrics import exact_auc, expected_auc, log_loss_sum, logit
from taco.demo.sources.base import windows
from taco.demo.sources.population import Population, PopulationConfig
from taco.demo.sources.synthetic import ClickStreamConfig, ClickStreamSource


def stream(**options):
    (whole,) = windows(ClickStreamSource(ClickStreamConfig(**options)).chunks(), 1 << 30)
    return whole


@pytest.fixture(scope="module")
def log():
    return stream(rows=200_000, seed=5)


def test_same_seed_same_stream_other_seed_other_stream():
    first, again, other = (stream(rows=5000, seed=seed) for seed in (1, 1, 2))
    assert (first.ids == again.ids).all() and (first.labels == again.labels).all()
    assert (first.truth == again.truth).all()
    assert (first.ids != other.ids).any()


def test_the_stream_is_the_same_for_ever():
    chunk = stream(rows=3000, seed=1)
    assert (int(chunk.labels.sum()), len(np.unique(chunk.ids))) == (507, 4017)


def test_length_and_chunks(log):
    assert len(log) == 200_000
    source = ClickStreamSource(ClickStreamConfig(rows=5000))
    assert [len(chunk) for chunk in source.chunks()] == [2048, 2048, 904]


def test_labels_are_drawn_from_the_claimed_chances(log):
    """In every decile of the claimed chance, clicks are as many as claimed (4.5 sigma)."""
    order = np.argsort(log.truth)
    for part in np.array_split(order, 10):
        p = log.truth[part]
        sigma = np.sqrt((p * (1 - p)).sum())
        assert abs(log.labels[part].sum() - p.sum()) < 4.5 * sigma


def test_the_claimed_ceiling_is_what_simulation_gives(log):
    """Labels drawn anew from the chances give the expected AUC; the stream's own agree too."""
    rng = np.random.default_rng(0)
    claimed = expected_auc(log.truth)
    drawn = [exact_auc(rng.uniform(size=len(log)) < log.truth, log.truth) for _ in range(10)]
    assert np.mean(drawn) == pytest.approx(claimed, abs=1e-3)
    assert exact_auc(log.labels, log.truth) == pytest.approx(claimed, abs=5e-3)


def test_no_distorted_score_beats_the_truth(log):
    rng = np.random.default_rng(0)
    odds = logit(log.truth)
    best_auc, best_loss = exact_auc(log.labels, odds), log_loss_sum(log.labels, odds)
    for noise in (0.3, 1.0):
        worse = odds + rng.normal(0, noise, len(odds))
        assert exact_auc(log.labels, worse) < best_auc
        assert log_loss_sum(log.labels, worse) > best_loss
    assert log_loss_sum(log.labels, odds + 0.1) > best_loss


def test_items_are_born_and_die(log):
    items = log.ids[:, 1]
    early, late = set(items[:40_000].tolist()), set(items[-40_000:].tolist())
    assert len(late - early) > 0.5 * len(late)  # most items of the end are new
    assert len(early - late) > 0.5 * len(early)  # most items of the start are gone


def test_popularity_has_a_long_tail_and_no_tyrant(log):
    _, counts = np.unique(log.ids[:, 1], return_counts=True)
    assert np.median(counts) <= 3
    assert 0.002 < counts.max() / len(log) < 0.05


def test_nobody_is_drawn_outside_his_life():
    config = PopulationConfig(50, 50, lifetime=1.0, exponent=1.0, shift=0.0, fading=2.0)
    people = Population(config, 3.0, np.random.default_rng(2))
    for day in (0.0, 1.0, 2.9):
        drawn = people.draw(day, 500, np.random.default_rng(3))
        assert (people.births[drawn] <= day).all() and (day < people.deaths[drawn]).all()


def test_an_extinct_population_is_an_error():
    config = PopulationConfig(1, 0, lifetime=0.001, exponent=1.0, shift=0.0)
    with pytest.raises(ValueError, match="nobody is alive on day 50"):
        Population(config, 99.0, np.random.default_rng(0)).draw(50.0, 1, np.random.default_rng(0))
