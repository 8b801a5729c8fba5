"""Dynamic embeddings: variables without a size, whose rows come and go by key.

The names and their behaviour are those of TensorFlow Recommenders Addons' `dynamic_embedding`.
START HERE: `get_variable`, and then TensorFlow's own `tf.nn.embedding_lookup`.
"""

from taco.tf.dynamic_embedding._creators import (
    CuckooHashTableConfig,
    CuckooHashTableCreator,
    FileSystemSaver,
    KVCreator,
)
from taco.tf.dynamic_embedding._get_variable import get_variable
from taco.tf.dynamic_embedding._lookup import (
    embedding_lookup,
    embedding_lookup_sparse,
    embedding_lookup_unique,
    safe_embedding_lookup_sparse,
)
from taco.tf.dynamic_embedding._optimizer import DynamicEmbeddingOptimizer
from taco.tf.dynamic_embedding._partition import default_partition_fn
from taco.tf.dynamic_embedding._restrict import (
    FrequencyRestrictPolicy,
    RestrictPolicy,
    TimestampRestrictPolicy,
)
from taco.tf.dynamic_embedding._trainable import (
    ModelMode,
    TrainableWrapper,
    enable_inference_mode,
    enable_train_mode,
    get_model_mode,
    trainable_wrapper_filter,
)
from taco.tf.dynamic_embedding.variable import GraphKeys, Variable

__all__ = [
    "CuckooHashTableConfig",
    "CuckooHashTableCreator",
    "DynamicEmbeddingOptimizer",
    "FileSystemSaver",
    "FrequencyRestrictPolicy",
    "GraphKeys",
    "KVCreator",
    "ModelMode",
    "RestrictPolicy",
    "TimestampRestrictPolicy",
    "TrainableWrapper",
    "Variable",
    "default_partition_fn",
    "embedding_lookup",
    "embedding_lookup_sparse",
    "embedding_lookup_unique",
    "enable_inference_mode",
    "enable_train_mode",
    "get_model_mode",
    "get_variable",
    "safe_embedding_lookup_sparse",
    "trainable_wrapper_filter",
]
