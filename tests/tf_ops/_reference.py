"""Slow and obvious sparse optimizers, in float64: what TacoTableApply is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np


class Reference:
    """One table of rows by key, updated key by key.

    Args:
        optimizer: as TacoTableApply's attribute.
        dim: length of a row.
        learning_rate: the step's size.
        beta1: momentum, or the first decay.
        beta2: the second decay.
        epsilon: as the stock optimizer of the name adds it.
        slot_init: first value of the slots.
        l1, l2: regularization, for those that have it inside the rule.
    """

    def __init__(
        self,
        optimizer: str,
        dim: int,
        *,
        learning_rate: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        slot_init: tuple[float, float, float] = (0.0, 0.0, 0.0),
        l1: float = 0.0,
        l2: float = 0.0,
    ) -> None:
        self._rule = getattr(self, "_" + optimizer)
        self._dim = dim
        self._lr, self._b1, self._b2, self._eps = learning_rate, beta1, beta2, epsilon
        self._l1, self._l2 = l1, l2
        self._slot_init = slot_init
        self.rows: dict[int, np.ndarray] = {}
        self._slots: dict[int, list[np.ndarray]] = {}
        self._last_step: dict[int, int] = {}

    def apply(self, keys: np.ndarray, grads: np.ndarray, step: int) -> None:
        """keys (n), grads (n, dim); duplicates are summed first."""
        summed: dict[int, np.ndarray] = {}
        for key, grad in zip(keys.tolist(), grads.astype(np.float64), strict=True):
            summed[key] = summed.get(key, 0.0) + grad
        if self._rule.__name__ == "_lamb":
            self._lamb(summed, step)
            return
        for key, grad in summed.items():
            row = self.rows.setdefault(key, np.zeros(self._dim))
            self.rows[key] = row + self._rule(key, grad, step)

    def _state(self, key: int) -> list[np.ndarray]:
        if key not in self._slots:
            self._slots[key] = [np.full(self._dim, value) for value in self._slot_init]
        return self._slots[key]

    def _sgd(self, key: int, grad: np.ndarray, step: int) -> np.ndarray:
        return -self._lr * grad

    def _momentum(self, key: int, grad: np.ndarray, step: int) -> np.ndarray:
        slots = self._state(key)
        slots[0] = self._b1 * slots[0] - self._lr * grad
        return slots[0]

    def _adagrad(self, key: int, grad: np.ndarray, step: int) -> np.ndarray:
        slots = self._state(key)
        slots[0] = slots[0] + grad**2
        return -self._lr * grad / np.sqrt(slots[0] + self._eps)

    def _moments(self, key: int, grad: np.ndarray, elapsed: int = 1) -> list[np.ndarray]:
        slots = self._state(key)
        slots[0] = self._b1**elapsed * slots[0] + (1 - self._b1) * grad
        slots[1] = self._b2**elapsed * slots[1] + (1 - self._b2) * grad**2
        return slots

    def _adam(self, key: int, grad: np.ndarray, step: int, elapsed: int = 1) -> np.ndarray:
        m, v, _ = self._moments(key, grad, elapsed)
        alpha = self._lr * np.sqrt(1 - self._b2**step) / (1 - self._b1**step)
        return -alpha * m / (np.sqrt(v) + self._eps)

    def _sparse_adam(self, key: int, grad: np.ndarray, step: int) -> np.ndarray:
        elapsed = step - self._last_step.get(key, step - 1)
        self._last_step[key] = step
        return self._adam(key, grad, step, elapsed)

    def _rmsprop(self, key: int, grad: np.ndarray, step: int) -> np.ndarray:
        slots = self._state(key)
        slots[0] = self._b2 * slots[0] + (1 - self._b2) * grad**2
        return -self._lr * grad / np.sqrt(slots[0] + self._eps)

    def _adadelta(self, key: int, grad: np.ndarray, step: int) -> np.ndarray:
        slots = self._state(key)
        slots[0] = self._b2 * slots[0] + (1 - self._b2) * grad**2
        delta = -np.sqrt(slots[1] + self._eps) / np.sqrt(slots[0] + self._eps) * grad
        slots[1] = self._b2 * slots[1] + (1 - self._b2) * delta**2
        return self._lr * delta

    def _ftrl(self, key: int, grad: np.ndarray, step: int) -> np.ndarray:
        slots = self._state(key)
        row = self.rows[key]
        new = slots[0] + grad**2
        slots[1] = slots[1] + grad - (np.sqrt(new) - np.sqrt(slots[0])) / self._lr * row
        slots[0] = new
        return -slots[1] * self._lr / np.sqrt(new) - row  # no l1, no l2

    def _proximal(self, row: np.ndarray, grad: np.ndarray, rate: Any) -> np.ndarray:
        moved = row - rate * grad
        left = np.maximum(np.abs(moved) - rate * self._l1, 0)
        return np.sign(moved) * left / (1 + rate * self._l2) - row

    def _proximal_gradient_descent(self, key: int, grad: np.ndarray, step: int) -> np.ndarray:
        return self._proximal(self.rows[key], grad, self._lr)

    def _proximal_adagrad(self, key: int, grad: np.ndarray, step: int) -> np.ndarray:
        slots = self._state(key)
        slots[0] = slots[0] + grad**2
        return self._proximal(self.rows[key], grad, self._lr / np.sqrt(slots[0] + self._eps))

    def _adagrad_da(self, key: int, grad: np.ndarray, step: int) -> np.ndarray:
        slots = self._state(key)
        slots[0] = slots[0] + grad
        slots[1] = slots[1] + grad**2
        left = np.maximum(np.abs(slots[0]) - step * self._l1, 0)
        root = np.sqrt(slots[1] + self._eps)
        found = -np.sign(slots[0]) * self._lr * left / (step * self._l2 * self._lr + root)
        return found - self.rows[key]

    def _lamb(self, summed: dict[int, np.ndarray], step: int) -> None:
        updates = {}
        for key, grad in summed.items():
            m, v, _ = self._moments(key, grad)
            m, v = m / (1 - self._b1**step), v / (1 - self._b2**step)
            updates[key] = m / (np.sqrt(v) + self._eps)
        rows = np.array([self.rows.setdefault(key, np.zeros(self._dim)) for key in summed])
        norms = np.linalg.norm(rows), np.linalg.norm(list(updates.values()))
        ratio = norms[0] / norms[1] if min(norms) > 0 else 1.0
        for key, update in updates.items():
            self.rows[key] = self.rows[key] - self._lr * ratio * update
