"""Hide cells of a complete table, so that imputations can be scored."""

from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import check_random_state

__all__ = ["make_missing"]


def make_missing(
    X: Any,
    rate: float = 0.3,
    *,
    per_row: bool = False,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[Any, NDArray[np.bool_]]:
    """Hide cells of a table completely at random (MCAR).

    Parameters
    ----------
    X : array-like or pandas.DataFrame of shape (n_rows, n_features)
        Numbers in any unit. It is not changed. Cells that are NaN already stay so and are not
        counted as hidden.
    rate : float, default=0.3
        Share of the cells to hide, from 0 to 1.
    per_row : bool, default=False
        With False each cell is hidden with probability ``rate``, independently of the others. With
        True exactly ``round(rate * n_features)`` cells of each row are hidden (halves round to the
        even number), or all that a row has if those are fewer.
    random_state : int, RandomState instance or None, default=None
        Seed of the choice. The choice depends on the shape of X and on the cells that are NaN
        already, not on the values.

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
        If X does not have two dimensions, or the rate is not from 0 to 1.

    See Also
    --------
    sklearn_qavi.metrics.masked_rmse : Score what was put in their place.

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
    if not isinstance(rate, Real) or not 0.0 <= rate <= 1.0:
        raise ValueError(f"rate must be a number from 0 to 1, got {rate!r}; 0.3 hides 30%.")
    table = _as_floats(X)
    absent = np.asarray(pd.isna(table))
    scores = check_random_state(random_state).random_sample(table.shape)
    if per_row:
        scores[absent] = np.inf  # a cell without a value cannot be one of the hidden ones
        chosen = _smallest_of_each_row(scores, round(rate * table.shape[1]))
    else:
        chosen = scores < rate
    missing = chosen & ~absent
    return _without(table, missing), missing


def _as_floats(X: Any) -> Any:
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


def _without(table: Any, missing: NDArray[np.bool_]) -> Any:
    """Return a copy of the table with NaN in the missing cells."""
    if isinstance(table, pd.DataFrame):
        return table.mask(missing)
    copy = table.copy()
    copy[missing] = np.nan
    return copy
