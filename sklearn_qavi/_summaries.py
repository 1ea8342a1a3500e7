"""What becomes of posteriors: summaries, draws, scores.

Classes of a module, so that they can be pickled and reach other processes. Each is called with the
posteriors of some rows and the `Chunk` they are of. Values are standardized, (n_values, rows, D).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ._chunks import Chunk
from ._code_draws import without_pixel_noise
from .preprocessing import Column
from .sampling import PooledPosterior, half_sample_mode

__all__ = [
    "CategoryProbabilities",
    "CurvedColumn",
    "DrawsAndScores",
    "KeyedDraws",
    "Limits",
    "LogDensity",
    "Point",
    "Posteriors",
    "Scores",
]

_N_DRAWS = 256  # behind medians, modes and intervals
_Array = NDArray[np.float64]


@dataclass(frozen=True)
class CurvedColumn:
    """A column on a log or logit scale, whose mean is taken over draws in original units."""

    position: int
    column: Column
    location: float
    scale: float

    def mean(self, draws: _Array) -> _Array:
        """Return the standardized number whose value is the mean of the draws' values, (rows,)."""
        values = self.column.from_model(draws * self.scale + self.location).mean(axis=0)
        return (self.column.to_model(values) - self.location) / self.scale


@dataclass(frozen=True)
class Point:
    """One value for each cell: "mean", "median" or "mode", and the most probable category."""

    strategy: str
    curved: tuple[CurvedColumn, ...] = ()
    categorical: tuple[int, ...] = ()

    def __call__(self, pooled: PooledPosterior, chunk: Chunk) -> _Array:
        """Return the values, (1, rows, D)."""
        if self.strategy == "mean":
            values = pooled.point()
            draws = pooled.shared_draws(_N_DRAWS) if self.curved else None
            for column in self.curved:
                assert draws is not None
                values[:, column.position] = column.mean(draws[..., column.position])
        elif self.strategy == "median":
            values = np.median(pooled.shared_draws(_N_DRAWS), axis=0)
        else:
            values = half_sample_mode(pooled.shared_draws(_N_DRAWS))
        return _with_categories(values[None], pooled, self.categorical)


@dataclass(frozen=True)
class Limits:
    """Limits of central intervals that hold a probability ``level``."""

    level: float
    unordered: tuple[int, ...] = ()

    def __call__(self, pooled: PooledPosterior, chunk: Chunk) -> _Array:
        """Return lower and upper limits, (2, rows, D); of unordered categories the likeliest."""
        tail = (1.0 - self.level) / 2
        limits = np.quantile(pooled.shared_draws(_N_DRAWS), [tail, 1.0 - tail], axis=0)
        return _with_categories(limits, pooled, self.unordered)


@dataclass(frozen=True)
class KeyedDraws:
    """Independent draws, keyed by a seed and the positions of the rows."""

    n: int
    seed: int
    in_turn: bool
    first: int = 0
    pixel_noise: bool = True

    def __call__(self, pooled: PooledPosterior, chunk: Chunk) -> _Array:
        """Return the draws, (n, rows, D); without noise the means at the drawn codes."""
        if not self.pixel_noise:
            pooled = without_pixel_noise(pooled)
        return pooled.keyed_draws(
            self.n, chunk.positions, self.seed, first=self.first, in_turn=self.in_turn
        )


@dataclass(frozen=True)
class PointAndDraws:
    """One value for each cell, followed by draws, from one inference."""

    point: Point
    draws: KeyedDraws

    def __call__(self, pooled: PooledPosterior, chunk: Chunk) -> _Array:
        """Return them, (1 + n, rows, D)."""
        return np.concatenate([self.point(pooled, chunk), self.draws(pooled, chunk)])


@dataclass(frozen=True)
class CategoryProbabilities:
    """Probabilities of the categories of all categorical columns, side by side."""

    def __call__(self, pooled: PooledPosterior, chunk: Chunk) -> _Array:
        """Return probabilities, (1, rows, number of all categories)."""
        by_column = pooled.category_probabilities()
        return np.concatenate([by_column[j] for j in sorted(by_column)], axis=1)[None]


@dataclass(frozen=True)
class Posteriors:
    """The posteriors themselves."""

    def __call__(self, pooled: PooledPosterior, chunk: Chunk) -> PooledPosterior:
        """Return them."""
        return pooled


@dataclass(frozen=True)
class LogDensity:
    """Log predictive densities of the true values, in nats."""

    def __call__(self, pooled: PooledPosterior, chunk: Chunk) -> _Array:
        """Return those of all cells, (rows, D)."""
        return pooled.log_predictive(_on_device(chunk.x, pooled))


@dataclass(frozen=True)
class Scores:
    """Scores of the posteriors on the true values of cells that inference did not see."""

    n_draws: int | list[int]

    def __call__(self, pooled: PooledPosterior, chunk: Chunk) -> dict[str, _Array]:
        """Return them by name, each (rows,) or (len(n_draws), rows)."""
        assert chunk.scored is not None
        x, observed, scored = (
            _on_device(cells, pooled) for cells in (chunk.x, chunk.observed, chunk.scored)
        )
        return pooled.score_missing(x, observed, scored, self.n_draws)


@dataclass(frozen=True)
class DrawsAndScores:
    """Draws, and scores on the true values, from one inference."""

    draws: KeyedDraws
    scores: Scores

    def __call__(self, pooled: PooledPosterior, chunk: Chunk) -> tuple[_Array, dict[str, _Array]]:
        """Return draws (n, rows, D) and scores by name."""
        return self.draws(pooled, chunk), self.scores(pooled, chunk)


def _on_device(values: Tensor, pooled: PooledPosterior) -> Tensor:
    return values.to(pooled.results[0].bound.device)


def _with_categories(values: _Array, pooled: PooledPosterior, columns: tuple[int, ...]) -> _Array:
    """Return values (n, rows, D) with the most probable category in some columns."""
    if columns:
        probabilities = pooled.category_probabilities()
        for j in columns:
            values[..., j] = probabilities[j].argmax(axis=1)
    return values
