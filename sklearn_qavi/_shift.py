"""Sensitivity analysis: what if missing values are larger or smaller than those that look alike?"""

from collections.abc import Hashable, Mapping
from numbers import Real
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ._checks import missing_in, plain, position_of
from ._typing import Container, Table

__all__ = ["shift_imputed"]


def shift_imputed(
    table: Container,
    X: Table,
    delta: Mapping[Hashable, float],
    *,
    min_value: Mapping[Hashable, float] | float = -np.inf,
    max_value: Mapping[Hashable, float] | float = np.inf,
    missing_values: object = np.nan,
) -> Container:
    """Add to the imputed numbers of a completed table, and leave all else as it is.

    Imputation takes a missing value to be distributed as in rows that look alike. Nothing in a
    table shows whether that is so; what can be shown is by how much it would have to be wrong for
    a conclusion to change ([1]_, section 3.9). Shift the draws, analyse them again, and compare.

    Parameters
    ----------
    table : ndarray of shape (..., n_rows, n_features), or pandas or polars DataFrame
        A completed table, or limits of intervals; of arrays also several draws at once. Not
        changed.
    X : array-like or dataframe of shape (n_rows, n_features)
        The table before it was completed, with the same columns in the same order.
    delta : dict
        What is added, by name or position of the column, in original units.
    min_value, max_value : float or dict, default=-inf, inf
        Bounds of what is shifted, for all columns or by name or position.
    missing_values : object, default=np.nan
        What marks a missing value in X, besides NaN, None, NaT and NA.

    Returns
    -------
    shifted : ndarray or DataFrame
        Of the type of ``table``; whole numbers stay whole, rounded after the shift.

    Raises
    ------
    ValueError
        If the tables do not have the same shape, a column is not there or holds no numbers, or a
        shift is not finite.

    References
    ----------
    .. [1] van Buuren (2018), "Flexible Imputation of Missing Data", second edition.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_qavi.pooling import shift_imputed
    >>> X = np.array([[1.0, 5.0], [2.0, np.nan]])
    >>> completed = np.array([[1.0, 5.0], [2.0, 6.0]])
    >>> shift_imputed(completed, X, {1: -2.0})
    array([[1., 5.],
           [2., 4.]])
    """
    names = list(getattr(X if isinstance(table, np.ndarray) else table, "columns", []))
    names = names or list(range(table.shape[-1]))
    if np.shape(X) != table.shape[-2:]:
        raise ValueError(
            f"X has shape {np.shape(X)}, but the completed table has {table.shape[-2:]}. Pass the "
            "columns that were completed, in the same order."
        )
    lower = _bounds(min_value, names, "min_value", -np.inf)
    upper = _bounds(max_value, names, "max_value", np.inf)
    for key, shift in delta.items():
        if not isinstance(shift, Real) or not np.isfinite(shift):
            raise ValueError(f"delta[{plain(key)}] must be a finite number, got {plain(shift)}.")
        j = position_of(key, names, "delta")
        missing = _missing(X, j, missing_values)
        table = _shifted(table, j, names[j], missing, float(shift), (lower[j], upper[j]))
    return table.copy() if not delta and hasattr(table, "copy") else table


def _bounds(
    given: Mapping[Hashable, float] | float, names: list[Hashable], parameter: str, none: float
) -> list[float]:
    """Return the bound of each column."""
    if not isinstance(given, Mapping):
        return [float(given)] * len(names)
    bounds = [none] * len(names)
    for key, bound in given.items():
        bounds[position_of(key, names, parameter)] = float(bound)
    return bounds


def _missing(X: Table, place: int, marker: object) -> NDArray[np.bool_]:
    """Return which values of a column are missing, (n_rows,)."""
    if hasattr(X, "iloc"):
        column = X.iloc[:, place]
    elif hasattr(X, "get_columns"):
        column = X.get_columns()[place].to_list()
    else:
        column = np.asarray(X)[:, place]
    cells = pd.Series(np.asarray(column, dtype=object), dtype=object)
    return missing_in(cells, marker)


def _shifted(
    table: Container,
    place: int,
    name: Hashable,
    missing: NDArray[np.bool_],
    shift: float,
    bounds: tuple[float, float],
) -> Container:
    """Return a copy of a table with the missing values of one column shifted."""

    def moved(values: ArrayLike, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
        out = np.clip(np.asarray(values, dtype=np.float64) + shift, *bounds)
        if dtype.kind not in "iu":
            return out.astype(dtype)
        of_type = np.iinfo(cast(np.dtype[np.integer], dtype))
        return np.rint(np.clip(out, of_type.min, of_type.max)).astype(dtype)

    if isinstance(table, np.ndarray):
        _check_numbers(table.dtype.kind in "iufO", name, table.dtype)
        out = table.copy()
        out[..., missing, place] = moved(out[..., missing, place], table.dtype)
        return out
    if hasattr(table, "iloc"):
        column = table.iloc[:, place].copy()
        _check_numbers(getattr(column.dtype, "kind", "O") in "iuf", name, column.dtype)
        dtype = getattr(column.dtype, "numpy_dtype", column.dtype)  # of nullable types
        column[missing] = moved(column[missing], dtype)
        shifted_table = cast(pd.DataFrame, table).copy()
        shifted_table.isetitem(place, column)
        return shifted_table
    import polars as pl

    column = table.get_columns()[place]
    _check_numbers(column.dtype.is_numeric(), name, column.dtype)
    values = column.filter(missing)
    dtype = values.to_numpy().dtype if column.dtype != pl.Decimal else np.dtype(float)
    shifted = pl.Series(moved(values, dtype)).cast(column.dtype)
    changed = column.clone().scatter(np.flatnonzero(missing), shifted)
    return table.with_columns(changed)


def _check_numbers(holds_numbers: bool, name: Hashable, dtype: object) -> None:
    if not holds_numbers:
        raise ValueError(f"delta shifts numbers, but column {plain(name)} holds {dtype}.")
