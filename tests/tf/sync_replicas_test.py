"""tf.compat.v1.train.SyncReplicasOptimizer around an optimizer that trains a table."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from taco.tf import dynamic_embedding as de

from tests.tf._tables import random_rows

v1 = tf.compat.v1
KEYS = np.array([-8, -1, 0, 3, 11, 2**61])
DIM = 5
UPDATES = 4


def batches(replicas):
    """Positions in KEYS and targets, `replicas` for each update.

    Sorted and distinct where TensorFlow averages gradients: its accumulator merges the ids of two
    gradients as if they were, for a dense variable as well.
    """
    for seed in range(UPDATES * replicas):
        rng = np.random.default_rng(seed)
        which = rng.choice(len(KEYS), 4) if replicas == 1 else rng.choice(len(KEYS), 4, False)
        which = which if replicas == 1 else np.sort(which)
        yield which, rng.normal(size=(4, DIM)).astype(np.float32)


def trained(is_table, replicas):
    """The rows and the dense variable beside them, after UPDATES updates of one worker."""
    rows = random_rows(len(KEYS), DIM)
    with v1.Graph().as_default(), v1.Session() as session:
        which = v1.placeholder(tf.int64, [None])
        target = v1.placeholder(tf.float32, [None, DIM])
        beside = v1.get_variable("beside", initializer=[1.0, 2.0], use_resource=True)
        if is_table:
            params = de.get_variable("params", dim=DIM)
            ids, fill = tf.gather(tf.constant(KEYS), which), params.upsert(KEYS, rows)
            result = params.lookup(KEYS)
        else:
            params = v1.get_variable("params", initializer=rows, use_resource=True)
            ids, fill, result = which, tf.no_op(), params.read_value()
        loss = tf.reduce_sum(tf.nn.embedding_lookup(params, ids) * target) * beside[0]
        step = v1.train.get_or_create_global_step()
        optimizer = v1.train.SyncReplicasOptimizer(
            v1.train.AdagradOptimizer(0.1), replicas_to_aggregate=replicas, total_num_replicas=1
        )
        train_op = optimizer.minimize(loss, step)
        [update] = optimizer.get_chief_queue_runner().enqueue_ops  # what the chief's thread runs
        tokens = optimizer.get_init_tokens_op(replicas - 1)
        session.run([v1.global_variables_initializer(), v1.local_variables_initializer()])
        session.run([optimizer.chief_init_op, tokens, fill])
        for count, (numbers, targets) in enumerate(batches(replicas), 1):
            todo = [train_op, update] if count % replicas == 0 else [train_op]
            session.run(todo, {which: numbers, target: targets})
        assert session.run(step) == UPDATES
        return session.run([result, beside])


@pytest.mark.parametrize("replicas", [1, 2])
def test_it_trains_a_table_as_a_dense_variable(replicas):
    ours, stock = trained(True, replicas), trained(False, replicas)
    for mine, theirs in zip(ours, stock, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-6)
