"""Spread of draws around the mean of their cell, set by hidden cells whose values are known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Spread", "learn_factors"]

Array = NDArray[np.float64]

_FACTORS = 2.0 ** np.linspace(-1.0, 1.0, 25)  # that are tried
_ROWS_OF_ALL = 200  # rows that the columns together count as, beside those of a column itself
_TRUSTED = 0.7  # share of a factor's logarithm: decoders were chosen by the same cells


@dataclass(frozen=True)
class Spread:
    """Moves draws away from the mean of their cell, or towards it, by a factor of their column.

    Values that have a mass of their own stay: a zero of a column with many zeros is no more likely
    or unlikely for being far from the mean.

    Parameters
    ----------
    factor : ndarray of shape (D,)
        One for each column; 1 leaves it as it is.
    atoms : sequence of ndarray
        For each column the values with a mass of their own, in single precision.
    """

    factor: Array
    atoms: Sequence[NDArray[np.float32]]

    @property
    def changes(self) -> NDArray[np.intp]:
        """Positions of the columns that are not left as they are."""
        return np.flatnonzero(self.factor != 1.0)

    def spread(self, draws: Array, center: Array) -> Array:
        """Return draws (S, N, D) spread around the means of their cells (N, D)."""
        out = draws.copy()
        for j in self.changes:
            out[..., j] = _spread(draws[..., j], center[:, j], self.factor[j], self.atoms[j])
        return out

    def gathered(self, values: Array, center: Array) -> tuple[Array, Array]:
        """Return values (N, D) as they were before, and the logarithms of what they were spread by.

        The density of a value is that of where it was, less the logarithm.
        """
        out, log_factor = values.copy(), np.zeros(values.shape)
        for j in self.changes:
            moved = ~_are_among(values[:, j], self.atoms[j])
            before = center[:, j] + (values[:, j] - center[:, j]) / self.factor[j]
            out[:, j] = np.where(moved, before, values[:, j])
            log_factor[:, j] = np.where(moved, np.log(self.factor[j]), 0.0)
        return out, log_factor


def learn_factors(
    draws: Array,
    truth: Array,
    weight: Array,
    atoms: Sequence[NDArray[np.float32]],
    n_masks: int = 1,
) -> Array:
    """Return the factors with which draws of hidden cells have the lowest CRPS.

    A column's own curve over the factors counts by its number of rows, the mean curve of all
    columns as 200 rows more: so few rows say little of a single column. Of the best factor's
    logarithm seven tenths are taken, since the hidden cells have been used to choose decoders.

    Parameters
    ----------
    draws : ndarray of shape (S, N, D)
        Draws; they may be in any units, with means of a cell not far from the truth.
    truth : ndarray of shape (N, D)
        Values of the hidden cells.
    weight : ndarray of shape (N, D)
        How much a cell counts; 0 for cells that were not hidden, and in columns that are to be left
        as they are.
    atoms : sequence of ndarray
        See `Spread`.
    n_masks : int, default=1
        How many times each row is there.

    Returns
    -------
    factor : ndarray of shape (D,)
        1 for columns without a cell, and where all draws have a mass of their own.
    """
    n_columns = truth.shape[1]
    curves = np.full((n_columns, len(_FACTORS)), np.nan)
    unchanged = len(_FACTORS) // 2
    for j in range(n_columns):
        cells = weight[:, j] > 0
        drawn = draws[:, cells, j]
        if not cells.any() or _are_among(drawn, atoms[j]).all():
            continue
        center = drawn.mean(axis=0)
        scores = [
            _crps(_spread(drawn, center, factor, atoms[j]), truth[cells, j]) for factor in _FACTORS
        ]
        curve = np.average(scores, axis=1, weights=weight[cells, j])
        if curve[unchanged] > 0:
            curves[j] = curve / curve[unchanged]
    known = ~np.isnan(curves[:, 0])
    factors = np.ones(n_columns)
    if known.any():
        n_rows = (weight[:, known] > 0).sum(axis=0)[:, None] / n_masks
        curves = n_rows * curves[known] + _ROWS_OF_ALL * curves[known].mean(axis=0)
        factors[known] = _FACTORS[curves.argmin(axis=1)] ** _TRUSTED
    return factors


def _spread(draws: Array, center: Array, factor: float, atoms: NDArray[np.float32]) -> Array:
    moved: Array = np.where(_are_among(draws, atoms), draws, center + factor * (draws - center))
    return moved


def _are_among(values: Array, atoms: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which values are atoms, in single precision, as decoders draw them."""
    single = values.astype(np.float32)
    if len(atoms) == 0:
        return np.zeros(values.shape, dtype=bool)
    index = np.searchsorted(atoms, single).clip(max=len(atoms) - 1)
    among: NDArray[np.bool_] = atoms[index] == single
    return among


def _crps(draws: Array, truth: Array) -> Array:
    """Return the fair CRPS of draws (S, N) at the truth (N,)."""
    n = len(draws)
    rank = 2.0 * np.arange(1, n + 1) - n - 1.0
    score: Array = np.abs(draws - truth).mean(axis=0)
    return score - rank @ np.sort(draws, axis=0) / (n * (n - 1))
