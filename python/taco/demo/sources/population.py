"""Users or items that are born, drawn by a long-tailed law while they live, and die.

Everything about an individual follows from (seed, index) through one generator at the start, so
the stream needs no state but its position.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class PopulationConfig:
    """How a population comes and goes.

    Attributes:
        founders: Alive when the stream begins.
        newcomers: Born evenly over the stream.
        lifetime: Mean life in days, exponential.
        exponent: Of the Zipf-Mandelbrot law: the r-th most popular weighs (r + shift)**-exponent.
        shift: Flattens the head, so that nobody alone is a large share of the stream.
        fading: Days after which the weight of an individual has fallen by a factor e; inf: never.
    """

    founders: int
    newcomers: int
    lifetime: float
    exponent: float
    shift: float
    fading: float = float("inf")


class Population:
    """Draws individuals by what they weigh at a time.

    Args:
        config: See there.
        days: Length of the stream.
        rng: Consumed while building, never afterwards.
    """

    def __init__(self, config: PopulationConfig, days: float, rng: np.random.Generator) -> None:
        self.size = config.founders + config.newcomers
        self._fading = config.fading
        lives = rng.exponential(config.lifetime, self.size)
        # Founders are met in mid-life: of an exponential law, age and rest are both exponential.
        ages = rng.exponential(config.lifetime, config.founders)
        births = np.sort(rng.uniform(0.0, days, config.newcomers))
        self.births: FloatArray = np.concatenate([-ages, births])
        starts = np.concatenate([np.zeros(config.founders), births])
        self.deaths: FloatArray = starts + lives
        ranks = rng.permutation(self.size) + 1.0 + config.shift
        self._weights: FloatArray = np.power(ranks, -config.exponent, dtype=np.float64)

    def weights(self, day: float) -> FloatArray:
        """Returns the unnormalised weight of each individual, (size,), 0 outside its life."""
        alive = (self.births <= day) & (day < self.deaths)
        ages = np.maximum(day - self.births, 0.0)
        return np.where(alive, self._weights * np.exp(-ages / self._fading), 0.0)

    def draw(self, day: float, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draws with replacement.

        Args:
            day: Time of the draw.
            count: How many.
            rng: Source of chance.

        Returns:
            (count,) indices of individuals alive at that time.

        Raises:
            ValueError: Nobody is alive.
        """
        cumulated = np.cumsum(self.weights(day))
        if cumulated[-1] <= 0:
            raise ValueError(f"nobody is alive on day {day:g}; raise founders or lifetime")
        at = np.searchsorted(cumulated, rng.uniform(0.0, cumulated[-1], count), side="right")
        return np.minimum(at, self.size - 1)
