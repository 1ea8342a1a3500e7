"""Draws of numbers spread around the mean of their cell."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Spread", "are_among", "spread_column"]

Array = NDArray[np.float64]


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
            out[..., j] = spread_column(draws[..., j], center[:, j], self.factor[j], self.atoms[j])
        return out

    def gathered(self, values: Array, center: Array) -> tuple[Array, Array]:
        """Return values (N, D) as they were before, and the logarithms of what they were spread by.

        The density of a value is that of where it was, less the logarithm.
        """
        out, log_factor = values.copy(), np.zeros(values.shape)
        for j in self.changes:
            moved = ~are_among(values[:, j], self.atoms[j])
            before = center[:, j] + (values[:, j] - center[:, j]) / self.factor[j]
            out[:, j] = np.where(moved, before, values[:, j])
            log_factor[:, j] = np.where(moved, np.log(self.factor[j]), 0.0)
        return out, log_factor


def spread_column(draws: Array, center: Array, factor: float, atoms: NDArray[np.float32]) -> Array:
    """Return draws (S, N) of one column spread around the means of their cells (N,)."""
    moved: Array = np.where(are_among(draws, atoms), draws, center + factor * (draws - center))
    return moved


def are_among(values: Array, atoms: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which values are atoms, in single precision, as decoders draw them."""
    single = values.astype(np.float32)
    if len(atoms) == 0:
        return np.zeros(values.shape, dtype=bool)
    index = np.searchsorted(atoms, single).clip(max=len(atoms) - 1)
    among: NDArray[np.bool_] = atoms[index] == single
    return among
