"""Scores of a fitted imputer in nats: the log density it gives to cells that were hidden."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator


def iwae(
    imputer: BaseEstimator, X_true: ArrayLike, missing: ArrayLike, *, n_draws: int = 10_000
) -> float:
    """Importance-weighted log likelihood of the missing cells, the paper's score.

    Parameters
    ----------
    imputer : QAVIImputer
        Fitted.
    X_true : array-like of shape (n_rows, n_features)
        Rows in original units with the true values of the missing cells.
    missing : array-like of bool of shape (n_rows, n_features)
        True for the cells to hide, infer and score.
    n_draws : int, default=10000
        Codes S per row and decoder.

    Returns
    -------
    score : float
        Nats per row, on the model's standardized columns; mean over the rows with a missing cell.
        Higher is better. `QAVIImputer.score_missing` gives it row by row.

    Raises
    ------
    ValueError
        If the mask has another shape than the rows, hides nothing, or hides a cell without value.

    See Also
    --------
    predictive : Score of what a user is given.
    conditional : Score of the decoder with inference taken out.

    Notes
    -----
    ``log 1/S sum_s p(x_M | z_s) p(z_s) / q(z_s)`` with codes z from q ([1]_, equation 12). It
    estimates log p(x_M), with x_O forgotten: it rewards a q that is wide enough for the prior, and
    a posterior that is right given x_O may score worse than a wider one.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), "A Decoder Suffices for Query-Adaptive
       Variational Inference", UAI.
    """
    return _mean_log_score("iwae", imputer, X_true, missing, n_draws)


def predictive(
    imputer: BaseEstimator, X_true: ArrayLike, missing: ArrayLike, *, n_draws: int = 10_000
) -> float:
    """Log density that the imputer's posterior gives to the true values, a row's cells together.

    Parameters
    ----------
    imputer : QAVIImputer
        Fitted.
    X_true : array-like of shape (n_rows, n_features)
        Rows in original units with the true values of the missing cells.
    missing : array-like of bool of shape (n_rows, n_features)
        True for the cells to hide, infer and score.
    n_draws : int, default=10000
        Codes S per row and decoder.

    Returns
    -------
    score : float
        Nats per row, on the model's standardized columns; mean over the rows with a missing cell.
        Higher is better. `QAVIImputer.score_missing` gives it row by row.

    Raises
    ------
    ValueError
        If the mask has another shape than the rows, hides nothing, or hides a cell without value.

    See Also
    --------
    iwae : The paper's score.
    conditional : Score of the decoder with inference taken out.

    Notes
    -----
    ``log 1/S sum_s p(x_M | z_s)`` with codes z from q: a proper score of the imputations. A
    histogram's density has point masses at its atoms, so it does not compare with that of a
    continuous likelihood.
    """
    return _mean_log_score("predictive", imputer, X_true, missing, n_draws)


def conditional(
    imputer: BaseEstimator, X_true: ArrayLike, missing: ArrayLike, *, n_draws: int = 10_000
) -> float:
    """Estimate of log p(x_M | x_O) under the decoder, with q as a proposal only.

    Parameters
    ----------
    imputer : QAVIImputer
        Fitted.
    X_true : array-like of shape (n_rows, n_features)
        Rows in original units with the true values of the missing cells.
    missing : array-like of bool of shape (n_rows, n_features)
        True for the cells to hide, infer and score.
    n_draws : int, default=10000
        Codes S per row and decoder.

    Returns
    -------
    score : float
        Nats per row, on the model's standardized columns; mean over the rows with a missing cell.
        Higher is better. `QAVIImputer.score_missing` gives it row by row.

    Raises
    ------
    ValueError
        If the mask has another shape than the rows, hides nothing, or hides a cell without value.

    See Also
    --------
    predictive : The same with q as it is; the difference is what inference loses.

    Notes
    -----
    ``log 1/S sum_s w_s p(x_M | z_s) - log 1/S sum_s w_s`` with codes z from q and weights
    ``w = p(x_O | z) p(z) / q(z)``.
    """
    return _mean_log_score("conditional", imputer, X_true, missing, n_draws)


def _mean_log_score(
    name: str, imputer: BaseEstimator, X_true: ArrayLike, missing: ArrayLike, n_draws: int
) -> float:
    scores = imputer.score_missing(X_true, missing, n_draws=n_draws)[name]
    return float(np.nanmean(scores))
