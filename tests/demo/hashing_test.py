"""Feature ids: stable, one to one within a field, apart between fields."""

import subprocess
import sys

import numpy as np
from taco.demo.hashing import field_ids, hash_text, mix


def test_ids_are_the_same_for_ever():
    # A change of these numbers makes saved tables useless.
    assert hash_text("Comedy") == 0x7366CD2AC84353FA
    assert mix(np.array([0], np.uint64))[0] == 0xE220A8397B1DCDAF  # SplitMix64 of seed 0


def test_ids_do_not_depend_on_the_hash_seed():
    code = "from taco.demo.hashing import hash_text; print(hash_text('Amélie'))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert seen == {f"{hash_text('Amélie')}\n"}


def test_integers_of_a_field_never_collide_and_fields_are_apart():
    values = np.arange(-50_000, 50_000)
    users, movies = field_ids("user", values), field_ids("movie", values)
    assert len(np.unique(users)) == len(values)
    assert not np.intersect1d(users, movies).size
    assert (users < 0).any() and (users > 0).any()


def test_uint64_and_int64_of_the_same_bits_agree():
    values = np.array([-1, -(2**63), 2**63 - 1])
    assert (field_ids("f", values) == field_ids("f", values.view(np.uint64))).all()


def test_lone_surrogates_are_hashed():
    assert hash_text("\udcff") != hash_text("\udcfe")
