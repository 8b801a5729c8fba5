"""LAMB in the style of tf.compat.v1.train.

You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", 2019.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf


class LAMBOptimizer(tf.compat.v1.train.AdamOptimizer):
    """Layer-wise adaptive moments: Adam's direction, scaled by |weights| / |direction|.

    For an ordinary variable the norms are over all of it. For a table they are over the rows that
    the step touches, those of each of its devices by themselves.

    Example:

    >>> variable = tf.Variable([3.0, 4.0])
    >>> optimizer = LAMBOptimizer(learning_rate=0.1)
    >>> _ = optimizer.apply_gradients([(tf.constant([1.0, 1.0]), variable)])
    >>> [round(x, 3) for x in variable.numpy().tolist()]
    [2.646, 3.646]
    """

    _taco_rule = "lamb"

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        epsilon: Any = 1e-6,
        weight_decay: Any = 0.0,
        use_locking: bool = False,
        name: str = "LAMB",
    ):
        """Creates the optimizer.

        Args:
          learning_rate: number, scalar tensor or callable.
          beta1: decay of the first moment.
          beta2: decay of the second moment.
          epsilon: added to the root of the second moment.
          weight_decay: this times the weights is added to the direction before its norm is taken,
            as in the paper. (Keras's Lamb shrinks the weights beforehand instead.)
          use_locking: as in `tf.compat.v1.train.AdamOptimizer`.
          name: prefix of what the optimizer creates.
        """
        super().__init__(learning_rate, beta1, beta2, epsilon, use_locking, name)
        self._weight_decay = weight_decay

    def _resource_apply_dense(self, grad: tf.Tensor, var: tf.Variable) -> tf.Operation:
        def number(tensor: tf.Tensor) -> tf.Tensor:
            return tf.cast(tensor, var.dtype.base_dtype)

        beta1_power, beta2_power = self._get_beta_accumulators()
        beta1, beta2 = number(self._beta1_t), number(self._beta2_t)
        m = self.get_slot(var, "m")
        v = self.get_slot(var, "v")
        m_new = m.assign(beta1 * m + (1 - beta1) * grad, use_locking=self._use_locking)
        v_new = v.assign(beta2 * v + (1 - beta2) * tf.square(grad), use_locking=self._use_locking)
        m_hat = m_new / (1 - number(beta1_power))
        v_hat = v_new / (1 - number(beta2_power))
        weights = tf.convert_to_tensor(var)
        direction = m_hat / (tf.sqrt(v_hat) + number(self._epsilon_t))
        direction += number(self._weight_decay) * weights
        weight_norm, direction_norm = tf.norm(weights), tf.norm(direction)
        defined = tf.logical_and(weight_norm > 0, direction_norm > 0)
        ratio = tf.where(defined, tf.math.divide_no_nan(weight_norm, direction_norm), 1.0)
        new = weights - number(self._lr_t) * ratio * direction
        return tf.group(var.assign(new, use_locking=self._use_locking))

    def _resource_apply_sparse(
        self, grad: tf.Tensor, var: tf.Variable, indices: tf.Tensor
    ) -> tf.Operation:
        dense = tf.scatter_nd(indices[:, tf.newaxis], grad, tf.shape(var, out_type=indices.dtype))
        return self._resource_apply_dense(dense, var)

    def _apply_dense(self, grad: tf.Tensor, var: tf.Variable) -> tf.Operation:
        raise NotImplementedError("LAMBOptimizer trains resource variables: use_resource=True")

    _apply_sparse = _apply_dense
