"""DeepFM (Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction",
IJCAI 2017) as a plain Keras 3 model. It does not know which embedding it is given.
"""

from collections.abc import Sequence
from typing import Any

DEFAULT_HIDDEN = (64, 32)


def build_deepfm(embedding: Any, hidden: Sequence[int] = DEFAULT_HIDDEN) -> Any:
    """Builds the model: ids (n, fields) int64 -> logits (n, 1) float32.

    Args:
        embedding: Layer from ids to (n, fields, 1 + dim): the first number of a vector is the id's
            first-order weight, the others are its factors, which FM and deep part share.
        hidden: Widths of the deep part.

    Returns:
        An unbuilt, uncompiled `keras.Model`.
    """
    import keras
    from keras import layers, ops

    class DeepFM(keras.Model):
        """First-order weights, pairwise products of factors, and a multi-layer perceptron."""

        def __init__(self) -> None:
            super().__init__(name="deepfm")
            self.embedding = embedding
            self.deep = keras.Sequential(
                [layers.Flatten()]
                + [layers.Dense(width, activation="relu") for width in hidden]
                + [layers.Dense(1)]
            )

        def call(self, ids: Any) -> Any:
            vectors = self.embedding(ids)
            first_order = ops.sum(vectors[:, :, 0], axis=1, keepdims=True)
            factors = vectors[:, :, 1:]
            square_of_sum = ops.square(ops.sum(factors, axis=1))
            sum_of_squares = ops.sum(ops.square(factors), axis=1)
            pairs = 0.5 * ops.sum(square_of_sum - sum_of_squares, axis=1, keepdims=True)
            return first_order + pairs + self.deep(factors)

    return DeepFM()


def make_optimizer(name: str, learning_rate: float) -> Any:
    """Makes a stock Keras optimizer.

    Args:
        name: A key of `embedding.SLOTS`.
        learning_rate: Constant.
    """
    import keras

    makers = {
        "adam": keras.optimizers.Adam,
        "adagrad": keras.optimizers.Adagrad,
        "sgd": keras.optimizers.SGD,
    }
    return makers[name](learning_rate=learning_rate)
