"""What checks of input share: how values are shown, what is missing or infinite, which column."""

from collections.abc import Hashable, Sequence
from numbers import Number
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ._typing import Table

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = [
    "infinite_columns",
    "is_null",
    "missing_in",
    "plain",
    "position_of",
    "refuse_infinity",
    "refuse_number",
]


def plain(value: object) -> str:
    """Return a value as a message shows it: numbers of numpy as plain ones, also in a list."""
    return repr(_unboxed(value))


def _unboxed(value: Any) -> object:
    """Return a value with numbers of numpy as plain ones, also in a list."""
    if isinstance(value, np.datetime64 | np.timedelta64):
        return str(value)  # item() of nanoseconds is a bare integer
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and (value.dtype == object or value.ndim == 0):
        return _unboxed(value.tolist())
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(_unboxed(item) for item in value)
    if isinstance(value, dict):
        return {_unboxed(key): _unboxed(item) for key, item in value.items()}
    return value


def infinite_columns(X: Table) -> list[Hashable]:
    """Return the names, or positions, of the columns of numbers that hold infinity.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), or dataframe
        Columns of other types than floats hold none, unless they are of objects.

    Returns
    -------
    columns : list
        Names of a dataframe's columns, else positions.
    """
    if not hasattr(X, "columns"):
        return [j for j, column in enumerate(np.asarray(X).T) if _holds_infinity(column)]
    frame = cast("pd.DataFrame | pl.DataFrame", X)
    by_position = frame.iloc if hasattr(frame, "iloc") else frame
    columns = [by_position[:, j].to_numpy() for j in range(frame.shape[1])]
    return [name for name, c in zip(frame.columns, columns, strict=True) if _holds_infinity(c)]


def _holds_infinity(column: NDArray[np.generic]) -> bool:
    if column.dtype == object:
        return any(isinstance(v, float | np.floating) and np.isinf(v) for v in column)
    return column.dtype.kind == "f" and bool(np.isinf(column).any())


def refuse_infinity(X: Table, names: Sequence[Hashable] | None = None, *, what: str = "X") -> None:
    """Raise if a column of numbers holds infinity.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), or dataframe
        A table.
    names : array-like of str, default=None
        Names of an array's columns.
    what : str, default="X"
        What the message calls the table.

    Raises
    ------
    ValueError
        The message names the columns.
    """
    found = infinite_columns(X)
    if found:
        shown = found if names is None else [names[cast(int, j)] for j in found]
        raise ValueError(
            f"{what} holds infinity in column(s) {plain(shown)}. Clip such values, or mark them "
            "as missing."
        )


def refuse_number(X: Table, written: str) -> None:
    """Raise if a number stands where a table is expected; ``written`` says how to pass it."""
    if isinstance(X, Number) or (isinstance(X, np.ndarray) and X.ndim == 0):
        raise TypeError(
            f"The first argument is X, what is to be completed, got the number {plain(X)}. Write "
            f"{written.format(plain(X))}."
        )


def position_of(chosen: Hashable, names: Sequence[Hashable], parameter: str) -> int:
    """Return the column that a name or a position means.

    Raises
    ------
    ValueError
        If there is no such column; the message names the parameter that asked for it.
    """
    if chosen in names:
        return names.index(chosen)
    if isinstance(chosen, int | np.integer) and -len(names) <= chosen < len(names):
        return int(chosen) % len(names)
    raise ValueError(
        f"{parameter} names {plain(chosen)}, which is no column of X: {plain(names[:10])}"
        f"{', ...' if len(names) > 10 else ''}."
    )


def missing_in(cells: Any, marker: Any = None) -> NDArray[np.bool_]:
    """Return which cells of a column are missing, (N,).

    Parameters
    ----------
    cells : ndarray of numbers, or pandas.Series, of shape (N,)
        The column.
    marker : object, default=None
        What marks a missing cell besides NaN, None, NaT and NA. It marks cells that are equal to it
        where both are numbers or both are text; True is no number.
    """
    if isinstance(cells, np.ndarray):
        missing: NDArray[np.bool_] = np.zeros(len(cells), bool)
        if cells.dtype.kind == "f":
            missing = np.isnan(cells)
    else:
        missing = cells.isna().to_numpy(dtype=bool)
    code = getattr(cells.dtype, "kind", "O")
    if is_null(marker) or code in "bmM" or (code in "iuf" and isinstance(marker, str)):
        return missing
    if code in "iuf":
        same = np.where(missing, False, np.asarray(cells == marker)).astype(bool)
    else:
        same = np.array([_marks(marker, cell) for cell in cells.astype(object)], dtype=bool)
    return np.asarray(missing | same)


def _marks(marker: Any, cell: Any) -> bool:
    if isinstance(cell, str | bool | np.bool_) or isinstance(marker, str):
        return type(cell) is type(marker) and bool(cell == marker)
    return isinstance(cell, Number) and bool(cell == marker)


def is_null(value: Any) -> bool:
    """Return whether a value is one of those that are missing in any case."""
    import pandas as pd

    return value is None or value is pd.NA or value is pd.NaT or bool(value != value)
