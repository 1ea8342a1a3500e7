"""By how much draws are to be spread, learned from hidden cells whose values are known."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from .._spread import are_among, spread_column
from ._training import crps_of_draws, half_mean_distance

__all__ = ["learn_factors"]

Array = NDArray[np.float64]

_FACTORS = 2.0 ** np.linspace(-1.0, 1.0, 25)  # that are tried
_ROWS_OF_ALL = 200  # rows that the columns together count as, beside those of a column itself
_TRUSTED = 0.7  # share of a factor's logarithm: decoders were chosen by the same cells


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
        if not cells.any() or are_among(drawn, atoms[j]).all():
            continue
        scores = _scores(drawn, truth[cells, j], atoms[j])
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


def _scores(draws: Array, truth: Array, atoms: NDArray[np.float32]) -> list[Array]:
    """Return the CRPS (N,) of draws (S, N) of one column spread by each of the factors."""
    center = draws.mean(axis=0)
    if are_among(draws, atoms).any():
        return [_crps(spread_column(draws, center, factor, atoms), truth) for factor in _FACTORS]
    # the order of the draws stays, and so do their distances but for the factor
    deviation, error = draws - center, center - truth
    distance = half_mean_distance(torch.from_numpy(deviation).unsqueeze(-1)).squeeze(-1).numpy()
    return [
        np.abs(error + factor * deviation).mean(axis=0) - factor * distance for factor in _FACTORS
    ]


def _crps(draws: Array, truth: Array) -> Array:
    """Return the CRPS of draws (S, N) at the truth (N,)."""
    one_column = torch.from_numpy(draws).unsqueeze(-1), torch.from_numpy(truth).unsqueeze(-1)
    score: Array = crps_of_draws(*one_column, categorical=()).squeeze(-1).numpy()
    return score
