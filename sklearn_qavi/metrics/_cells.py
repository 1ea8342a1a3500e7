"""Scores of imputations, over the cells that were hidden and nothing else.

``missing`` is a boolean mask, True for a cell to score. Values are in the unit of ``X_true``; with
``scale``, one number per column such as its standard deviation, they are in multiples of it, so
that columns of different units may be averaged.
"""

from collections.abc import Iterable
from typing import cast

import numpy as np
import scoringrules
from numpy.typing import ArrayLike, NDArray

from .._checks import plain

_BLOCK_CELLS = 65_536  # cells scored at a time, to bound the memory
_BLOCK_ROWS = 256  # rows whose draws are compared with each other at a time


def masked_rmse(
    X_true: ArrayLike, X_imputed: ArrayLike, missing: ArrayLike, *, scale: ArrayLike | None = None
) -> float:
    """Root mean squared error over the missing cells.

    Parameters
    ----------
    X_true : array-like of shape (n_rows, n_features)
        True values. Cells that are not scored may hold anything.
    X_imputed : array-like of shape (n_rows, n_features)
        Completed table in the unit of ``X_true``.
    missing : array-like of bool of shape (n_rows, n_features)
        True for a cell to score.
    scale : float or array-like of shape (n_features,), default=None
        Errors are divided by it; None leaves them in the unit of ``X_true``.

    Returns
    -------
    rmse : float
        In the unit of ``X_true``, or in multiples of ``scale``. Lower is better.

    Raises
    ------
    ValueError
        If shapes differ, nothing is to be scored, a scored cell is not finite or a scale is not
        positive.

    See Also
    --------
    masked_mae : Mean absolute error.
    masked_crps : Score of draws rather than of one value.

    Examples
    --------
    >>> from sklearn_qavi.metrics import masked_rmse
    >>> X_true = [[1.0, 10.0], [2.0, 20.0]]
    >>> X_imputed = [[1.0, 13.0], [6.0, 20.0]]
    >>> missing = [[False, True], [True, False]]
    >>> masked_rmse(X_true, X_imputed, missing)
    3.535...
    """
    return float(np.sqrt(np.mean(_errors(X_true, X_imputed, missing, scale) ** 2)))


def masked_mae(
    X_true: ArrayLike, X_imputed: ArrayLike, missing: ArrayLike, *, scale: ArrayLike | None = None
) -> float:
    """Mean absolute error over the missing cells.

    It is the CRPS of a forecast that puts all its mass on one value, so it compares with
    `masked_crps`.

    Parameters
    ----------
    X_true : array-like of shape (n_rows, n_features)
        True values. Cells that are not scored may hold anything.
    X_imputed : array-like of shape (n_rows, n_features)
        Completed table in the unit of ``X_true``.
    missing : array-like of bool of shape (n_rows, n_features)
        True for a cell to score.
    scale : float or array-like of shape (n_features,), default=None
        Errors are divided by it; None leaves them in the unit of ``X_true``.

    Returns
    -------
    mae : float
        In the unit of ``X_true``, or in multiples of ``scale``. Lower is better.

    Raises
    ------
    ValueError
        If shapes differ, nothing is to be scored, a scored cell is not finite or a scale is not
        positive.

    See Also
    --------
    masked_rmse : Root mean squared error.
    masked_crps : Score of draws rather than of one value.

    Examples
    --------
    >>> from sklearn_qavi.metrics import masked_mae
    >>> X_true = [[1.0, 10.0], [2.0, 20.0]]
    >>> X_imputed = [[1.0, 13.0], [6.0, 20.0]]
    >>> missing = [[False, True], [True, False]]
    >>> masked_mae(X_true, X_imputed, missing)
    3.5
    >>> masked_mae(X_true, X_imputed, missing, scale=[1.0, 10.0])
    2.15
    """
    return float(np.mean(np.abs(_errors(X_true, X_imputed, missing, scale))))


def masked_crps(
    X_true: ArrayLike, draws: ArrayLike, missing: ArrayLike, *, scale: ArrayLike | None = None
) -> float:
    """Mean continuous ranked probability score of draws over the missing cells.

    Parameters
    ----------
    X_true : array-like of shape (n_rows, n_features)
        True values. Cells that are not scored may hold anything.
    draws : array-like of shape (n, n_rows, n_features)
        At least two completed tables in the unit of ``X_true``, such as `QAVIImputer.sample`
        returns; a list of dataframes will do.
    missing : array-like of bool of shape (n_rows, n_features)
        True for a cell to score.
    scale : float or array-like of shape (n_features,), default=None
        Values are divided by it; None leaves them in the unit of ``X_true``.

    Returns
    -------
    crps : float
        In the unit of ``X_true``, or in multiples of ``scale``. Lower is better.

    Raises
    ------
    ValueError
        If there are fewer than two draws, shapes differ, nothing is to be scored, a scored cell is
        not finite or a scale is not positive.

    See Also
    --------
    masked_mae : What the score becomes for a single value.
    interval_coverage : Whether the spread of the draws is right.

    Notes
    -----
    The score of draws X of a cell with true value y is ``E|X - y| - E|X - X'| / 2``, estimated
    with probability weighted moments, ``estimator="pwm"`` of `scoringrules.crps_ensemble`. The
    second mean then runs over pairs of different draws ([1]_), so for independent draws the
    estimate is unbiased and scores from different numbers of draws compare. Single cells may come
    out slightly negative.

    References
    ----------
    .. [1] Zamo, Naveau (2018), "Estimation of the continuous ranked probability score with
       limited information and applications to ensemble weather forecasts", Mathematical
       Geosciences 50.

    Examples
    --------
    >>> from sklearn_qavi.metrics import masked_crps
    >>> X_true = [[1.0, 10.0]]
    >>> draws = [[[1.0, 8.0]], [[1.0, 12.0]], [[1.0, 11.0]]]
    >>> round(masked_crps(X_true, draws, [[False, True]]), 3)
    0.333
    """
    truth, values = _scored_draws(X_true, draws, missing, scale)
    blocks = range(0, len(truth), _BLOCK_CELLS)
    parts = [slice(start, start + _BLOCK_CELLS) for start in blocks]
    # numpy on every machine: scoringrules would take numba wherever that is installed
    total = sum(_crps_of_cells(truth[part], values[:, part]).sum() for part in parts)
    return float(total / len(truth))


def interval_coverage(
    X_true: ArrayLike, draws: ArrayLike, missing: ArrayLike, *, level: float = 0.9
) -> float:
    """Share of the missing cells whose true value lies in the central interval of the draws.

    Parameters
    ----------
    X_true : array-like of shape (n_rows, n_features)
        True values. Cells that are not scored may hold anything.
    draws : array-like of shape (n, n_rows, n_features)
        Completed tables in the unit of ``X_true``, at least ``2 / (1 - level) - 1`` of them: 19
        for 0.9, 39 for 0.95. A list of dataframes will do.
    missing : array-like of bool of shape (n_rows, n_features)
        True for a cell to score.
    level : float, default=0.9
        Mass of the interval, between 0 and 1.

    Returns
    -------
    coverage : float
        Between 0 and 1. Below ``level`` the draws are too narrow, above it too wide.

    Raises
    ------
    ValueError
        If the draws are too few for the level, shapes differ, nothing is to be scored or a scored
        cell is not finite.

    See Also
    --------
    interval_width : How wide those intervals are; of two with equal coverage take the narrower.

    Notes
    -----
    Limits are the draws' quantiles at rank ``p (n + 1)``. If the truth and the n draws are
    exchangeable, it then lies inside with probability ``level`` for any n; with the more usual
    rank ``p (n - 1) + 1`` only about 0.81 of perfect 90% intervals from 20 draws would hold it.
    The limits count as inside, so columns with repeated values may be covered more often.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_qavi.metrics import interval_coverage
    >>> rng = np.random.default_rng(0)
    >>> X_true, missing = rng.normal(size=(500, 4)), rng.random((500, 4)) < 0.5
    >>> draws = rng.normal(size=(100, 500, 4))
    >>> round(interval_coverage(X_true, draws, missing, level=0.9), 1)
    0.9
    >>> round(interval_coverage(X_true, 0.1 * draws, missing, level=0.9), 1)
    0.1
    """
    truth, values = _scored_draws(X_true, draws, missing)
    lower, upper = _limits(values, level)
    return float(np.mean((lower <= truth) & (truth <= upper)))


def interval_width(
    draws: ArrayLike, missing: ArrayLike, *, level: float = 0.9, scale: ArrayLike | None = None
) -> float:
    """Mean width of the central intervals of the draws over the missing cells.

    Parameters
    ----------
    draws : array-like of shape (n, n_rows, n_features)
        Completed tables, at least ``2 / (1 - level) - 1`` of them: 19 for 0.9, 39 for 0.95. A list
        of dataframes will do.
    missing : array-like of bool of shape (n_rows, n_features)
        True for a cell to measure.
    level : float, default=0.9
        Mass of the interval, between 0 and 1.
    scale : float or array-like of shape (n_features,), default=None
        Widths are divided by it; None leaves them in the unit of the draws.

    Returns
    -------
    width : float
        In the unit of the draws, or in multiples of ``scale``.

    Raises
    ------
    ValueError
        If the draws are too few for the level, shapes differ, nothing is to be measured, a
        measured cell is not finite or a scale is not positive.

    See Also
    --------
    interval_coverage : Share of the intervals that hold the truth, from the same limits.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_qavi.metrics import interval_width
    >>> draws = np.linspace(0.0, 1.0, 101).reshape(101, 1, 1)
    >>> round(interval_width(draws, [[True]], level=0.5), 2)
    0.51
    """
    tables = _as_draws(draws)
    mask = _as_mask(missing, tables.shape[1:])
    lower, upper = _limits(_cells("draws", tables, mask, scale), level)
    return float(np.mean(upper - lower))


def energy_score(
    X_true: ArrayLike, draws: ArrayLike, missing: ArrayLike, *, scale: ArrayLike | None = None
) -> float:
    """Mean energy score of draws: whether a row's missing cells are right together.

    Parameters
    ----------
    X_true : array-like of shape (n_rows, n_features)
        True values. Cells that are not scored may hold anything.
    draws : array-like of shape (n, n_rows, n_features)
        At least two completed tables in the unit of ``X_true``; a list of dataframes will do.
    missing : array-like of bool of shape (n_rows, n_features)
        True for a cell to score.
    scale : float or array-like of shape (n_features,), default=None
        Values are divided by it; None leaves them in the unit of ``X_true``.

    Returns
    -------
    score : float
        In the unit of ``X_true``, or in multiples of ``scale``; mean over the rows with a cell to
        score. Lower is better.

    Raises
    ------
    ValueError
        If there are fewer than two draws, shapes differ, nothing is to be scored, a scored cell is
        not finite or a scale is not positive.

    See Also
    --------
    masked_crps : The same for each cell alone, blind to how cells go together.

    Notes
    -----
    The score of draws X of a row with truth y is ``E||X - y|| - E||X - X'|| / 2`` over its missing
    cells, with the second mean over pairs of different draws, so that it is unbiased for
    independent draws ([1]_). For one missing cell per row it is the CRPS.

    References
    ----------
    .. [1] Gneiting, Raftery (2007), "Strictly proper scoring rules, prediction, and estimation".

    Examples
    --------
    >>> from sklearn_qavi.metrics import energy_score
    >>> X_true = [[0.0, 0.0]]
    >>> draws = [[[3.0, 4.0]], [[0.0, 0.0]]]
    >>> energy_score(X_true, draws, [[True, True]])
    0.0
    """
    truth, tables, _ = _scored_rows(X_true, draws, missing, scale)
    n = len(tables)
    total = 0.0
    for start in range(0, len(truth), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        values = tables[:, part].swapaxes(0, 1)
        score = scoringrules.es_ensemble(truth[part], values, estimator="nrg", backend="numpy")
        # the estimator counts a draw's distance from itself; pairs of different draws are fewer
        error = np.linalg.norm(values - truth[part, None], axis=-1).mean(axis=1)
        total += float((error - (error - score) * n / (n - 1)).sum())
    return total / len(truth)


def minimum_nrmse(
    X_true: ArrayLike, draws: ArrayLike, missing: ArrayLike, *, scale: ArrayLike | None = None
) -> float:
    """Mean over rows of the smallest error among the draws.

    Parameters
    ----------
    X_true : array-like of shape (n_rows, n_features)
        True values. Cells that are not scored may hold anything.
    draws : array-like of shape (n, n_rows, n_features)
        At least two completed tables in the unit of ``X_true``; a list of dataframes will do.
    missing : array-like of bool of shape (n_rows, n_features)
        True for a cell to score.
    scale : float or array-like of shape (n_features,), default=None
        Values are divided by it, the columns' standard deviations for the paper's figure.

    Returns
    -------
    nrmse : float
        Mean over the rows with a cell to score of the smallest root mean squared error over the
        row's cells.

    Raises
    ------
    ValueError
        If there are fewer than two draws, shapes differ, nothing is to be scored, a scored cell is
        not finite or a scale is not positive.

    See Also
    --------
    masked_rmse : Error of one answer; `masked_crps` for all draws.

    Notes
    -----
    The paper's "NRMSE" ([1]_, Table 1, there of 10,000 decoder means). It falls with the number
    of draws and rewards wide ones: compare it for equal numbers only, and not alone.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), "A Decoder Suffices for Query-Adaptive
       Variational Inference", UAI.

    Examples
    --------
    >>> from sklearn_qavi.metrics import minimum_nrmse
    >>> draws = [[[1.0, 8.0]], [[1.0, 11.0]]]
    >>> minimum_nrmse([[1.0, 10.0]], draws, [[False, True]])
    1.0
    """
    truth, tables, mask = _scored_rows(X_true, draws, missing, scale)
    count = mask.sum(axis=1)
    squared = sum(
        (tables[..., j] - truth[:, j]) ** 2 for j in range(truth.shape[1])
    )  # a column at a time, to bound the memory
    return float(np.sqrt(squared / count).min(axis=0).mean())


def _scored_rows(
    X_true: ArrayLike, draws: ArrayLike, missing: ArrayLike, scale: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return truth (R, D) and draws (S, R, D) of the rows to score, zero elsewhere, and the mask.

    Zeros in the cells that are not scored leave distances between rows as they are.
    """
    truth, values = _scored_draws(X_true, draws, missing, scale)
    mask = np.asarray(missing)
    rows = mask.any(axis=1)
    tables = np.zeros((len(values), *mask.shape))
    tables[:, mask] = values
    true_rows = np.zeros(mask.shape)
    true_rows[mask] = truth
    return true_rows[rows], tables[:, rows], mask[rows]


def _errors(
    X_true: ArrayLike, X_imputed: ArrayLike, missing: ArrayLike, scale: ArrayLike | None
) -> NDArray[np.float64]:
    truth, imputed = _as_table("X_true", X_true), _as_table("X_imputed", X_imputed)
    if imputed.shape != truth.shape:
        raise ValueError(
            f"X_imputed has shape {imputed.shape}, but X_true has {truth.shape}; "
            "pass the completed version of the same rows and columns."
        )
    mask = _as_mask(missing, truth.shape)
    return _cells("X_imputed", imputed, mask, scale) - _cells("X_true", truth, mask, scale)


def _scored_draws(
    X_true: ArrayLike, draws: ArrayLike, missing: ArrayLike, scale: ArrayLike | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the truth of the scored cells (C,) and their draws (S, C)."""
    truth, tables = _as_table("X_true", X_true), _as_draws(draws)
    if tables.shape[1:] != truth.shape:
        raise ValueError(
            f"draws holds tables of shape {tables.shape[1:]}, but X_true has {truth.shape}; "
            "pass draws of the same rows and columns."
        )
    mask = _as_mask(missing, truth.shape)
    return _cells("X_true", truth, mask, scale), _cells("draws", tables, mask, scale)


def _as_table(name: str, table: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(table, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(
            f"{name} must have two dimensions (n_rows, n_features), got shape {array.shape}."
        )
    return array


def _as_draws(draws: ArrayLike | Iterable[ArrayLike]) -> NDArray[np.float64]:
    tables = np.asarray(
        [np.asarray(draw, dtype=np.float64) for draw in cast(Iterable[ArrayLike], draws)]
    )
    if tables.ndim != 3 or len(tables) < 2:
        raise ValueError(
            "draws must be at least two tables, of shape (n, n_rows, n_features), got shape "
            f"{tables.shape}; pass e.g. imputer.sample(X, n=100), or score one completed table "
            "with masked_rmse or masked_mae."
        )
    return tables


def _as_mask(missing: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.asarray(missing)
    if mask.dtype != bool:
        raise ValueError(
            f"missing must be a boolean mask, True for a cell to score, got dtype {mask.dtype}; "
            "np.isnan(X_missing) gives one."
        )
    if mask.shape != shape:
        raise ValueError(
            f"missing has shape {mask.shape}, but the tables have {shape}; pass one mask for all."
        )
    if not mask.any():
        raise ValueError("missing marks no cell, so there is nothing to score; hide some cells.")
    return mask


def _cells(
    name: str, table: NDArray[np.float64], mask: NDArray[np.bool_], scale: ArrayLike | None
) -> NDArray[np.float64]:
    """Return the masked cells of a table, or of each of several, on the last axis."""
    cells = table[..., mask]
    if not np.isfinite(cells).all():
        bad = int((~np.isfinite(cells)).sum())
        columns = np.unique(np.nonzero(mask)[1][np.nonzero(~np.isfinite(cells))[-1]])
        raise ValueError(
            f"{name} holds NaN or infinity in {bad} of {cells.size} cells that missing marks, in "
            f"the column(s) at positions {columns.tolist()}; mark only cells whose true value is "
            "known, and complete all of them."
        )
    return cells if scale is None else cells / _as_scale(scale, mask.shape)[mask]


def _as_scale(scale: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    array = np.asarray(scale, dtype=np.float64)
    if array.shape not in {(), shape[1:]}:
        raise ValueError(
            f"scale must be one number or one for each of the {shape[1]} columns, got shape "
            f"{array.shape}."
        )
    if not (np.isfinite(array) & (array > 0)).all():
        raise ValueError(
            f"scale must be positive and finite, got {array}; give 1 for a constant column."
        )
    return np.broadcast_to(array, shape)


def _crps_of_cells(truth: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    crps = scoringrules.crps_ensemble(truth, values.T, estimator="pwm", backend="numpy")
    return np.asarray(crps)


def _limits(
    values: NDArray[np.float64], level: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lower and upper limits (C,) of the central intervals of draws (S, C)."""
    if not 0.0 < level < 1.0:
        raise ValueError(
            f"level must be between 0 and 1, got {plain(level)}; 0.9 means 90% intervals."
        )
    tail = (1.0 - level) / 2.0
    if tail * (len(values) + 1) < 1.0 - 1e-9:
        needed = int(np.ceil(1.0 / tail - 1.0 - 1e-9))
        raise ValueError(
            f"Intervals of level {level} need at least {needed} draws, got {len(values)}; "
            "take more draws or a lower level."
        )
    lower, upper = np.quantile(values, [tail, 1.0 - tail], axis=0, method="weibull")
    return lower, upper
