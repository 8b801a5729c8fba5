"""What is measured, who fits into memory beside whom, and which keys are asked for."""

import dataclasses

import numpy as np
import pytest

from benchmarks.embedding import keys
from benchmarks.embedding.cases import (
    CONTESTANTS,
    QUICK,
    SUBJECT,
    Case,
    Matrix,
    blocks,
    contestants_of,
    groups,
)

GIB = 1 << 30
LARGE = Case("train", 64, 10_000_000, "uniform", 2, 2, 1 << 14, 64, 11)


def test_the_matrix_has_every_size_of_the_claims():
    cases = [case for block in blocks(Matrix()) for case in block.cases]
    for kind in ("lookup", "upsert", "train"):
        sizes = {(c.dim, c.rows, c.keys, c.threads) for c in cases if c.kind == kind}
        assert len(sizes) == 16
    assert {(c.dim, c.rows, c.threads) for c in cases if c.kind == "insert"} == {
        (d, r, t) for d in (16, 64) for r in (10**6, 10**7) for t in (1, 2)
    }
    assert all(c.rows == 10**7 for c in cases if c.kind == "growth")


@pytest.mark.parametrize("matrix", [QUICK, Matrix()])
def test_names_are_unique_and_cases_survive_the_pipe(matrix):
    cases = [case for block in blocks(matrix) for case in block.cases]
    assert len({c.name for c in cases}) == len(cases)
    assert all(Case.from_json(c.to_json()) == c for c in cases)


def test_payload_is_key_row_and_slots():
    assert LARGE.row_bytes == 8 + 4 * 64 * 3


def test_only_those_that_can_take_part_do():
    assert "dense_hash_table" not in contestants_of(LARGE, CONTESTANTS)
    growth = dataclasses.replace(LARGE, kind="growth", keys="new")
    assert contestants_of(growth, CONTESTANTS) == ["taco", "tfra", "first_touch"]
    assert "dense_variable" not in contestants_of(dataclasses.replace(growth, slots=0), CONTESTANTS)


@pytest.mark.parametrize("memory", [GIB, 12 * GIB, 19 * GIB, 24 * GIB, 64 * GIB, 256 * GIB])
@pytest.mark.parametrize("kind", ["lookup", "train"])
def test_groups_fit_into_memory_and_leave_nobody_out(kind, memory):
    case = dataclasses.replace(LARGE, kind=kind, slots=2 if kind == "train" else 0)
    names = contestants_of(case, CONTESTANTS)
    made = groups(case, names, memory)
    assert {c for group in made for c in group} == set(names)
    for group in made:
        assert len(group) == 1 or sum(case.footprint(c) for c in group) <= memory
    peers = [c for group in made for c in group if c != SUBJECT]
    assert len(peers) == len(set(peers))


def test_keys_are_one_to_one_of_both_signs_and_never_those_reserved():
    ids = np.arange(200_000)
    made = keys.key_of(ids)
    assert np.unique(made).size == ids.size
    assert 0.4 < (made < 0).mean() < 0.6
    assert not np.isin(keys.absent_keys(2), made).any()


def test_ids_are_the_same_for_the_same_seed_and_within_the_table():
    for distribution in ("uniform", "zipf"):
        drawn = keys.draw_ids(distribution, 1000, 5000, seed=1)
        assert np.array_equal(drawn, keys.draw_ids(distribution, 1000, 5000, seed=1))
        assert drawn.min() >= 0 and drawn.max() < 1000
    with pytest.raises(ValueError, match="distribution"):
        keys.draw_ids("normal", 10, 10, seed=1)


def test_zipf_follows_its_law():
    drawn = keys.draw_ids("zipf", 1000, 200_000, seed=1)
    counts = np.sort(np.bincount(drawn, minlength=1000))[::-1]
    assert counts[0] / counts[9] == pytest.approx(10**keys.ZIPF_EXPONENT, rel=0.2)
