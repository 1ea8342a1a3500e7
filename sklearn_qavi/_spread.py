"""Draws of numbers spread around the median of their cell, and means pulled towards it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Center", "Spread", "are_among", "center_of", "factors_between", "spread_column"]

Array = NDArray[np.float64]

LEAST_DEVIATION = 0.01  # in standard deviations; cells are not told apart below


@dataclass(frozen=True)
class Center:
    """What draws of cells are spread around.

    Parameters
    ----------
    median : ndarray of shape (..., N)
        Medians of the cells' draws.
    deviation : ndarray of shape (..., N)
        Mean distances of draws from their median, `LEAST_DEVIATION` at least.
    """

    median: Array
    deviation: Array


@dataclass(frozen=True)
class Spread:
    """Moves draws away from the median of their cell, or towards it, and means towards it.

    The factor of draws depends on the column and on how far the cell's draws are from their median:
    its logarithm is linear in the logarithm of that distance between two distances, and constant
    beyond them. Values that have a mass of their own stay: a zero of a column with many zeros is no
    more likely or unlikely for being far from the median.

    Parameters
    ----------
    factor : ndarray of shape (2, D)
        Of the surest and of the least sure cells of each column; 1 leaves draws as they are.
    deviation : ndarray of shape (2, D)
        Mean distance of draws from the median of such cells, in standard deviations.
    pull : ndarray of shape (D,)
        How far means of cells are pulled towards their medians: 0 leaves them, 1 gives the medians.
    atoms : sequence of ndarray
        For each column the values with a mass of their own, in single precision.
    """

    factor: Array
    deviation: Array
    pull: Array
    atoms: Sequence[NDArray[np.float32]]

    @property
    def changes(self) -> NDArray[np.intp]:
        """Positions of the columns that are not left as they are."""
        return np.flatnonzero((self.factor != 1.0).any(axis=0))

    def pulled(self, mean: Array, center: Center) -> Array:
        """Return means of cells (N, D) pulled towards their medians."""
        return mean + self.pull * (center.median - mean)

    def spread(self, draws: Array, center: Center) -> Array:
        """Return draws (S, N, D) spread around the medians of their cells (N, D)."""
        out = draws.copy()
        for j in self.changes:
            factor, median = self._factors(j, center), center.median[:, j]
            out[..., j] = spread_column(draws[..., j], median, factor, self.atoms[j])
        return out

    def gathered(self, values: Array, center: Center) -> tuple[Array, Array]:
        """Return values (N, D) as they were before, and the logarithms of what they were spread by.

        The density of a value is that of where it was, less the logarithm.
        """
        out, log_factor = values.copy(), np.zeros(values.shape)
        for j in self.changes:
            factor, median = self._factors(j, center), center.median[:, j]
            moved = ~are_among(values[:, j], self.atoms[j])
            before = median + (values[:, j] - median) / factor
            out[:, j] = np.where(moved, before, values[:, j])
            log_factor[:, j] = np.where(moved, np.log(factor), 0.0)
        return out, log_factor

    def _factors(self, j: int, center: Center) -> Array:
        """Return the factors of all cells of one column, (N,)."""
        return factors_between(self.factor[:, j], self.deviation[:, j], center.deviation[:, j])


def center_of(draws: Array) -> Center:
    """Return what draws (S, ...) of some cells are spread around."""
    median: Array = np.median(draws, axis=0)
    deviation: Array = np.abs(draws - median).mean(axis=0)
    return Center(median, np.maximum(deviation, LEAST_DEVIATION))


def factors_between(factor: Array, ends: Array, deviation: Array) -> Array:
    """Return the factors of cells (N,) from those of the surest and of the least sure, (2,)."""
    log_factor: Array = np.interp(np.log(deviation), np.log(ends), np.log(factor))
    return np.exp(log_factor)


def spread_column(
    draws: Array, median: Array, factor: Array | float, atoms: NDArray[np.float32]
) -> Array:
    """Return draws (S, N) of one column spread around the medians of their cells (N,)."""
    moved: Array = np.where(are_among(draws, atoms), draws, median + factor * (draws - median))
    return moved


def are_among(values: Array, atoms: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which values are atoms, in single precision, as decoders draw them."""
    single = values.astype(np.float32)
    if len(atoms) == 0:
        return np.zeros(values.shape, dtype=bool)
    index = np.searchsorted(atoms, single).clip(max=len(atoms) - 1)
    among: NDArray[np.bool_] = atoms[index] == single
    return among
