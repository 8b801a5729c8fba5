"""A killed tf.train.Checkpoint save leaves the last good checkpoint, tables included, as it was."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import tensorflow as tf
from taco.tf import dynamic_embedding as de

ROWS = 60_000

# Saves for ever; in each save all rows, and a dense variable, hold the number of the save.
CHILD = f"""
import sys
import tensorflow as tf
from taco.tf import dynamic_embedding as de

table = de.Variable(name="t", dim=16)
dense = tf.Variable(tf.zeros([16]))
checkpoint = tf.train.Checkpoint(table=table, dense=dense)
manager = tf.train.CheckpointManager(checkpoint, sys.argv[1], max_to_keep=2)
number = float(sys.argv[2])
while True:
    number += 1
    table.upsert(tf.range({ROWS}, dtype=tf.int64), tf.fill([{ROWS}, 16], number))
    dense.assign(tf.fill([16], number))
    manager.save()
    print(int(number), flush=True)
"""


def test_kill_at_random_moments(tmp_path: pathlib.Path) -> None:
    rng = random.Random(11)
    number = 0
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        reported = [int(child.stdout.readline())]
        deadline = time.monotonic() + rng.uniform(0.0, 0.3)
        while time.monotonic() < deadline:
            pass
        child.send_signal(signal.SIGKILL)
        reported += [int(line) for line in child.stdout.read().split()]
        child.wait()

        table, dense = de.Variable(name="t", dim=16), tf.Variable(tf.zeros([16]))
        latest = tf.train.latest_checkpoint(str(tmp_path))
        tf.train.Checkpoint(table=table, dense=dense).restore(latest).assert_consumed()
        values = table.export()[1].numpy()
        number = int(values[0, 0])
        assert values.shape == (ROWS, 16)
        assert (values == number).all()
        assert (dense.numpy() == number).all()
        assert number >= reported[-1]
