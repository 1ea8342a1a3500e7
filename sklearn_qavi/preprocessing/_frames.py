"""Tables whose columns have types of their own, from pandas, polars or object arrays, and back."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Frame", "as_frame", "build_container", "check_unique_names", "is_dataframe"]


@dataclass(frozen=True)
class Frame:
    """A table as one pandas Series a column.

    Parameters
    ----------
    columns : list of pandas.Series
        In order; names may repeat.
    names : list of hashable
        Names of the columns.
    """

    columns: list[Any]
    names: list[Hashable]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return (len(self.columns[0]) if self.columns else 0, len(self.columns))

    @classmethod
    def of(cls, X: Any) -> "Frame":
        """Return the columns of a dataframe."""
        if _is_pandas(X):
            return cls([X.iloc[:, j] for j in range(X.shape[1])], list(X.columns))
        return cls([_from_polars(series) for series in X.get_columns()], list(X.columns))

    @classmethod
    def of_array(cls, X: NDArray[Any]) -> "Frame":
        """Return the columns of an array."""
        import pandas as pd

        columns = [pd.Series(column, dtype=column.dtype) for column in X.T]
        return cls(columns, [f"x{j}" for j in range(len(columns))])

    def copy(self) -> "Frame":
        """Return a copy that changes of the original do not reach."""
        return Frame([column.copy() for column in self.columns], list(self.names))

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]


def is_dataframe(X: Any) -> bool:
    """Return whether X is a dataframe of pandas or polars."""
    return _is_pandas(X) or _is_polars(X)


def check_unique_names(X: Any) -> None:
    """Raise an error that lists the column names that a dataframe has twice."""
    if not _is_pandas(X):
        return
    twice = X.columns[X.columns.duplicated()].unique().tolist()
    if twice:
        raise ValueError(
            f"Column name(s) {twice} occur more than once. Rename the columns, or pass an array."
        )


def as_frame(X: Any, *, always: bool = False) -> Frame | None:
    """Return the columns of a table that is not all numbers, None for one that is.

    Parameters
    ----------
    X : object
        Dataframes with a column that is not a plain number, and arrays or lists that hold text,
        become a `Frame`; anything else is left to scikit-learn's checks.
    always : bool, default=False
        Whether numbers become a `Frame` as well: a few rows of a table with text may show none.
    """
    if _is_pandas(X):
        plain = X.shape[1] == 0 or all(_is_plain_number(dtype) for dtype in X.dtypes)
        return None if plain and not always else Frame.of(X)
    if _is_polars(X):
        plain = all(dtype.is_numeric() for dtype in X.dtypes)
        return None if plain and not always else Frame.of(X)
    return _from_array(X, always)


def build_container(kind: str, columns: list[Any], names: list[Any], original: Any) -> Any:
    """Return completed columns as a dataframe.

    Parameters
    ----------
    kind : {"pandas", "polars"}
        Of the dataframe.
    columns : list of pandas.Series
        Completed columns.
    names : list of str
        Their names.
    original : object
        What was given; a pandas dataframe's index is kept, and so are a polars one's types.
    """
    import pandas as pd

    if kind == "pandas":
        index = original.index if _is_pandas(original) else None
        columns = [column.reset_index(drop=True) for column in columns]
        frame = pd.concat(columns, axis=1) if columns else pd.DataFrame()
        frame.columns = pd.Index(names)
        if index is not None:
            frame.index = index
        return frame
    import polars as pl

    types = (
        dict(zip(original.columns, original.dtypes, strict=True)) if _is_polars(original) else {}
    )
    series = []
    for name, column in zip(names, columns, strict=True):
        dtype = types.get(name)
        values = [None if _is_null(v) else v for v in column.astype(object)]
        if dtype is not None and dtype.is_integer() and not _all_whole(values):
            dtype = None  # a mean of whole numbers is not whole
        completed = pl.Series(name, values, strict=False)
        holds_numbers = completed.dtype.is_numeric() or completed.dtype == pl.Boolean
        if dtype is not None and dtype.is_numeric() and not holds_numbers:
            dtype = None  # the rows showed no text or time, and so had no type for it
        series.append(completed if dtype is None else completed.cast(dtype, strict=False))
    return pl.DataFrame(series)


def _all_whole(values: list[Any]) -> bool:
    return all(value is None or float(value).is_integer() for value in values)


def _is_pandas(X: Any) -> bool:
    return hasattr(X, "iloc") and hasattr(X, "dtypes") and hasattr(X, "columns")


def _is_polars(X: Any) -> bool:
    return hasattr(X, "schema") and hasattr(X, "get_columns")


def _is_plain_number(dtype: Any) -> bool:
    """Return whether a column is real or whole numbers, nullable ones included."""
    import pandas as pd

    return getattr(dtype, "kind", "O") in "iuf" and not isinstance(dtype, pd.CategoricalDtype)


def _is_null(value: Any) -> bool:
    return value is None or value != value


def _from_polars(series: Any) -> Any:
    import pandas as pd

    kind = str(series.dtype)
    if series.dtype.is_temporal() and not kind.startswith("Time"):
        return pd.Series(series.to_numpy(), name=series.name)
    if kind.startswith(("Categorical", "Enum")):
        fixed = getattr(series.dtype, "categories", None) if kind.startswith("Enum") else None
        seen = sorted(series.drop_nulls().cast(str).unique().to_list())
        levels = seen if fixed is None else list(fixed)
        return pd.Series(pd.Categorical(series.to_list(), categories=levels), name=series.name)
    if series.dtype.is_numeric():
        return pd.Series(series.to_numpy(), name=series.name)
    return pd.Series(series.to_list(), dtype=object, name=series.name)


def _from_array(X: Any, always: bool) -> Frame | None:
    if isinstance(X, list | tuple):
        try:
            X = np.array(X, dtype=object)
        except ValueError:  # ragged: scikit-learn says so
            return None
    if not isinstance(X, np.ndarray) or X.ndim != 2 or X.dtype.kind not in "OUSbiuf":
        return None
    if X.dtype.kind in "biuf" and not always:
        return None
    if X.dtype.kind == "S":
        X = X.astype("U")
    if not always and not any(_holds_levels(X[:, j]) for j in range(X.shape[1])):
        return None
    return Frame.of_array(X.astype(object))


def _holds_levels(values: NDArray[Any]) -> bool:
    """Return whether an array column needs a type of its own: text that is no number, or times."""
    if values.dtype.kind == "U":
        values = values.astype(object)
    others = [v for v in values if not isinstance(v, int | float | np.number) and v is not None]
    if not others:
        return any(isinstance(v, bool | np.bool_) for v in values)
    return any(_is_level(value) for value in others)


def _is_level(value: Any) -> bool:
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return True
        return False
    return hasattr(value, "isoformat") or isinstance(value, np.datetime64 | np.timedelta64)
