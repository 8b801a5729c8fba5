"""Which rows `var.restrict(n)` keeps."""

from __future__ import annotations

import random

import pytest
import tensorflow as tf
from taco.tf import dynamic_embedding as de

from tests.tf._tables import table

POLICIES = [de.TimestampRestrictPolicy, de.FrequencyRestrictPolicy]


def train(made: de.Variable, keys: list[int]) -> None:
    """One step on the rows of `keys`."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.nn.embedding_lookup(made, tf.constant(keys, made.key_dtype)))
    tf.keras.optimizers.SGD(1.0).apply(tape.gradient(loss, [made]), [made])


def upsert(made: de.Variable, keys: list[int]) -> None:
    made.upsert(keys, tf.zeros([len(keys), made.dim]))


def keys_of(made: de.Variable) -> list[int]:
    return sorted(made.export()[0].numpy().tolist())


def test_restriction_keeps_the_keys_touched_last():
    made = table(dim=1, restrict_policy=de.TimestampRestrictPolicy)
    made.upsert(range(6), [[0.0]] * 6)
    made.restrict_policy.apply_update(tf.range(6, dtype=tf.int64))
    made.restrict_policy.apply_update(tf.constant([1, 4], tf.int64))
    made.restrict(2, trigger=6)
    assert made.size().numpy() == 6
    made.restrict(2, trigger=5)
    assert sorted(made.export()[0].numpy()) == [1, 4]
    assert made.restrict_policy.status.size().numpy() == 2


def test_restriction_keeps_the_keys_touched_most():
    made = table(dim=1, restrict_policy=de.FrequencyRestrictPolicy, devices=["/CPU:0"] * 2)
    optimizer = tf.keras.optimizers.SGD(1.0)
    for keys in ([1, 2, 3, 4], [2, 2, 3], [2, 3], [2]):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.nn.embedding_lookup(made, tf.constant(keys, tf.int64)))
        optimizer.apply(tape.gradient(loss, [made]), [made])
    made.restrict(2)
    assert sorted(made.export()[0].numpy()) == [2, 3]
    with pytest.raises(TypeError, match="num_reserved"):
        made.restrict("2")
    with pytest.raises(ValueError, match="restrict_policy"):
        table().restrict(2)


@pytest.mark.parametrize("policy", POLICIES)
def test_rows_that_only_upsert_wrote_go_first(policy):
    made = table(dim=1, restrict_policy=policy)
    train(made, [5, 6, 7])
    upsert(made, list(range(100, 120)))
    train(made, [7])
    assert int(made.restrict(4)) == 19
    assert keys_of(made) == [5, 6, 7, 119]
    made.restrict(1)
    assert keys_of(made) == [7]


@pytest.mark.parametrize("policy", POLICIES)
def test_writing_a_trained_row_leaves_it_trained(policy):
    made = table(dim=1, restrict_policy=policy)
    train(made, [1, 2])
    upsert(made, [1, 2, 3, 4])
    made.restrict(2)
    assert keys_of(made) == [1, 2]


@pytest.mark.parametrize("policy", POLICIES)
def test_equals_go_by_key(policy):
    made = table(dim=1, restrict_policy=policy, devices=["/CPU:0"] * 3, key_dtype=tf.int32)
    upsert(made, [3, -(2**31), 2**31 - 1, 0, -7])
    made.restrict(3)
    assert keys_of(made) == [0, 3, 2**31 - 1]
    train(made, [0, 3, 2**31 - 1])
    made.restrict(1)
    assert keys_of(made) == [2**31 - 1]


def test_notes_of_removed_rows_count_for_nothing():
    made = table(dim=1, restrict_policy=de.FrequencyRestrictPolicy)
    train(made, list(range(10)))
    made.remove(list(range(5)))
    assert int(made.restrict(5)) == 0
    assert keys_of(made) == [5, 6, 7, 8, 9]
    assert int(made.restrict(4)) == 1
    assert sorted(made.restrict_policy.status.export()[0].numpy()) == [6, 7, 8, 9]


def test_an_empty_table_and_one_to_be_emptied():
    made = table(dim=1, restrict_policy=de.FrequencyRestrictPolicy)
    assert int(made.restrict(0)) == 0
    train(made, [1])
    upsert(made, [2])
    assert int(made.restrict(0)) == 2
    assert made.size().numpy() == made.restrict_policy.status.size().numpy() == 0


def test_restriction_in_a_function_and_in_a_graph():
    made = table(dim=1, restrict_policy=de.FrequencyRestrictPolicy)
    train(made, [1, 2])
    upsert(made, [3, 4])
    assert int(tf.function(lambda: made.restrict(3))()) == 1
    assert keys_of(made) == [1, 2, 4]

    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        users = de.get_variable("users", dim=1, restrict_policy=de.TimestampRestrictPolicy)
        rows = tf.nn.embedding_lookup(users, tf.constant([7, 8], tf.int64))
        step = v1.train.GradientDescentOptimizer(1.0).minimize(tf.reduce_sum(rows))
        write = users.upsert(tf.constant([9, 10], tf.int64), tf.zeros([2, 1]))
        restrict, (left, _) = users.restrict(2), users.export()
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        session.run(step)
        session.run(write)
        assert session.run(restrict) == 2
        assert sorted(session.run(left)) == [7, 8]


@pytest.mark.parametrize("devices", [None, ["/CPU:0"] * 3])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(3))
def test_a_slow_model_keeps_the_same_rows(seed, policy, devices):
    """The model: a set of rows and a dict of notes."""
    draw = random.Random(seed)
    made = table(dim=1, restrict_policy=policy, devices=devices)
    rows: set[int] = set()
    notes: dict[int, int] = {}
    for now in range(1, 60):
        keys = [draw.randrange(-20, 20) for _ in range(draw.randrange(1, 12))]
        action = draw.choice(["train", "train", "upsert", "remove", "restrict"])
        if action == "train":
            train(made, keys)
            rows |= set(keys)
            for key in set(keys):
                by_time = policy is de.TimestampRestrictPolicy
                notes[key] = now if by_time else notes.get(key, 0) + 1
        elif action == "upsert":
            upsert(made, keys)
            rows |= set(keys)
        elif action == "remove":
            made.remove(keys)
            rows -= set(keys)
        else:
            reserved = draw.randrange(25)
            trigger = draw.choice([reserved, draw.randrange(40)])
            made.restrict(reserved, trigger=trigger)
            if len(rows) > trigger:
                ranked = sorted(rows, key=lambda key: (key in notes, notes.get(key), key))
                rows = set(ranked[max(len(rows) - reserved, 0) :])
                notes = {key: note for key, note in notes.items() if key in rows}
        assert keys_of(made) == sorted(rows), (now, action)
