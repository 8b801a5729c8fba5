"""A DeepFM in Keras 3, as one would write it without TACO; one line differs.

Run it with `python examples/deepfm_keras.py`; add `--stock` for Keras' own layer, which needs to
know how many ids there will ever be, and must be given ids below that.
"""

import sys

import keras
import numpy as np
import taco.tf.keras
from keras import layers, ops

FIELDS, DIM, BUCKETS = 3, 8, 20_000


def make_embedding():
    if "--stock" in sys.argv:
        return layers.Embedding(BUCKETS, 1 + DIM)
    return taco.tf.keras.Embedding(1 + DIM)  # the one line: no input_dim, any 64-bit id


class DeepFM(keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding = make_embedding()
        self.deep = keras.Sequential(
            [layers.Flatten(), layers.Dense(32, activation="relu"), layers.Dense(1)]
        )

    def call(self, ids):
        vectors = self.embedding(ids)  # (batch, fields, 1 + dim)
        first_order, factors = ops.sum(vectors[:, :, 0], 1, keepdims=True), vectors[:, :, 1:]
        square_of_sum = ops.square(ops.sum(factors, 1))
        sum_of_squares = ops.sum(ops.square(factors), 1)
        pairs = 0.5 * ops.sum(square_of_sum - sum_of_squares, 1, keepdims=True)
        return first_order + pairs + self.deep(factors)


def make_log(rows=100_000, seed=1):
    """Clicks that depend on user, item and shop; ids are 64-bit, negative ones included."""
    rng = np.random.default_rng(seed)
    index = np.stack([rng.zipf(1.3, rows) % 5_000 for _ in range(FIELDS)], axis=1)
    weight = rng.normal(0.0, 1.0, (FIELDS, 5_000))
    odds = sum(weight[field, index[:, field]] for field in range(FIELDS)) - 1.0
    clicks = rng.uniform(size=rows) < 1.0 / (1.0 + np.exp(-odds))
    ids = rng.integers(-(2**63), 2**63, (FIELDS, 5_000))[np.arange(FIELDS), index]
    return ids, clicks.astype("float32")


def main():
    ids, clicks = make_log()
    if "--stock" in sys.argv:
        ids = ids % BUCKETS
    model = DeepFM()
    model.compile(
        optimizer=keras.optimizers.Adam(0.005),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.AUC(from_logits=True, name="auc")],
    )
    model.fit(ids, clicks, batch_size=512, epochs=2, validation_split=0.2, verbose=2)


if __name__ == "__main__":
    main()
