"""How far draws are to be spread and means pulled, learned from hidden cells of known values."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from .._spread import Center, are_among, center_of, spread_column
from ._training import crps_of_draws, half_mean_distance

__all__ = ["learn_factors", "learn_pulls"]

Array = NDArray[np.float64]

_LOG_STEP = 0.125 * np.log(2.0)
_LOG_FACTORS = _LOG_STEP * np.arange(-24, 17)  # that cells are scored with, 1/8 to 4
_UNCHANGED = 24
_CENTRAL = slice(4, 33)  # that a column's typical cell is tried with, 1/5.7 to 2
_SLOPES = np.array([-0.2, 0.0, 0.2, 0.4, 0.6])  # of log factors over log deviations
_FLAT = 1
_ENDS = (0.02, 0.98)  # quantiles of deviations between which a factor depends on them
_TAIL = 0.05  # probability beyond each limit of the intervals that are scored
_ROWS_OF_ALL = 200  # rows that the columns together count as, beside those of a column itself
_TRUSTED = 0.7  # share of logarithms of factors, and of pulls: cells have also chosen decoders
_DRAWS_WITH_ATOMS = 64  # that are scored at most where each factor has to be tried
_PULLS = np.linspace(0.0, 1.0, 9)
_ROWS_OF_ALL_PULLS = 50


def learn_factors(
    draws: Array,
    truth: Array,
    weight: Array,
    atoms: Sequence[NDArray[np.float32]],
    n_masks: int = 1,
) -> tuple[Array, Array]:
    """Return the factors with which draws of hidden cells have the best scores.

    A score is the sum of the CRPS and of the interval score of 90% intervals, both in shares of
    those of draws as they are. A column's own scores count by its number of rows, the mean scores
    of all columns as 200 rows more: so few rows say little of a single column. Of the best factors'
    logarithms seven tenths are taken, since the hidden cells have been used to choose decoders.

    Parameters
    ----------
    draws : ndarray of shape (S, N, D)
        Draws, in standard deviations.
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
    factor, deviation : ndarray of shape (2, D)
        See `Spread`. Factors are 1 for columns without a cell, and where all draws have a mass of
        their own.
    """
    n_columns = truth.shape[1]
    factor, ends = np.ones((2, n_columns)), np.ones((2, n_columns))
    shares, learned = [], []
    for j in range(n_columns):
        cells = weight[:, j] > 0
        drawn, of_cells = draws[:, cells, j], weight[cells, j]
        if not cells.any() or are_among(drawn, atoms[j]).all():
            continue
        center = center_of(drawn)
        ends[:, j] = np.quantile(center.deviation, _ENDS, method="inverted_cdf")
        place = np.log(center.deviation.clip(*ends[:, j]))
        typical = np.average(place, weights=of_cells)
        scores = _scores(drawn, truth[cells, j], center, atoms[j])
        mean_scores = _mean_scores(scores, place - typical, of_cells)
        unchanged = mean_scores[:, _FLAT, _UNCHANGED - _CENTRAL.start, None, None]
        if (unchanged > 0).all():
            shares.append((mean_scores / unchanged).sum(axis=0))
            learned.append((j, cells.sum() / n_masks, np.log(ends[:, j]) - typical))
    of_all = _ROWS_OF_ALL * np.mean(shares, axis=0) if shares else 0.0
    for (j, n_rows, places), share in zip(learned, shares, strict=True):
        total = n_rows * share + of_all
        slope, central = np.unravel_index(total.argmin(), total.shape)
        log_factor = _LOG_FACTORS[_CENTRAL][central] + _SLOPES[slope] * places
        factor[:, j] = np.exp(_TRUSTED * log_factor.clip(_LOG_FACTORS[0], _LOG_FACTORS[-1]))
    return factor, ends


def learn_pulls(mean: Array, median: Array, truth: Array, weight: Array, n_masks: int = 1) -> Array:
    """Return how far means of hidden cells are to be pulled towards medians, as shares of the way.

    Means follow a few draws far out. Seven tenths of what gives the smallest mean squared error
    are taken. A column's own errors count by its number of rows, the mean errors of all columns as
    50 rows more.

    Parameters
    ----------
    mean, median, truth, weight : ndarray of shape (N, D)
        Means and medians of cells, their values, and how much a cell counts, 0 where it was not
        hidden.
    n_masks : int, default=1
        How many times each row is there.

    Returns
    -------
    pull : ndarray of shape (D,)
        From 0, the mean, to 1, the median.
    """
    moved = mean + _PULLS[:, None, None] * (median - mean)
    total = weight.sum(axis=0)
    squared = (weight * np.square(moved - truth)).sum(axis=1) / np.where(total > 0, total, 1.0)
    known = (total > 0) & (squared[0] > 0)
    pull = np.zeros(len(total))
    if known.any():
        share = squared[:, known] / squared[0, known]
        n_rows = (weight[:, known] > 0).sum(axis=0) / n_masks
        share = n_rows * share + _ROWS_OF_ALL_PULLS * share.mean(axis=1, keepdims=True)
        pull[known] = _TRUSTED * _PULLS[share.argmin(axis=0)]
    return pull


def _mean_scores(scores: Array, place: Array, weight: Array) -> Array:
    """Return the mean scores (2, slopes, factors) of cells (N,) at different places.

    The logarithm of a cell's factor is that of a typical cell, plus a slope times its place, the
    logarithm of its deviation less that of the typical cell. ``scores`` (2, all factors, N) are
    known of each factor, and taken as linear between.
    """
    log_factor = _LOG_FACTORS[_CENTRAL, None] + _SLOPES[:, None, None] * place
    index = (log_factor - _LOG_FACTORS[0]) / _LOG_STEP
    index = index.clip(0.0, len(_LOG_FACTORS) - 1)
    below = np.minimum(index.astype(np.intp), len(_LOG_FACTORS) - 2)
    share, cell = index - below, np.arange(len(place))
    between = (1.0 - share) * scores[:, below, cell] + share * scores[:, below + 1, cell]
    mean: Array = between @ (weight / weight.sum())
    return mean


def _scores(draws: Array, truth: Array, center: Center, atoms: NDArray[np.float32]) -> Array:
    """Return CRPS and interval scores (2, factors, N) of draws (S, N) of one column spread."""
    factors, median = np.exp(_LOG_FACTORS), center.median
    if are_among(draws, atoms).any():
        draws = draws[:: -(-len(draws) // _DRAWS_WITH_ATOMS)]
        moved = (spread_column(draws, median, factor, atoms) for factor in factors)
        pairs = [(_crps(drawn, truth), _interval_score(_limits(drawn), truth)) for drawn in moved]
        return np.stack(pairs, axis=1)
    # the order of the draws stays, and so do their distances but for the factor
    deviation, error = draws - median, median - truth
    distance = half_mean_distance(torch.from_numpy(deviation).unsqueeze(-1)).squeeze(-1).numpy()
    limits = _limits(deviation)
    pairs = [
        (
            np.abs(error + factor * deviation).mean(axis=0) - factor * distance,
            _interval_score(median + factor * limits, truth),
        )
        for factor in factors
    ]
    return np.stack(pairs, axis=1)


def _limits(draws: Array) -> Array:
    """Return lower and upper limits of 90% intervals of draws (S, N), (2, N)."""
    limits: Array = np.quantile(draws, [_TAIL, 1.0 - _TAIL], axis=0)
    return limits


def _interval_score(limits: Array, truth: Array) -> Array:
    """Return the scores of intervals (2, N) at the truth: their width, more where they miss it."""
    lower, upper = limits
    missed = np.maximum(lower - truth, 0.0) + np.maximum(truth - upper, 0.0)
    score: Array = upper - lower + missed / _TAIL
    return score


def _crps(draws: Array, truth: Array) -> Array:
    """Return the CRPS of draws (S, N) at the truth (N,)."""
    one_column = torch.from_numpy(draws).unsqueeze(-1), torch.from_numpy(truth).unsqueeze(-1)
    score: Array = crps_of_draws(*one_column, categorical=()).squeeze(-1).numpy()
    return score
