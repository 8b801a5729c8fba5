"""A drifting Zipf click stream whose true click chances are known.

Two populations, users and items, come and go (`population.py`). A user's taste is a vector that
turns slowly; an item's character is its category's, plus its author's, plus its own. The chance of
a click on an impression of item i to user u at time t is

    sigmoid(base + b_u + b_i + a_author - staleness * age_i + daily(t) + <p_u(t), q_i>)

and the label is drawn from it. The chance is handed out as `Chunk.truth`: ranking by it gives the
highest expected AUC any model can have, and its cross-entropy the lowest expected log-loss. What
the chance is made of (vectors, biases, ages) is never handed out; a model sees five ids.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from taco.demo.hashing import field_ids
from taco.demo.sources.base import Chunk, LineReport
from taco.demo.sources.population import FloatArray, Population, PopulationConfig

_CHUNK = 2048  # impressions drawn at one moment; part of what a seed means


@dataclass(frozen=True)
class ClickStreamConfig:
    """The world the stream is drawn from; docs/demo.md argues for the values.

    Attributes:
        rows: Impressions in all.
        seed: Same seed and values, same stream, on any machine with the same numpy.
        days: Time the stream spans.
        users, items: Who comes and goes.
        categories, authors: Groups of items; authors are of Zipf size.
        rank: Length of the taste vectors.
        base: Log odds of an average impression.
        user_spread, item_spread, author_spread: Standard deviations of the biases.
        taste_spread: Standard deviation of the product of taste and character.
        turn: Radians by which a user's taste turns in the whole stream, on average.
        staleness: Log odds an item loses a day of age.
        daily: Amplitude of the daily wave of the log odds.
    """

    rows: int = 1_500_000
    seed: int = 1
    days: float = 14.0
    users: PopulationConfig = field(
        default_factory=lambda: PopulationConfig(
            8_000, 40_000, lifetime=20.0, exponent=0.8, shift=50.0
        )
    )
    items: PopulationConfig = field(
        default_factory=lambda: PopulationConfig(
            4_000, 40_000, lifetime=6.0, exponent=1.0, shift=10.0, fading=3.0
        )
    )
    categories: int = 40
    authors: int = 4_000
    rank: int = 8
    base: float = -1.8
    user_spread: float = 0.6
    item_spread: float = 0.6
    author_spread: float = 0.4
    taste_spread: float = 1.0
    turn: float = 0.8
    staleness: float = 0.1
    daily: float = 0.2


class ClickStreamSource:
    """Generates the stream; see `Source` for the attributes.

    Args:
        config: The world.
    """

    def __init__(self, config: ClickStreamConfig) -> None:
        self.name = f"generated click stream (seed {config.seed})"
        self.fields: tuple[str, ...] = ("user", "item", "author", "category", "hour")
        self.rows: int | None = config.rows
        self.report = LineReport()
        self._config = config
        rng = np.random.default_rng([config.seed, 0])
        self._users = Population(config.users, config.days, rng)
        self._items = Population(config.items, config.days, rng)
        self._draw_tastes(rng)
        self._draw_items(rng)

    def chunks(self) -> Iterator[Chunk]:
        """Yields impressions in time order, 2048 at a time, in bounded memory."""
        c = self._config
        for number, start in enumerate(range(0, c.rows, _CHUNK)):
            rng = np.random.default_rng([c.seed, 1, number])
            day = c.days * start / c.rows
            yield self._draw_chunk(day, rng).slice(0, min(_CHUNK, c.rows - start))

    def _draw_tastes(self, rng: np.random.Generator) -> None:
        c, size = self._config, self._users.size
        # With entries of variance s/sqrt(rank) on both sides the product has variance s**2.
        scale = math.sqrt(c.taste_spread / math.sqrt(c.rank))
        self._taste_from = rng.normal(0.0, scale, (size, c.rank))
        self._taste_to = rng.normal(0.0, scale, (size, c.rank))
        self._turn_a_day = rng.exponential(c.turn / c.days, size)
        self._user_bias = rng.normal(0.0, c.user_spread, size)

    def _draw_items(self, rng: np.random.Generator) -> None:
        c, size = self._config, self._items.size
        scale = math.sqrt(c.taste_spread / math.sqrt(c.rank))
        shares = np.arange(1, c.authors + 1) ** -1.0
        self._author = rng.choice(c.authors, size, p=shares / shares.sum())
        self._category = rng.integers(0, c.categories, c.authors)[self._author]
        # Variance: half from the category, a quarter each from the author and the item itself.
        self._character = (
            rng.normal(0.0, scale * math.sqrt(0.5), (c.categories, c.rank))[self._category]
            + rng.normal(0.0, scale * 0.5, (c.authors, c.rank))[self._author]
            + rng.normal(0.0, scale * 0.5, (size, c.rank))
        )
        self._item_bias = rng.normal(0.0, c.item_spread, size)
        self._item_bias += rng.normal(0.0, c.author_spread, c.authors)[self._author]

    def _draw_chunk(self, day: float, rng: np.random.Generator) -> Chunk:
        users = self._users.draw(day, _CHUNK, rng)
        items = self._items.draw(day, _CHUNK, rng)
        truth = 1.0 / (1.0 + np.exp(-self._log_odds(users, items, day)))
        labels = (rng.uniform(size=_CHUNK) < truth).astype(np.float32)
        hours = np.full(_CHUNK, int(day * 24) % 24)
        columns = {
            "user": users,
            "item": items,
            "author": self._author[items],
            "category": self._category[items],
            "hour": hours,
        }
        ids = np.stack([field_ids(name, columns[name]) for name in self.fields], axis=1)
        return Chunk(ids, labels, truth)

    def _log_odds(self, users: np.ndarray, items: np.ndarray, day: float) -> FloatArray:
        c = self._config
        angle = (self._turn_a_day[users] * day)[:, None]
        taste = np.cos(angle) * self._taste_from[users] + np.sin(angle) * self._taste_to[users]
        odds: FloatArray = (taste * self._character[items]).sum(axis=1)
        odds += c.base + self._user_bias[users] + self._item_bias[items]
        odds -= c.staleness * (day - self._items.births[items])
        odds += c.daily * math.sin(2 * math.pi * day)
        return odds
