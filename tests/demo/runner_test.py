"""Windows, the survey, test-then-train and the honesty of the memory, with small programs."""

import numpy as np
import pytest
from taco.demo import embedding
from taco.demo.runner import Result, RunConfig, run
from taco.demo.sources.base import Chunk, LineReport, windows
from taco.demo.survey import DistinctIds, survey

TINY = RunConfig(dim=4, batch=64, window=256, hidden=(8,))


class MemoryLog:
    """A log of two fields held in memory; the label is a function of the first one."""

    def __init__(self, rows=2000, seed=0, chunk=100):
        rng = np.random.default_rng(seed)
        keys = rng.integers(-(2**63), 2**63, (50, 2))
        picks = rng.integers(0, 50, (rows, 2))
        self.ids = np.stack([keys[picks[:, 0], 0], keys[picks[:, 1], 1]], axis=1)
        self.labels = (picks[:, 0] % 2).astype(np.float32)
        self.name, self.fields, self.rows = "memory", ("a", "b"), rows
        self.report, self._chunk = LineReport(), chunk

    def chunks(self):
        for start in range(0, self.rows, self._chunk):
            part = slice(start, start + self._chunk)
            yield Chunk(self.ids[part], self.labels[part])


@pytest.mark.parametrize("size", [1, 7, 100, 256, 1999, 2000, 5000])
@pytest.mark.parametrize("rows", [None, 1, 150, 2000, 9999])
def test_windows_cut_the_stream_without_loss(size, rows):
    log = MemoryLog(chunk=113)
    cut = list(windows(log.chunks(), size, rows))
    wanted = min(rows or 2000, 2000)
    assert (np.concatenate([part.ids for part in cut]) == log.ids[:wanted]).all()
    assert (np.concatenate([part.labels for part in cut]) == log.labels[:wanted]).all()
    assert all(len(part) == size for part in cut[:-1]) and 0 < len(cut[-1]) <= size


def test_distinct_ids_are_counted_exactly():
    rng = np.random.default_rng(0)
    counter, seen = DistinctIds(), set()
    for _ in range(40):
        ids = rng.integers(-200_000, 200_000, (4000, 2))
        counter.update(ids)
        seen.update(ids.ravel().tolist())
    assert len(counter) == len(seen)


def test_the_survey_counts_what_is_there():
    log = MemoryLog()
    found = survey(log, TINY)
    assert (found.samples, found.distinct) == (2000, 100)
    assert found.positives == pytest.approx(log.labels.mean())
    assert found.ceiling is None


@pytest.mark.parametrize("kind", ["stock", "exact"])
def test_programs_learn_and_repeat(kind):
    log = MemoryLog()
    config = RunConfig(dim=4, batch=64, window=256, hidden=(8,), learning_rate=0.02)
    first, again = (
        run(kind, log, config, half=1000, buckets=400, progress=lambda result: None)
        for _ in range(2)
    )
    assert first.second_half.auc > 0.9
    assert first.aucs == again.aucs and first.losses == again.losses
    assert first.ends == [256, 512, 768, 1024, 1280, 1536, 1792, 2000]
    assert first.speed > 0


def test_a_window_is_predicted_before_it_is_trained_on():
    """Labels nobody can foresee: a model that had seen them would find them."""
    log = MemoryLog()
    log.labels = np.random.default_rng(9).integers(0, 2, 2000).astype(np.float32)
    log.ids[:, 1] = np.random.default_rng(8).integers(-(2**63), 2**63, 2000)  # an id a row
    config = RunConfig(dim=4, batch=64, window=256, hidden=(8,), learning_rate=0.05, epochs=10)
    result = run("exact", log, config, half=0, buckets=2050, progress=lambda result: None)
    assert 0.45 < result.metrics.auc < 0.55


@pytest.mark.parametrize("optimizer", sorted(embedding.SLOTS))
def test_stock_memory_is_the_sum_of_its_variables(optimizer):
    config = RunConfig(dim=4, batch=64, window=256, hidden=(8,), optimizer=optimizer)
    log = MemoryLog(rows=300)
    result = run("stock", log, config, half=0, buckets=777, progress=lambda result: None)
    assert result.memory.rows == 777
    assert result.memory.bytes == 777 * embedding.row_bytes(config.width, optimizer)


def test_hashed_buckets_take_any_id():
    import tensorflow as tf

    layer = embedding.make_embedding("stock", 3, buckets=10)
    extremes = tf.constant([[-(2**63), -1, 0, 2**63 - 1]], tf.int64)
    rows = layer(extremes).numpy()[0]
    table = layer.table.embeddings.numpy()
    wanted = [int(i) % 10 for i in (-(2**63), -1, 0, 2**63 - 1)]
    np.testing.assert_array_equal(rows, table[wanted])


def test_speed_of_a_single_window_is_not_made_up():
    assert Result("stock").speed == 0.0
