"""A table spread over two parameter servers and trained by workers, as TensorFlow 1 and 2 do it.

All servers are in this process, on ports of the loopback that were free a moment ago.
"""

from __future__ import annotations

import socket

import numpy as np
import pytest
import tensorflow as tf
from taco.tf import dynamic_embedding as de

v1 = tf.compat.v1
PS = ["/job:ps/task:0", "/job:ps/task:1"]
KEYS = np.array([3, -8, 2**61, 0, 11, -1])


def start(workers: int):
    """Starts two parameter servers and some workers: what runs where, and the servers."""
    sockets = [socket.socket() for _ in range(2 + workers)]
    for each in sockets:
        each.bind(("localhost", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    cluster = {
        "ps": [f"localhost:{port}" for port in ports[:2]],
        "worker": [f"localhost:{port}" for port in ports[2:]],
    }
    servers = {
        (job, task): tf.distribute.Server(cluster, job_name=job, task_index=task)
        for job, tasks in cluster.items()
        for task in range(len(tasks))
    }
    return cluster, servers


@pytest.fixture(scope="module")
def workers():
    """The targets of two workers' sessions."""
    _, servers = start(2)
    return [servers["worker", task].target for task in range(2)]


class Program:
    """The graph that each worker builds."""

    def __init__(self, task: int, name: str):
        self.graph = tf.Graph()
        with self.graph.as_default(), tf.device(f"/job:worker/task:{task}"):
            self.table = de.get_variable(name, dim=2, devices=PS)
            self.ids = v1.placeholder(tf.int64, [None])
            loss = tf.reduce_sum(tf.nn.embedding_lookup(self.table, self.ids))
            with tf.device(PS[0]):
                optimizer = v1.train.AdamOptimizer(0.1)
                self.step = optimizer.minimize(loss)
            self.sizes = [self.table.size(0), self.table.size(1)]
            self.rows = self.table.lookup(KEYS)
            self.clear = self.table.clear()
            self.saver = v1.train.Saver(sharded=True)
            self.start = v1.global_variables_initializer()


def test_two_workers_train_one_table(workers):
    programs = [Program(task, "shared") for task in range(2)]
    sessions = [
        v1.Session(target, graph=program.graph)
        for target, program in zip(workers, programs, strict=True)
    ]
    sessions[0].run(programs[0].start)
    for step in range(4):
        part = KEYS[:3] if step % 2 == 0 else KEYS[3:]
        sessions[step % 2].run(programs[step % 2].step, {programs[step % 2].ids: part})
    seen = [
        session.run([program.rows, program.sizes])
        for session, program in zip(sessions, programs, strict=True)
    ]
    np.testing.assert_array_equal(seen[0][0], seen[1][0])
    assert (seen[0][0] < -0.05).all()  # two steps down for each row
    assert sum(seen[0][1]) == len(KEYS) and min(seen[0][1]) > 0


def test_a_save_of_both_servers_is_restored(workers, tmp_path):
    program = Program(0, "saved")
    with v1.Session(workers[0], graph=program.graph) as session:
        session.run(program.start)
        for _ in range(2):
            session.run(program.step, {program.ids: KEYS})
        path = program.saver.save(session, str(tmp_path / "m"))
        rows = session.run(program.rows)
        session.run(program.step, {program.ids: KEYS})
        after = session.run(program.rows)
        session.run(program.clear)
        program.saver.restore(session, path)
        np.testing.assert_array_equal(session.run(program.rows), rows)
        session.run(program.step, {program.ids: KEYS})
        np.testing.assert_array_equal(session.run(program.rows), after)


def test_a_coordinator_trains_saves_and_restores(tmp_path):
    # One worker: two in one process wait for each other for ever, with stock variables as well.
    cluster, servers = start(1)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(cluster), rpc_layer="grpc"
    )
    strategy = tf.distribute.ParameterServerStrategy(resolver)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    with strategy.scope():
        table = de.Variable(name="coordinated", dim=2, devices=PS)
        weight = tf.Variable([1.0, 1.0])
        optimizer = tf.keras.optimizers.Adagrad(0.1)
        optimizer.build([table, weight])

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.nn.embedding_lookup(table, tf.constant(KEYS)) * weight)
        optimizer.apply(tape.gradient(loss, [table, weight]), [table, weight])
        return loss

    scheduled = tf.function(lambda: strategy.run(step))
    for _ in range(3):
        coordinator.schedule(scheduled)
    coordinator.join()
    sizes = [int(table.size(i)) for i in range(2)]
    assert sum(sizes) == len(KEYS) and min(sizes) > 0
    rows = table.lookup(KEYS).numpy()
    checkpoint = tf.train.Checkpoint(table=table, weight=weight)
    path = checkpoint.save(str(tmp_path / "m"))
    table.clear()
    checkpoint.restore(path)
    np.testing.assert_array_equal(table.lookup(KEYS), rows)
    alone = de.Variable(name="coordinated", dim=2)
    tf.train.Checkpoint(table=alone).restore(path).expect_partial()
    np.testing.assert_array_equal(alone.lookup(KEYS), rows)
    del servers
