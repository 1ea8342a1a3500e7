"""Incomplete and completed tables as columns that can be plotted."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from .._checks import missing_in, plain
from .._typing import Array as AnyArray
from .._typing import Container, Table
from ._columns import Array, Categories, Column, class_of

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "CompletedColumn",
    "as_mask",
    "checked_draws",
    "column_position",
    "completed_tables",
    "missing_values_of",
    "n_columns",
    "read_columns",
    "read_completed",
]


@dataclass(frozen=True)
class CompletedColumn:
    """An incomplete column and its completed versions.

    Parameters
    ----------
    column : Column
        With NaN where missing.
    draws : ndarray of shape (n, N)
        Its n completed versions, in the same numbers and codes.
    """

    column: Column
    draws: Array


def n_columns(X: Table) -> int:
    """Return the number of columns of a table."""
    return int(_as_table(X).shape[1])


def missing_values_of(estimator: BaseEstimator) -> object:
    """Return what marks a missing cell for an imputer."""
    return getattr(estimator, "missing_values", np.nan)


def column_position(column: Hashable, names: Sequence[str], what: str = "column") -> int:
    """Return the position of a column that is named or numbered."""
    if isinstance(column, int | np.integer) and not isinstance(column, bool):
        if -len(names) <= column < len(names):
            return int(column) % len(names)
        raise ValueError(f"{what} {column} lies outside of a table of {len(names)} columns.")
    if str(column) not in names:
        raise ValueError(f"{what} {plain(column)} is not among the columns {plain(list(names))}.")
    return list(names).index(str(column))


def as_mask(missing: ArrayLike, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a boolean mask of the table's shape, or raise an error that says what came."""
    mask = np.asarray(missing)
    if mask.dtype != bool or mask.shape != shape:
        raise ValueError(
            f"missing must be a boolean mask of shape {shape}, True for a hidden cell, got "
            f"dtype {mask.dtype} and shape {mask.shape}."
        )
    return mask


def read_columns(
    X: Table,
    *,
    missing_values: object = np.nan,
    feature_names: Sequence[str] | None = None,
    estimator: BaseEstimator | None = None,
    name: str = "X",
) -> list[Column]:
    """Read the columns of a table.

    Parameters
    ----------
    X : array-like or dataframe of shape (N, D)
        With missing cells, or without.
    missing_values : object, default=np.nan
        What marks a missing cell besides NaN and None.
    feature_names : sequence of str, default=None
        Names of the columns; None takes the table's, else x0, x1, ...
    estimator : object, default=None
        An imputer that knows which columns of numbers stand for categories.
    name : str, default="X"
        What to call the table in errors.
    """
    table = _as_table(X, name)
    names = _names(table, feature_names, name)
    known = _categories_of(estimator, len(names))
    return [_read(names[j], _series(table, j), missing_values, known[j]) for j in range(len(names))]


def completed_tables(
    estimator: BaseEstimator, X: Table, n: int
) -> tuple[Iterable[Container], list[int | None]]:
    """Return completed versions of X, and where in them each column of X stands.

    An imputer without ``sample`` completes the table once.
    """
    names_in = getattr(estimator, "feature_names_in_", None)
    if names_in is None:
        names_in = [f"x{j}" for j in range(n_columns(X))]
    if not hasattr(estimator, "get_feature_names_out"):
        raise TypeError(
            f"{type(estimator).__name__} is no imputer: it has no get_feature_names_out."
        )
    place = {str(name): j for j, name in enumerate(estimator.get_feature_names_out())}
    positions = [place.get(str(name)) for name in names_in]
    if hasattr(estimator, "iter_samples"):
        return estimator.iter_samples(X, n=n), positions
    if hasattr(estimator, "sample"):
        return estimator.sample(X, n=n), positions
    return [estimator.transform(X)], positions


def read_completed(
    columns: Sequence[Column],
    draws: Iterable[Table],
    *,
    positions: Sequence[int | None] | None = None,
    chosen: Sequence[int] | None = None,
    check_observed: bool = True,
) -> list[CompletedColumn]:
    """Read the chosen columns of completed tables.

    Parameters
    ----------
    columns : list of Column
        Those of the incomplete table.
    draws : iterable of tables
        Completed versions of it.
    positions : list of int or None, default=None
        Where in the completed tables each column stands, None for one that they lack. None looks
        for names, or takes tables that have the same columns.
    chosen : list of int, default=None
        Positions of the columns to read; None reads all.
    check_observed : bool, default=True
        Whether observed cells have to be those of the table.

    Raises
    ------
    ValueError
        If shapes differ, an observed cell was changed, or a cell is still missing.
    """
    chosen = range(len(columns)) if chosen is None else chosen
    n = len(columns[0].values)
    parts: dict[int, list[pd.Series]] = {j: [] for j in chosen}
    for draw in checked_draws(draws, columns):
        table = _as_table(draw, "draws")
        where = _places(table, columns) if positions is None else positions
        if len(table) != n:
            raise ValueError(_wrong_draws(columns, f"one of shape {table.shape}"))
        for j in chosen:
            place = where[j]
            if place is None:
                raise ValueError(
                    f"Column {plain(columns[j].name)} is not part of the completed tables: an "
                    "empty column, dropped by the imputer?"
                )
            parts[j].append(_series(table, place))
    if not next(iter(parts.values()), [None]):
        raise ValueError(_wrong_draws(columns, "none"))
    return [_completed(columns[j], series, check_observed) for j, series in parts.items()]


def checked_draws(draws: Iterable[Table], columns: Sequence[Column]) -> Iterable[Table]:
    """Return draws, unless their shape says at once that they are not completed tables."""
    shape = getattr(draws, "shape", None)
    if shape is not None and len(shape) != 3:
        raise ValueError(_wrong_draws(columns, f"shape {tuple(shape)}"))
    return draws


def _wrong_draws(columns: Sequence[Column], got: str) -> str:
    shape = f"(n, {len(columns[0].values)}, {len(columns)})"
    return (
        f"draws must have shape {shape}, n completed versions of the table, got {got}; pass e.g. "
        "imputer.sample(X, n=100)."
    )


def _places(table: Container, columns: Sequence[Column]) -> list[int | None]:
    """Return where in a completed table each column stands."""
    names = [str(name) for name in getattr(table, "columns", [])]
    wanted = [column.name for column in columns]
    if names and names != wanted and all(name in names for name in wanted):
        return [names.index(name) for name in wanted]
    if table.shape[1] != len(columns):
        raise ValueError(_wrong_draws(columns, f"one of shape {table.shape}"))
    return list(range(len(columns)))


def _completed(column: Column, series: list[pd.Series], check_observed: bool) -> CompletedColumn:
    column, draws = column.read_versions(series)
    observed = ~column.missing
    if np.isnan(draws[:, ~observed]).any():
        raise ValueError(f"The draws of column {plain(column.name)} have missing cells.")
    same = np.isclose(draws[:, observed], column.values[observed], rtol=1e-5, atol=1e-8)
    if check_observed and not same.all():
        raise ValueError(
            f"Observed cells of column {plain(column.name)} differ between the table and the "
            "draws. "
            "Pass the table that the imputer itself was handed, in the same units and order."
        )
    return CompletedColumn(column, draws)


def _as_table(X: Table, name: str = "X") -> Container:
    """Return a dataframe as it is and anything else as an array of two dimensions."""
    if _is_pandas(X) or _is_polars(X):
        return X
    array = X if isinstance(X, np.ndarray) else np.array(X, dtype=object)
    if array.ndim != 2:
        raise ValueError(
            f"{name} must have two dimensions (n_rows, n_features), got shape {array.shape}."
        )
    return array


def _is_pandas(X: Table) -> TypeGuard[pd.DataFrame]:
    return isinstance(X, pd.DataFrame)


def _is_polars(X: Table) -> "TypeGuard[pl.DataFrame]":
    return hasattr(X, "schema") and hasattr(X, "get_columns")


def _names(table: Container, names: Sequence[str] | None, name: str) -> list[str]:
    n = table.shape[1]
    if n == 0 or table.shape[0] == 0:
        raise ValueError(f"{name} is empty: it has shape {tuple(table.shape)}.")
    if names is None:
        names = getattr(table, "columns", [f"x{j}" for j in range(n)])
    if len(names) != n:
        raise ValueError(f"feature_names has {len(names)} names, but {name} has {n} columns.")
    return [str(one) for one in names]


def _series(table: Container, j: int) -> pd.Series:
    """Return a column as a pandas Series."""
    if _is_pandas(table):
        return table.iloc[:, j]
    if not _is_polars(table):
        column = cast(AnyArray, table)[:, j]
        return pd.Series(column.tolist() if column.dtype.kind == "S" else column)
    series = table.get_columns()[j]
    kind = str(series.dtype)
    if kind.startswith("Enum"):
        return pd.Series(
            pd.Categorical(
                series.to_list(), categories=list(cast("pl.Enum", series.dtype).categories)
            )
        )
    if series.dtype.is_numeric() or (series.dtype.is_temporal() and not kind.startswith("Time")):
        return pd.Series(series.to_numpy())
    return pd.Series(series.to_list(), dtype=object)


def _categories_of(estimator: BaseEstimator, n: int) -> list[tuple[Hashable, ...] | None]:
    """Return the categories of each column that the imputer takes as categorical, else None."""
    schema = getattr(getattr(estimator, "encoder_", None), "schema_", None)
    if schema is None or len(schema) != n:
        return [None] * n
    return [column.categories if column.n_categories else None for column in schema]


def _read(
    name: str, series: pd.Series, marker: object, categories: tuple[Hashable, ...] | None
) -> Column:
    missing = missing_in(series, marker)
    if categories is None or missing.all():
        return class_of(name, series[~missing]).read(name, series, missing)
    return Categories.read(name, series, missing, categories)
