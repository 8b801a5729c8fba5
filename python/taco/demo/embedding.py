"""The one place where the two programs differ: which layer turns ids into vectors.

TensorFlow and Keras are imported inside the functions, since `import taco.demo` must not.
"""

from dataclasses import dataclass, field
from typing import Any

from taco.demo.errors import DemoError

KINDS = ("taco", "stock", "exact")
"""taco: dynamic table. stock: hashed buckets. exact: a row an id, numbered with hindsight."""

TITLES = {
    "taco": "TACO table",
    "stock": "hashed buckets",
    "exact": "a row an id",
}

LAYERS = {
    "taco": "taco.tf.keras.Embedding",
    "stock": "keras.layers.Embedding, hashed buckets",
    "exact": "keras.layers.Embedding, a row an id",
}

SLOTS = {"adam": 2, "adagrad": 1, "sgd": 0}
"""Optimizer -> floats it keeps beside each weight."""


@dataclass(frozen=True)
class Memory:
    """What the embeddings occupy.

    Attributes:
        rows: Rows held: ids of the dynamic table, buckets of the stock one.
        bytes: Vectors, optimizer slots, and for the dynamic table keys, index and slack: all that
            it holds from the system.
        stats: The dynamic table's own counters; empty for a stock table.
    """

    rows: int
    bytes: int
    stats: dict[str, Any] = field(default_factory=dict)


def row_bytes(width: int, optimizer: str) -> int:
    """Returns the bytes of one row of a stock table with its slots, float32."""
    return 4 * width * (1 + SLOTS[optimizer])


def require(kind: str) -> None:
    """Fails early where a kind cannot run.

    Raises:
        DemoError: TACO's TensorFlow side cannot be loaded.
    """
    if kind != "taco":
        return
    try:
        import taco.tf.keras

        taco.tf.keras.Embedding(1).build()  # loads the library
    except Exception as error:  # whatever stands in the way, the library does not load
        raise DemoError(
            f"TACO's TensorFlow library cannot be loaded: {error}",
            "in a checkout run `make build`; elsewhere `taco doctor` says what is missing; "
            "`--kinds stock` runs without it",
        ) from error


def make_embedding(kind: str, width: int, *, buckets: int = 0, name: str = "embedding") -> Any:
    """Makes the layer that turns ids (n, fields) int64 into vectors (n, fields, width) float32.

    Args:
        kind: One of `KINDS`.
        width: Length of a vector.
        buckets: Rows of the stock table; "taco" needs none.
        name: Name of the layer.

    Returns:
        A Keras layer. "taco" and "stock" take any int64; "exact" takes 0 to buckets - 1.
    """
    import keras

    if kind == "taco":
        import taco.tf.keras

        return taco.tf.keras.Embedding(width, embeddings_initializer="uniform", name=name)
    stock = keras.layers.Embedding(buckets, width, embeddings_initializer="uniform", name=name)
    if kind == "exact":
        return stock

    class Hashed(keras.layers.Layer):
        """`Embedding` behind ids modulo buckets; the ids are hashes already."""

        def __init__(self) -> None:
            super().__init__(name="hashed")
            self.table = stock

        def call(self, ids: Any) -> Any:
            return self.table(keras.ops.mod(ids, buckets))

    return Hashed()


def memory(kind: str, layer: Any, optimizer: Any) -> Memory:
    """Measures what a layer's rows occupy, the optimizer's slots included.

    Args:
        kind: The layer's kind.
        layer: What `make_embedding` returned, built.
        optimizer: The Keras optimizer that trained it.

    Returns:
        For stock kinds the sizes of the variables themselves; for "taco" what the table counts.
    """
    if kind == "taco":
        stats = layer.table.stats()
        return Memory(int(stats["rows"]), int(stats["bytes"]), dict(stats))
    table = (layer.table if kind == "stock" else layer).embeddings
    slots = [slot for slot in optimizer.variables if slot.shape == table.shape]
    number = 1 + len(slots)
    return Memory(int(table.shape[0]), 4 * number * int(table.shape[0]) * int(table.shape[1]))
