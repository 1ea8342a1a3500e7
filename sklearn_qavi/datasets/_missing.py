"""Hide cells of a complete table, so that imputations can be scored."""

import warnings

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.utils import check_random_state

from .._checks import plain, refuse_infinity
from .._typing import Array, Container, Table

__all__ = ["make_missing"]

_MECHANISMS = ("mcar", "mar", "mnar_logistic", "mnar_self", "mnar_quantile")
_STEEPNESS = 2.0  # log odds for one standard deviation of what drives a cell's absence
_MAX_LOG_ODDS = 200.0


def make_missing(
    X: Table,
    rate: float = 0.3,
    *,
    mechanism: str = "mcar",
    per_row: bool = False,
    observed_fraction: float = 0.3,
    quantile: float = 0.5,
    tail: str = "upper",
    random_state: int | np.random.RandomState | None = None,
) -> tuple[Container, NDArray[np.bool_]]:
    """Hide cells of a table: completely at random, at random, or not at random.

    Parameters
    ----------
    X : array-like or pandas.DataFrame of shape (n_rows, n_features)
        Numbers in any unit. It is not changed. Cells that are NaN already stay so and are not
        counted as hidden.
    rate : float, default=0.3
        Share of the cells to hide, from 0 to 1, of those that have a value. For all mechanisms
        it is the share of the whole table; where some columns stay whole, others lose more.
    mechanism : str, default="mcar"
        What decides whether a cell is hidden.

        - "mcar": nothing, completely at random.
        - "mar": the values of some columns that are never hidden, through a random logistic
          model for each of the others. Imputation can be right.
        - "mnar_logistic": the same, but the deciding columns are hidden as well, completely at
          random.
        - "mnar_self": the cell's own value; larger ones are hidden more often (logistic).
        - "mnar_quantile": the cell's own value; only cells in the tail of their column are
          hidden.

        Under the last three, imputations from the observed cells alone are biased.
    per_row : bool, default=False
        With False each cell is hidden with probability ``rate``, independently of the others. With
        True exactly ``round(rate * n_features)`` cells of each row are hidden (halves round to the
        even number), or all that a row has if those are fewer; only for "mcar".
    observed_fraction : float, default=0.3
        Share of the columns that decide, for "mar" and "mnar_logistic"; at least one column, and
        at least one is left to the others.
    quantile : float, default=0.5
        Share of a column in the tail, for "mnar_quantile"; not below ``rate``.
    tail : {"upper", "lower", "both"}, default="upper"
        Which tail, for "mnar_quantile".
    random_state : int, RandomState instance or None, default=None
        Seed of the choice. Under "mcar" the choice depends on the shape of X and on the cells
        that are NaN already, not on the values.

    Returns
    -------
    X_missing : ndarray or DataFrame of shape (n_rows, n_features)
        Copy of X with NaN in the hidden cells; a dataframe if X is one. Whole numbers and booleans
        become floats, other floats keep their precision.
    missing : ndarray of bool of shape (n_rows, n_features)
        True for a cell hidden here: one whose true value is known.

    Raises
    ------
    TypeError
        If X is a dataframe other than pandas, or does not hold numbers.
    ValueError
        If X does not have two dimensions, a column holds infinity, an option is out of its range,
        or the mechanism cannot reach the rate; the message says what would.

    See Also
    --------
    sklearn_qavi.metrics.masked_rmse : Score what was put in their place.

    Notes
    -----
    The logistic models are those of [1]_: weights are drawn from a normal distribution, the
    driving score has the same spread in every column, and the intercept is solved for the rate.

    References
    ----------
    .. [1] Muzellec, Josse, Boyer, Cuturi (2020), "Missing data imputation using optimal
       transport", ICML, appendix.
    .. [2] Rubin (1976), "Inference and missing data", Biometrika 63.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_qavi.datasets import make_missing
    >>> X = np.arange(12.0).reshape(3, 4)
    >>> X_missing, missing = make_missing(X, rate=0.5, per_row=True, random_state=0)
    >>> missing.sum(axis=1)
    array([2, 2, 2])
    >>> bool((np.isnan(X_missing) == missing).all())
    True
    """
    _check_options(rate, mechanism, per_row, observed_fraction, quantile, tail)
    table = _as_floats(X)
    refuse_infinity(table)
    absent = np.asarray(pd.isna(table))
    rng = check_random_state(random_state)
    scores = rng.random_sample(table.shape)
    if per_row:
        scores[absent] = np.inf  # a cell without a value cannot be one of the hidden ones
        chosen = _smallest_of_each_row(scores, round(rate * table.shape[1]))
    elif mechanism == "mcar":
        chosen = scores < rate
    else:
        values = np.array(table, dtype=np.float64)
        values[absent] = np.nan
        if mechanism == "mnar_quantile":
            probability = _tail_probability(values, rate, quantile, tail)
        elif mechanism == "mnar_self":
            probability = _logistic(_standardized(values), ~absent, rate)
        else:
            is_driver = _choose_drivers(table.shape[1], observed_fraction, rng)
            probability = _driven(values, is_driver, rate, mechanism, rng)
        chosen = scores < probability
    missing = chosen & ~absent
    return _without(table, missing), missing


def _check_options(
    rate: float,
    mechanism: str,
    per_row: bool,
    observed_fraction: float,
    quantile: float,
    tail: str,
) -> None:
    if not isinstance(rate, int | float | np.number) or not 0.0 <= rate <= 1.0:
        raise ValueError(f"rate must be a number from 0 to 1, got {plain(rate)}; 0.3 hides 30%.")
    if mechanism not in _MECHANISMS:
        raise ValueError(f"mechanism must be one of {_MECHANISMS}, got {plain(mechanism)}.")
    if per_row and mechanism != "mcar":
        raise ValueError(
            "per_row=True hides the same number of cells in each row, which "
            f"mechanism={plain(mechanism)} does not do; use mechanism='mcar'."
        )
    if not 0.0 < observed_fraction < 1.0:
        raise ValueError(
            f"observed_fraction must be between 0 and 1, got {plain(observed_fraction)}."
        )
    if not 0.0 < quantile <= 1.0:
        raise ValueError(f"quantile must be above 0 and at most 1, got {plain(quantile)}.")
    if tail not in ("upper", "lower", "both"):
        raise ValueError(f"tail must be 'upper', 'lower' or 'both', got {plain(tail)}.")
    if mechanism == "mnar_quantile" and rate > quantile:
        raise ValueError(
            f"rate={rate} cannot be reached from a tail of {quantile} of each column; raise "
            f"quantile to {rate} at least."
        )


def _choose_drivers(
    n_columns: int, observed_fraction: float, rng: np.random.RandomState
) -> NDArray[np.bool_]:
    """Return the mask of the columns whose values decide about the others."""
    if n_columns < 2:
        raise ValueError(
            "One column cannot decide about others; use mechanism='mcar' or 'mnar_self'."
        )
    n_drivers = int(np.clip(round(observed_fraction * n_columns), 1, n_columns - 1))
    is_driver = np.zeros(n_columns, dtype=bool)
    is_driver[rng.permutation(n_columns)[:n_drivers]] = True
    return is_driver


def _driven(
    values: NDArray[np.float64],
    is_driver: NDArray[np.bool_],
    rate: float,
    mechanism: str,
    rng: np.random.RandomState,
) -> NDArray[np.float64]:
    """Return each cell's probability of being hidden where some columns decide about others."""
    present = np.isfinite(values)
    weight = rng.normal(size=(int(is_driver.sum()), int((~is_driver).sum())))
    score = _standardized(_standardized(values[:, is_driver]) @ weight)
    wanted, in_drivers = rate, 0.0
    if mechanism == "mnar_logistic":
        in_drivers = rate
    elif rate > 0:
        share = present[:, ~is_driver].sum() / present.sum()
        wanted = rate / share
        if wanted > 1.0:
            raise ValueError(
                f"rate={rate} cannot be reached: {int(is_driver.sum())} column(s) stay whole and "
                f"the others hold {share:.2f} of the values. Lower rate or observed_fraction."
            )
    probability = np.full(values.shape, in_drivers)
    probability[:, ~is_driver] = _logistic(score, present[:, ~is_driver], wanted)
    return probability


def _logistic(
    score: NDArray[np.float64], present: NDArray[np.bool_], rate: float
) -> NDArray[np.float64]:
    """Return logistic probabilities with this mean over the present cells of each column."""
    if rate in (0.0, 1.0):
        return np.full(score.shape, rate)
    probability = np.zeros(score.shape)
    for j, here in enumerate(present.T):
        log_odds = _STEEPNESS * score[:, j]
        if here.any():

            def excess(
                shift: float, known: NDArray[np.float64] = log_odds[here], aim: float = rate
            ) -> float:
                return float(expit(known + shift).mean() - aim)

            probability[:, j] = expit(log_odds + brentq(excess, -_MAX_LOG_ODDS, _MAX_LOG_ODDS))
    return probability


def _tail_probability(
    values: NDArray[np.float64], rate: float, quantile: float, tail: str
) -> NDArray[np.float64]:
    """Return equal probabilities in the tail of each column and 0 elsewhere."""
    probability = np.zeros(values.shape)
    for j, column in enumerate(values.T):
        known = column[np.isfinite(column)]
        if len(known) == 0:
            continue
        share = quantile / 2 if tail == "both" else quantile
        # limits belong to the tail, so that it holds its share whatever the ties
        low = np.quantile(known, share, method="higher") if tail != "upper" else -np.inf
        high = np.quantile(known, 1 - share, method="lower") if tail != "lower" else np.inf
        inside = (column <= low) | (column >= high)
        probability[inside, j] = rate * len(known) / inside.sum()
    return probability


def _standardized(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return columns with mean 0 and spread 1; 0 where a value is missing, or a column constant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns without a value
        centred = values - np.nanmean(values, axis=0)
        spread = np.nanstd(values, axis=0)
    standardized = centred / np.where(spread > 0, spread, 1.0)
    return np.asarray(np.nan_to_num(standardized, posinf=0.0, neginf=0.0))


def _as_floats(X: Table) -> "Array | pd.DataFrame":
    """Return X as a table whose columns can hold NaN: a pandas dataframe, otherwise an array."""
    if isinstance(X, pd.DataFrame):
        return X.astype({name: np.float64 for name, kind in X.dtypes.items() if kind.kind in "iub"})
    if hasattr(X, "columns"):
        raise TypeError(
            f"X must be array-like or a pandas dataframe, got {type(X).__module__}."
            f"{type(X).__name__}; convert it with .to_pandas()."
        )
    array = np.asarray(X)
    if array.ndim != 2:
        raise ValueError(
            f"X must have two dimensions (n_rows, n_features), got shape {array.shape}; "
            "X.reshape(-1, 1) makes a table of one column."
        )
    if array.dtype.kind in "iub":
        return array.astype(np.float64)
    if array.dtype.kind not in "fO":
        raise TypeError(
            f"X must hold numbers, got dtype {array.dtype}; encode other columns first."
        )
    return array


def _smallest_of_each_row(scores: NDArray[np.float64], n: int) -> NDArray[np.bool_]:
    ranks = scores.argsort(axis=1).argsort(axis=1)
    return ranks < n


def _without(table: "Array | pd.DataFrame", missing: NDArray[np.bool_]) -> "Array | pd.DataFrame":
    """Return a copy of the table with NaN in the missing cells."""
    if isinstance(table, pd.DataFrame):
        return table.mask(missing)
    copy = table.copy()
    copy[missing] = np.nan
    return copy
