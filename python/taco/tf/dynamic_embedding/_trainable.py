"""`TrainableWrapper`: one lookup's share of a table, as TFRA hands it to optimizers."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.framework import ops as tf_ops
from tensorflow.python.ops import resource_variable_ops

from taco.tf.dynamic_embedding._whole import WholeValueRefusals
from taco.tf.dynamic_embedding.variable import Variable


class ModelMode:
    """Whether lookups are made for training or for serving.

    TFRA builds other graphs for the two. Here a lookup never writes, so that both are the same
    graph; the setting is kept for programs that read it.
    """

    TRAIN = "train"
    INFERENCE = "inference"
    CURRENT_SETTING = TRAIN


def enable_train_mode() -> None:
    """Sets the mode to `ModelMode.TRAIN`."""
    ModelMode.CURRENT_SETTING = ModelMode.TRAIN


def enable_inference_mode() -> None:
    """Sets the mode to `ModelMode.INFERENCE`."""
    ModelMode.CURRENT_SETTING = ModelMode.INFERENCE


def get_model_mode() -> str:
    """The mode last set."""
    return ModelMode.CURRENT_SETTING


class TrainableWrapper(WholeValueRefusals, resource_variable_ops.BaseResourceVariable):
    """The rows that one lookup reads, as a variable for `var_list` of an optimizer.

    Its gradient is that of this lookup alone; the table itself (`params`) in `var_list` stands for
    all lookups. Optimizers update the table; given several wrappers of it in one call, they add up
    their gradients first.

    Attributes:
      params: the table.
      ids: the keys looked up.
    """

    def __init__(self, params: Variable, ids: tf.Tensor, name: str):
        """Stands for the lookup of `ids`, a tensor of params.key_dtype, in `params`."""
        self.params = params
        self.ids = ids
        handle = tf.identity(params.handle)
        super().__init__(
            trainable=params.trainable,
            shape=(None, params.dim),
            dtype=params.value_dtype,
            handle=handle,
            name=name,
            unique_id=f"{name}_{tf_ops.uid()}",
            handle_name=name,
            in_graph_mode=not context.executing_eagerly(),
        )

    @property
    def _taco_table(self) -> Variable:
        return self.params

    @property
    def name(self) -> str:
        return self._handle_name.removesuffix(":0")

    def size(self) -> tf.Tensor:
        """Rows in the table: int64 scalar."""
        return self.params.size()

    def value(self) -> tf.Tensor:
        """The rows of `ids` now, (ids.shape + (dim,)); gradients reach this wrapper."""
        resource_variable_ops.variable_accessed(self)
        return self.params._gather(self.ids, self.handle)

    def read_value(self, do_prefetch: bool = True) -> tf.Tensor:
        """As `value`."""
        del do_prefetch
        return self.value()

    def numpy(self) -> Any:
        """As `value`, in eager mode."""
        return self.value().numpy()

    def _dense_var_to_tensor(self, *args: Any, **kwargs: Any) -> tf.Tensor:
        del args, kwargs
        return self.value()

    def __tf_tensor__(self, dtype: Any = None, name: Any = None) -> tf.Tensor:
        del dtype, name
        return self.value()

    def update_op(self, v0: tf.Tensor | None = None) -> tf.Operation | None:
        """Inserts those of `ids` that are absent, at their initial value.

        TFRA's programs call it after an optimizer; here the optimizer has updated the table."""
        del v0
        values, exists = self.params.lookup(self.ids, return_exists=True)
        return self.params.accum(self.ids, values, values, exists)

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f"<taco TrainableWrapper '{self.name}' of '{self.params.name}'>"


def trainable_wrapper_filter(
    items: Any, test_unaggregated_function: Any = None
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Splits variables into those of fixed shape and those that are tables, or lookups of tables.

    Args:
      items: an iterable.
      test_unaggregated_function: says of an item whether it is of the second kind.

    Returns:
      (the first kind, the second kind), each in the order given.
    """
    is_table = test_unaggregated_function or (
        lambda item: isinstance(item, (Variable, TrainableWrapper))
    )
    items = list(items)
    return (
        tuple(item for item in items if not is_table(item)),
        tuple(item for item in items if is_table(item)),
    )
