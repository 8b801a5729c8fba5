"""SparseAdam in Keras 3's style."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable(package="taco")
class SparseAdam(keras.optimizers.Adam):
    """Adam that makes up, at a row's next update, for the steps in which it had no gradient.

    The moments of a table's row are decayed by the number of steps since the row was last touched,
    where plain Adam decays them once. Variables that are no tables are trained by Adam.

    Example:

    >>> from taco.tf import dynamic_embedding as de
    >>> import tensorflow as tf
    >>> table = de.Variable(name="t", dim=2)
    >>> optimizer = SparseAdam(learning_rate=0.1)
    >>> with tf.GradientTape() as tape:
    ...     loss = tf.reduce_sum(tf.nn.embedding_lookup(table, tf.constant([3], tf.int64)))
    >>> optimizer.apply(tape.gradient(loss, [table]), [table])
    >>> [round(x, 3) for x in table.lookup([3]).numpy()[0].tolist()]
    [-0.1, -0.1]
    """
