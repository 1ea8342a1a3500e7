"""Frame: a table of any container, column by column as it came, with what stands in it."""

from collections.abc import Hashable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checks import plain
from ._cells import EXACT

__all__ = ["Frame", "as_frame", "check_unique_names", "is_dataframe", "known_container"]


@dataclass(frozen=True)
class Frame:
    """A table by columns.

    Parameters
    ----------
    native : list of ndarray, pandas.Series, polars.Series or pyarrow.ChunkedArray
        The columns as they came: what observed cells are given back from.
    columns : list of ndarray or pandas.Series
        The same as numbers, categories and times are read from them, which may round.
    names : list of hashable
        Names of the columns.
    container : {"array", "pandas", "polars", "pyarrow"}
        What the table came in.
    n_rows : int
        Number of rows.
    dtype : numpy.dtype or None, default=None
        Type of an array.
    index : pandas.Index or None, default=None
        Of a pandas dataframe.
    """

    native: list[Any]
    columns: list[Any]
    names: list[Hashable]
    container: str
    n_rows: int
    dtype: Any = None
    index: Any = None

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return (self.n_rows, len(self.columns))

    @property
    def has_numbers(self) -> bool:
        """Whether a column is of numbers, or of objects that may be numbers."""
        return any(getattr(column.dtype, "kind", "O") in "iufbO" for column in self.columns)

    @property
    def has_text(self) -> bool:
        """Whether a column is of text or categories, or of objects that may be text."""
        return any(getattr(column.dtype, "kind", "O") in "OUS" for column in self.columns)

    @classmethod
    def of_array(cls, X: NDArray[Any], missing: NDArray[np.bool_] | None = None) -> "Frame":
        """Return the columns of an array (N, D), without the cells that a mask hides."""
        native = list(X.T)
        columns = [_from_array_column(column) for column in native]
        if missing is not None:
            columns = [
                _masked(column, hidden) for column, hidden in zip(columns, missing.T, strict=True)
            ]
        names: list[Hashable] = [f"x{j}" for j in range(X.shape[1])]
        return cls(native, columns, names, "array", len(X), dtype=X.dtype)

    @classmethod
    def of_dataframe(cls, X: Any) -> "Frame":
        """Return the columns of a dataframe of pandas or polars, or of a pyarrow table."""
        if _is_pandas(X):
            native = [X.iloc[:, j] for j in range(X.shape[1])]
            columns = [_from_pandas(series) for series in native]
            return cls(native, columns, list(X.columns), "pandas", len(X), index=X.index)
        if _is_polars(X):
            native = X.get_columns()
            columns = [_from_polars(series) for series in native]
            return cls(native, columns, list(X.columns), "polars", len(X))
        columns = [_from_arrow(column) for column in X.columns]
        return cls(list(X.columns), columns, list(X.column_names), "pyarrow", X.num_rows)

    def copy(self) -> "Frame":
        """Return a copy that changes of the original do not reach."""
        native, columns = [], []
        for own, read in zip(self.native, self.columns, strict=True):
            kept = own.copy() if hasattr(own, "copy") else own  # arrow's never change
            native.append(kept)
            columns.append(kept if read is own else read)
        return Frame(
            native, columns, self.names, self.container, self.n_rows, self.dtype, self.index
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.n_rows


def is_dataframe(X: Any) -> bool:
    """Return whether X is a dataframe of pandas or polars."""
    return _is_pandas(X) or _is_polars(X)


def check_unique_names(X: Any) -> None:
    """Raise an error that lists the column names that a table has twice."""
    names = list(X.columns) if _is_pandas(X) else X.column_names if _is_arrow(X) else []
    twice = list(dict.fromkeys(name for name in names if names.count(name) > 1))
    if twice:
        raise ValueError(
            f"Column name(s) {plain(twice)} occur more than once. Rename the columns, or "
            "pass an array."
        )


def known_container(X: Any) -> Any:
    """Return a table in a container that is read here, or say how to make it one.

    Raises
    ------
    TypeError
        If the table is only a plan of one, as polars and Dask make them.
    """
    if isinstance(X, np.ndarray) and X.dtype.names is not None:
        import pandas as pd

        return pd.DataFrame(X)
    if type(X).__name__ == "LazyFrame" and hasattr(X, "collect"):
        raise TypeError(
            "A polars LazyFrame has no values yet. Pass X.collect(), which computes them."
        )
    if hasattr(X, "compute") and hasattr(X, "dask"):
        raise TypeError(
            "A Dask collection has no values yet. Fit on X.compute(), or on a part of it, and "
            "complete it with sklearn_qavi.partitions.complete_dask."
        )
    if type(X).__name__ == "RecordBatch" and hasattr(X, "column_names"):
        import pyarrow as pa

        return pa.Table.from_batches([X])
    return X


def as_frame(X: Any) -> Frame | None:
    """Return a table by columns, None for what scikit-learn has to make an array of floats of.

    Parameters
    ----------
    X : object
        Dataframes, and arrays and lists that hold more than numbers, become a `Frame`. Arrays of
        numbers, lists of them and what is no table at all are left to scikit-learn's checks.
    """
    if is_dataframe(X) or _is_arrow(X):
        return Frame.of_dataframe(X)
    if isinstance(X, np.ma.MaskedArray):
        if X.ndim != 2 or X.dtype.kind not in "OUSbiufmM":
            return None
        return Frame.of_array(np.ma.getdata(X), np.ma.getmaskarray(X))
    if isinstance(X, list | tuple):
        return _from_list(X)
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "OUSmM":
        return Frame.of_array(X)
    return None


def _is_pandas(X: Any) -> bool:
    return hasattr(X, "iloc") and hasattr(X, "dtypes") and hasattr(X, "columns")


def _is_polars(X: Any) -> bool:
    return hasattr(X, "schema") and hasattr(X, "get_columns")


def _is_arrow(X: Any) -> bool:
    return hasattr(X, "schema") and hasattr(X, "column_names") and hasattr(X, "num_rows")


def _from_list(X: Any) -> Frame | None:
    try:
        table = np.array(X, dtype=object)
    except ValueError:  # ragged: scikit-learn says so
        return None
    if table.ndim != 2 or not any(_needs_a_type(column) for column in table.T):
        return None
    return Frame.of_array(table)


def _needs_a_type(values: NDArray[Any]) -> bool:
    """Return whether a column of a list holds more than numbers that floats hold exactly."""
    import pandas as pd

    typed = (str, bytes, bool, np.bool_, Decimal, np.datetime64, np.timedelta64)
    return any(
        value is pd.NA
        or isinstance(value, typed)
        or hasattr(value, "isoformat")
        or (isinstance(value, int | np.integer) and abs(int(value)) > EXACT)
        for value in values
    )


def _from_array_column(values: NDArray[Any]) -> Any:
    if values.dtype.kind in "biuf":
        return values
    import pandas as pd

    dtype = object if values.dtype.kind in "OUS" else values.dtype
    return pd.Series(values.astype(dtype), dtype=None if dtype is not object else object)


def _masked(values: Any, hidden: NDArray[np.bool_]) -> Any:
    """Return a column of an array without the cells that its mask hides."""
    import pandas as pd

    if not hidden.any():
        return values
    kind = values.dtype.kind
    if kind in "biu":  # numpy's have no missing value
        values = values.astype({"b": bool, "i": np.int64, "u": np.uint64}[kind])
        return pd.Series(pd.array(values)).mask(hidden)
    return pd.Series(values).mask(hidden)


def _from_pandas(series: Any) -> Any:
    import pandas as pd

    if isinstance(series.dtype, pd.SparseDtype):
        return series.sparse.to_dense()
    if isinstance(series.dtype, pd.ArrowDtype):
        return _from_arrow(_arrow_of(series))
    return series


def _arrow_of(series: Any) -> Any:
    """Return the arrow array of a pandas column that holds one."""
    import pyarrow as pa

    array = pa.array(series.array)
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


def _from_arrow(column: Any) -> Any:
    import pandas as pd
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        values = column.cast(kind.value_type).to_pylist()
        return pd.Series(pd.Categorical(values, ordered=kind.ordered))
    if pa.types.is_decimal(kind) or pa.types.is_floating(kind):
        return pd.Series(column.cast(pa.float64()).to_numpy())
    if pa.types.is_date(kind):
        return pd.Series(column.cast(pa.timestamp("s")).to_numpy().astype("datetime64[s]"))
    if pa.types.is_duration(kind):
        return pd.Series(column.to_numpy())
    of_pandas = pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    of_pandas = of_pandas or pa.types.is_timestamp(kind) or kind in (pa.string(), pa.large_string())
    if of_pandas:
        return pd.Series(pd.arrays.ArrowExtensionArray(column))
    return pd.Series(column.to_pylist(), dtype=object)


def _from_polars(series: Any) -> Any:
    import pandas as pd

    dtype, kind = series.dtype, str(series.dtype)
    if kind.startswith(("Categorical", "Enum")):
        fixed = getattr(dtype, "categories", None) if kind.startswith("Enum") else None
        seen = sorted(series.drop_nulls().cast(str).unique().to_list())
        categories = seen if fixed is None else list(fixed)
        return pd.Series(pd.Categorical(series.to_list(), categories=categories))
    if dtype.is_integer() and kind not in ("Int128", "UInt128"):
        values = series.fill_null(0).to_numpy()
        if not series.null_count():
            return pd.Series(values)
        return pd.Series(pd.array(values)).mask(series.is_null().to_numpy())
    if dtype.is_numeric():
        import polars as pl

        exact = dtype.is_float()
        return pd.Series((series if exact else series.cast(pl.Float64)).to_numpy())
    if dtype.is_temporal() and not kind.startswith("Time"):
        return pd.Series(series.to_numpy())
    return pd.Series(series.to_list(), dtype=object)
