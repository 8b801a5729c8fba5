"""`Embedding`: keras.layers.Embedding without `input_dim`."""

from __future__ import annotations

import numbers
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from taco.tf import dynamic_embedding
from taco.tf.keras import weights_file
from taco.tf.keras.weight import TableWeight

_KEY_DTYPES = ("int32", "int64")


@keras.saving.register_keras_serializable(package="taco")
class Embedding(keras.layers.Layer):
    """Turns integers of any value into vectors; a row is made when training first reaches its id.

    Where `keras.layers.Embedding(input_dim, output_dim)` has a matrix, this has a hash table: no
    largest id, no collisions, memory for what was seen only. All else is as there.

    Example:

    >>> model = keras.Sequential([Embedding(4, embeddings_initializer="ones"),
    ...                           keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> ids = np.array([[5, -1], [2**62, 5]])
    >>> _ = model.fit(ids, np.ones(2), verbose=0)
    >>> int(model.layers[0].table.size())
    3

    Args:
      output_dim: length of a vector, 1 to 4096.
      embeddings_initializer: a Keras initializer. The distributions of Keras are drawn from (seed,
        layer name, id) alone, so that the same id always starts from the same vector.
      embeddings_regularizer: a Keras regularizer. It is applied to the rows that a batch looks up,
        each row once, and not to the whole table.
      embeddings_constraint: not supported; must be None.
      mask_zero: whether id 0 is padding to be masked out.
      weights: initial rows: a matrix (n, output_dim) for the ids 0 to n - 1, or a pair (ids, rows).
      key_dtype: "int64" or "int32": what ids are kept as.
      init_size: rows expected; a hint.
      devices: where the table lives; several devices split it by id.
      lora_rank: not supported; must be None.
      **kwargs: those of `keras.layers.Layer`: name, trainable, dtype. With a policy such as
        "mixed_bfloat16" rows are kept in float32 and given out as bfloat16; with dtype "bfloat16"
        they are kept so.

    Input: integers of any shape, dense, ragged or sparse (where an absent element is id 0); uint64
    ids keep their 64 bits, so that 2**64 - 1 is id -1. In a
    functional model: `keras.Input(shape, dtype="int64")`, as Keras's default would round them. Such
    an input casts what it is given; a Sequential model refuses floats.
    Output: shape of the input + (output_dim,).
    """

    def __init__(
        self,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        key_dtype: str = "int64",
        init_size: int = 0,
        devices: list[str] | str | None = None,
        lora_rank: int | None = None,
        **kwargs: Any,
    ):
        if isinstance(embeddings_initializer, numbers.Integral):
            raise TypeError(
                f"embeddings_initializer is {embeddings_initializer}. taco.tf.keras.Embedding has "
                f"no input_dim: write Embedding({embeddings_initializer}) for "
                f"keras.layers.Embedding({output_dim}, {embeddings_initializer})"
            )
        _refuse(embeddings_constraint, lora_rank, kwargs)
        output_dim = _integer(output_dim, "output_dim", 1)
        init_size = _integer(init_size, "init_size", 0)
        key_dtype = tf.as_dtype(key_dtype).name
        if key_dtype not in _KEY_DTYPES:
            raise ValueError(f"key_dtype must be int64 or int32, and is {key_dtype}")
        super().__init__(**kwargs)
        self.output_dim = output_dim
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.embeddings_regularizer = keras.regularizers.get(embeddings_regularizer)
        self.embeddings_constraint = None
        self.mask_zero = mask_zero
        self.key_dtype = key_dtype
        self.init_size = init_size
        self.devices = [devices] if isinstance(devices, str) else devices
        self.supports_masking = mask_zero
        self.supports_jit = False  # XLA has no hash tables
        self.autocast = False  # it would cast ids
        if weights is not None:
            self.build()
            self.table.upsert(*self._rows_to_set(weights))

    def build(self, input_shape: Any = None) -> None:
        """Makes the table, empty."""
        del input_shape
        if getattr(self, "_embeddings", None) is not None:
            return
        with tf.init_scope():
            table = dynamic_embedding.Variable(
                name=self.name,  # and not the path, which differs in a model that is loaded
                key_dtype=tf.as_dtype(self.key_dtype),
                value_dtype=tf.as_dtype(self.variable_dtype),
                dim=self.output_dim,
                initializer=self.embeddings_initializer,
                init_size=self.init_size,
                devices=self.devices,
            )
        with keras.name_scope(self.name, caller=self):
            weight = TableWeight(table, name="embeddings")
        self._track_variable(weight)
        self._embeddings = weight
        self.built = True

    @property
    def table(self) -> dynamic_embedding.Variable:
        """The table: lookup, upsert, remove, size, export, stats.

        Raises:
          AttributeError: the layer has not been built.
        """
        return self.embeddings.value

    @property
    def embeddings(self) -> TableWeight:
        """The layer's weight."""
        if not self.built:
            raise AttributeError("You must build the layer before accessing `embeddings`.")
        return self._embeddings

    def call(self, inputs: Any) -> Any:
        """Looks rows up. See the class for shapes."""
        if isinstance(inputs, tf.SparseTensor):
            shape = inputs.shape
            inputs = tf.sparse.to_dense(tf.sparse.reorder(inputs))
            inputs.set_shape(shape)
        if isinstance(inputs, tf.RaggedTensor):
            return tf.ragged.map_flat_values(self._rows, inputs)
        return self._rows(ops.convert_to_tensor(inputs))

    def _rows(self, ids: tf.Tensor) -> tf.Tensor:
        ids = self._as_keys(ids)
        if self.embeddings_regularizer is not None:
            distinct = tf.unique(tf.reshape(ids, [-1]))[0]
            self.add_loss(self.embeddings_regularizer(tf.gather(self.table, distinct)))
        return tf.cast(tf.gather(self.table, ids), self.compute_dtype)

    def _as_keys(self, ids: tf.Tensor) -> tf.Tensor:
        if ids.dtype == tf.string:
            raise TypeError(
                f"layer '{self.name}' takes integer ids, and was given strings: hash them first, "
                "for example with tf.strings.to_hash_bucket_fast(ids, 2**62)"
            )
        self._refuse_unless_integer(ids.dtype)
        if ids.dtype in (tf.int64, tf.uint32, tf.uint64) and self.key_dtype == "int32":
            raise TypeError(
                f"layer '{self.name}' has int32 ids, and was given {ids.dtype.name}: make it with "
                "key_dtype='int64', or cast the ids"
            )
        return tf.cast(ids, self.key_dtype)

    def _refuse_unless_integer(self, dtype: Any) -> None:
        dtype = tf.as_dtype(dtype)
        if dtype == tf.bool:
            raise TypeError(
                f"layer '{self.name}' takes integer ids, and was given bool: a mask in place of "
                "ids? If its values are meant, cast them to int64"
            )
        if not dtype.is_integer and tf.distribute.get_strategy().num_replicas_in_sync > 1:
            # What Keras builds a model with is then not the data, whose type is not to be blamed.
            raise NotImplementedError(
                f"layer '{self.name}' is a dynamic embedding table, which cannot be trained under "
                "a tf.distribute strategy of several replicas: train it without one, or under "
                "tf.distribute.OneDeviceStrategy"
            )
        if not dtype.is_integer:
            raise TypeError(
                f"layer '{self.name}' takes integer ids, and was given {dtype.name} (to which "
                "Keras casts float arrays by itself), which rounds large ones: cast the ids, and "
                "give the model its input as keras.Input(shape, dtype='int64') (Keras's default "
                "is float32)"
            )

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """True where an id is not 0; None without `mask_zero`."""
        del mask
        if not self.mask_zero:
            return None
        return ops.not_equal(inputs, 0)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """The input's shape + (output_dim,)."""
        return (*input_shape, self.output_dim)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """What `call` gives for a symbolic input."""
        self._refuse_unless_integer(inputs.dtype)
        return keras.KerasTensor(
            self.compute_output_shape(inputs.shape),
            dtype=self.compute_dtype,
            ragged=getattr(inputs, "ragged", False),
        )

    def enable_lora(self, *args: Any, **kwargs: Any) -> None:
        """Not supported.

        Raises:
          ValueError: always.
        """
        del args, kwargs
        _refuse(None, 1, {})

    def save_own_variables(self, store: Any) -> None:
        """Writes the table, slots included, into a Keras weights file."""
        if self.built:
            weights_file.save(self.table, store)

    def load_own_variables(self, store: Any) -> None:
        """Replaces the table's rows by those of a Keras weights file.

        Raises:
          ValueError: the file holds no table for this layer, or a corrupt one.
        """
        if not self.built:
            raise ValueError(
                f"layer '{self.name}' was never built, and has no table to load into: call the "
                "model on some data, or build() it, first"
            )
        weights_file.load(self.table, store, what=f"layer '{self.name}'")

    def get_config(self) -> dict[str, Any]:
        """The arguments that would make this layer again; `weights` apart."""
        initializer = keras.initializers.serialize(self.embeddings_initializer)
        _pin_seed(initializer, self.embeddings_initializer)
        return {
            **super().get_config(),
            "output_dim": self.output_dim,
            "embeddings_initializer": initializer,
            "embeddings_regularizer": keras.regularizers.serialize(self.embeddings_regularizer),
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            "embeddings_constraint": None,
            "mask_zero": self.mask_zero,
            "key_dtype": self.key_dtype,
            "init_size": self.init_size,
            "devices": self.devices,
        }

    def _rows_to_set(self, weights: Any) -> tuple[np.ndarray, tf.Tensor]:
        pair = isinstance(weights, tuple) and len(weights) == 2
        if isinstance(weights, list) and len(weights) == 1:
            weights = weights[0]  # keras.layers.Embedding allows [matrix]
        rows = np.asarray(weights[1] if pair else weights)
        ids = np.asarray(weights[0]) if pair else np.arange(len(rows))
        if rows.shape != (ids.size, self.output_dim):
            raise ValueError(
                f"weights: expected rows of shape ({ids.size}, {self.output_dim}), and got "
                f"{rows.shape}"
            )
        return ids.reshape(-1), tf.cast(rows, self.variable_dtype)


def _integer(value: Any, what: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        kind = "a positive integer" if least else "an integer, 0 or more"
        raise ValueError(f"{what} must be {kind}, and is {value!r}")
    return int(value)


def _refuse(constraint: Any, lora_rank: Any, kwargs: dict[str, Any]) -> None:
    """Arguments of keras.layers.Embedding that a table cannot honour."""
    if "input_dim" in kwargs:
        raise TypeError(
            "taco.tf.keras.Embedding has no input_dim: rows are made on demand. Leave it out"
        )
    if constraint is not None:
        raise ValueError(
            "embeddings_constraint is not supported by a dynamic table: it would rewrite every row "
            "after every step. Constrain what you look up instead, for example with "
            "keras.layers.UnitNormalization after the layer"
        )
    if lora_rank:
        raise ValueError(
            "LoRA is not supported by a dynamic table, which has no matrix to factor: leave "
            "lora_rank out. To adapt rows that stay as they are, give this layer trainable=False "
            "and add the output of a second Embedding"
        )


def _pin_seed(config: Any, initializer: Any) -> None:
    """Writes down the seed that an initializer has drawn for itself: rows not yet in the table must
    start from the same values after the model has been loaded again."""
    seed = getattr(initializer, "seed", None)
    inner = config.get("config") if isinstance(config, dict) else None
    if isinstance(inner, dict) and inner.get("seed", 0) is None and isinstance(seed, int):
        inner["seed"] = seed
