"""TableEncoder: which columns there are, what stands in them, and the way back."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array

from .._sklearn_compat import get_mask

__all__ = ["EncodedTable", "TableEncoder", "check_numeric_columns"]


@dataclass(frozen=True)
class EncodedTable:
    """The modelled columns of a table.

    Parameters
    ----------
    values : float64 ndarray of shape (N, D)
        Original units, NaN where missing.
    observed : bool ndarray of shape (N, D)
        True where a cell is observed.
    """

    values: NDArray[np.float64]
    observed: NDArray[np.bool_]

    @property
    def incomplete_rows(self) -> NDArray[np.intp]:
        """Positions of the rows with a missing cell."""
        return np.flatnonzero(~self.observed.all(axis=1))

    def take(self, rows: NDArray[np.intp]) -> "EncodedTable":
        """Return some rows."""
        return EncodedTable(self.values[rows], self.observed[rows])


class TableEncoder:
    """Finds missing cells, sets aside columns without any value, keeps imputed values in bounds.

    Parameters
    ----------
    missing_values : number, default=nan
        What marks a missing cell.
    keep_empty_features : bool, default=False
        Whether columns without any value at fit are kept, filled with 0, or dropped.
    min_value, max_value : float or array-like of shape (n_features,)
        Bounds of imputed values.
    """

    def __init__(
        self, *, missing_values: Any, keep_empty_features: bool, min_value: Any, max_value: Any
    ) -> None:
        self.missing_values = missing_values
        self.keep_empty_features = keep_empty_features
        self.min_value, self.max_value = min_value, max_value

    def fit(self, X: NDArray[Any]) -> Self:
        """Learn which columns are empty and check the bounds."""
        self.is_empty_ = get_mask(X, self.missing_values).all(axis=0)
        lower = self._limit(self.min_value, "min", -np.inf)
        upper = self._limit(self.max_value, "max", np.inf)
        if not (lower < upper).all():
            raise ValueError("One (or more) features have min_value >= max_value.")
        self.lower_, self.upper_ = lower[~self.is_empty_], upper[~self.is_empty_]
        return self

    def encode(self, X: NDArray[Any]) -> EncodedTable:
        """Return the modelled columns of a checked array."""
        missing = get_mask(X, self.missing_values)[:, ~self.is_empty_]
        values = X[:, ~self.is_empty_].astype(np.float64)
        values[missing] = np.nan
        return EncodedTable(values, ~missing)

    def decode(
        self, X: NDArray[Any], imputed: NDArray[np.float64], observed: NDArray[np.bool_]
    ) -> NDArray[Any]:
        """Return X without its empty columns, or with zeros there, and its holes filled.

        Parameters
        ----------
        X : ndarray of shape (N, n_features)
            The array that `encode` got; not changed.
        imputed : float64 ndarray of shape (N, D)
            Values for the missing cells; what stands elsewhere is ignored.
        observed : bool ndarray of shape (N, D)
            True where the value of ``X`` is to be kept.

        Returns
        -------
        completed : ndarray of shape (N, D) or (N, n_features)
            Of the dtype of ``X``; observed cells are those of ``X``, bit for bit.
        """
        kept = X[:, ~self.is_empty_]
        bounded = np.clip(imputed, self.lower_, self.upper_).astype(X.dtype)
        completed = np.where(observed, kept, bounded)
        if not self.keep_empty_features:
            return completed
        full = X.copy()
        full[:, self.is_empty_] = 0.0
        full[:, ~self.is_empty_] = completed
        return full

    def _limit(self, limit: Any, name: str, default: float) -> NDArray[np.float64]:
        n_features = len(self.is_empty_)
        if limit is None:
            limit = default
        if np.isscalar(limit):
            return np.full(n_features, limit, dtype=np.float64)
        limit = check_array(limit, ensure_all_finite=False, ensure_2d=False, dtype=np.float64)
        if limit.shape != (n_features,):
            raise ValueError(
                f"'{name}_value' should be of shape ({n_features},) when an array-like is "
                f"provided. Got {limit.shape}, instead."
            )
        return limit


def check_numeric_columns(X: Any) -> None:
    """Raise an error that names the columns of a dataframe that are not numbers.

    Parameters
    ----------
    X : object
        Dataframes of pandas or polars are looked at, anything else is left to the array checks.

    Raises
    ------
    ValueError
        If a column holds text, dates or other objects that are not numbers.
    """
    if hasattr(X, "iloc") and hasattr(X, "dtypes") and hasattr(X, "columns"):
        bad = [str(X.columns[j]) for j in range(X.shape[1]) if not _pandas_number(X.iloc[:, j])]
    elif hasattr(X, "schema") and hasattr(X, "get_columns"):
        bad = [c.name for c in X.get_columns() if not _polars_number(c.dtype)]
    else:
        return
    if bad:
        raise ValueError(
            f"Column(s) {bad} are not numeric: could not convert to float. Encode them first, "
            "e.g. text with OrdinalEncoder or OneHotEncoder and dates as days since a date, in a "
            "ColumnTransformer; or drop them."
        )


def _pandas_number(column: Any) -> bool:
    kind = getattr(column.dtype, "kind", "O")
    if kind in "biuf":
        return True
    if kind in "mMcV":
        return False
    import pandas as pd

    try:
        pd.to_numeric(column[column.notna()])
    except (ValueError, TypeError):
        return False
    return not isinstance(column.dtype, pd.CategoricalDtype)


def _polars_number(dtype: Any) -> bool:
    return bool(dtype.is_numeric()) or str(dtype) in ("Boolean", "Null")
