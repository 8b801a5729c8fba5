"""How much of a growing table's tail is the table's own.

On one thread the same keys make the same work at the same batch in every run, so what is long in
one run and not in another is the machine's (page faults of the host, other guests). The least time
of each batch over several runs is the table's own.

    python -m benchmarks.embedding.growth_tail --threads 1 --runs 6
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np

BATCH = 8192
ROWS = 10_000_000
DIM = 16


def grow(name: str) -> np.ndarray:
    """Seconds of each batch while a table grows from nothing to ROWS."""
    import tensorflow as tf
    from taco.tf import dynamic_embedding as de

    table = de.get_variable(name, dim=DIM, initializer=0.0)

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, DIM], tf.float32)]
    )
    def upsert(keys, rows):
        table.upsert(keys, rows)
        return 0

    keys = np.arange(ROWS, dtype=np.int64) * np.int64(0x1E3779B97F4A7C15)
    rows = tf.ones([BATCH, DIM])
    upsert(tf.constant(keys[:1]), rows[:1])
    seconds = []
    for begin in range(0, ROWS - BATCH, BATCH):
        batch = tf.constant(keys[begin : begin + BATCH])
        start = time.perf_counter()
        upsert(batch, rows)
        seconds.append(time.perf_counter() - start)
    return np.array(seconds)


def tail(seconds: np.ndarray) -> str:
    """The p99.9 and the longest batch over the median."""
    median = np.median(seconds)
    return (
        f"median {median * 1e3:.2f} ms, p99.9 {np.quantile(seconds, 0.999) / median:.2f}x, "
        f"longest {seconds.max() / median:.2f}x"
    )


def main() -> None:
    """Runs it and prints a line a run, and one for the least times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=6)
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    runs = []
    for run in range(arguments.runs):
        runs.append(grow(f"run{run}"))
        print(f"run {run + 1}: {tail(runs[-1])}", flush=True)
    print(f"least of each batch over {len(runs)} runs: {tail(np.min(runs, axis=0))}")


if __name__ == "__main__":
    main()
