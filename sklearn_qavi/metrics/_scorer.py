"""A scorer for searches without a ground truth: it hides cells that are known."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from .._checks import plain
from .._typing import Container, Table
from ._cells import energy_score, masked_crps, masked_mae, masked_rmse

_SCORED = {
    "crps": (masked_crps, True),
    "energy": (energy_score, True),
    "rmse": (masked_rmse, False),
    "mae": (masked_mae, False),
}


def make_imputation_scorer(
    metric: str = "crps", *, rate: float = 0.3, n_draws: int = 20, random_state: int = 0
) -> "_ImputationScorer":
    """Make a scorer that hides known cells, lets an imputer complete them and compares.

    It needs no ground truth: ``GridSearchCV(imputer, grid, scoring=make_imputation_scorer())``
    searches on an incomplete table. Every candidate is asked for the same cells.

    Parameters
    ----------
    metric : {"crps", "energy", "rmse", "mae"}, default="crps"
        What is compared: "crps" and "energy" take draws and need an imputer with ``sample``,
        "rmse" and "mae" take what ``transform`` fills in.
    rate : float, default=0.3
        Share of the observed cells that is hidden; a row keeps one at least.
    n_draws : int, default=20
        Draws for "crps" and "energy".
    random_state : int, default=0
        Seed of the choice of cells.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y=None)`` returns minus the error, so that higher is better, with
        each column in units of its standard deviation in X.

    Raises
    ------
    ValueError
        If the metric is unknown or the rate is not between 0 and 1.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.impute import KNNImputer
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn_qavi.metrics import make_imputation_scorer
    >>> grid = {"n_neighbors": [1, 10]}
    >>> search = GridSearchCV(KNNImputer(), grid, scoring=make_imputation_scorer("rmse"))
    >>> search.fit(load_diabetes().data).best_params_
    {'n_neighbors': 10}
    """
    if metric not in _SCORED:
        raise ValueError(f"metric must be one of {sorted(_SCORED)}, got {plain(metric)}.")
    if not 0.0 < rate < 1.0:
        raise ValueError(f"rate must be between 0 and 1, got {plain(rate)}; 0.3 hides 30%.")
    return _ImputationScorer(metric, rate, n_draws, random_state)


@dataclass(frozen=True)
class _ImputationScorer:
    metric: str
    rate: float
    n_draws: int
    random_state: int

    def __call__(self, estimator: BaseEstimator, X: Table, y: ArrayLike | None = None) -> float:
        values = np.asarray(X, dtype=np.float64)
        missing = self._cells_to_hide(values)
        incomplete = X.mask(missing) if hasattr(X, "mask") else np.where(missing, np.nan, values)
        with np.errstate(invalid="ignore"):
            scale = np.nanstd(values, axis=0)
        scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
        score, takes_draws = _SCORED[self.metric]
        return -score(
            values, self._complete(estimator, incomplete, takes_draws), missing, scale=scale
        )

    def _complete(
        self, estimator: BaseEstimator, incomplete: Table, takes_draws: bool
    ) -> Container:
        if not takes_draws:
            return np.asarray(estimator.transform(incomplete), dtype=np.float64)
        if not hasattr(estimator, "sample"):
            raise TypeError(
                f"metric={plain(self.metric)} scores draws, but {type(estimator).__name__} has no "
                "sample(X, n); use metric='rmse' or 'mae' for imputers with one answer."
            )
        return estimator.sample(incomplete, n=self.n_draws)

    def _cells_to_hide(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        observed = np.isfinite(values)
        u = np.random.default_rng(self.random_state).random(values.shape)
        chosen = observed & (u < self.rate)
        kept = np.where(observed, u, -np.inf).argmax(axis=1)  # the last one to be hidden
        chosen[np.arange(len(values)), kept] = False
        if not chosen.any():
            raise ValueError(
                "No cell could be hidden: every row of X has one observed value at most, or rate "
                f"({self.rate}) is too small for {observed.sum()} observed cells."
            )
        return chosen
