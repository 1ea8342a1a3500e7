"""Completed columns put together again: arrays, dataframes of pandas or polars, pyarrow tables."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["as_array", "build_container", "cells_of"]


def as_array(
    columns: Iterable[Any],
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    more: NDArray[Any] | None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return columns as an array.

    Parameters
    ----------
    columns : iterable of length D
        Columns of any kind, (N,) each, taken one by one.
    shape : (int, int)
        N and D.
    dtype : numpy.dtype
        Of the array; text is made as wide as it needs to be.
    more : ndarray of shape (N, n_more) or None
        Columns to append.
    out : ndarray, default=None
        What to write into, if it has this shape and type.
    """
    is_text = dtype.kind in "US"
    if out is None or out.shape != shape or out.dtype != dtype:
        out = np.empty(shape, dtype=object if is_text else dtype)
    for j, column in enumerate(columns):
        out[:, j] = column if isinstance(column, np.ndarray) else cells_of(column)
    if is_text:
        out = out.astype(dtype.kind)
    return out if more is None else np.hstack([out, more])


def cells_of(column: Any) -> NDArray[Any]:
    """Return the cells of a column as Python objects, (N,)."""
    cells = np.empty(len(column), dtype=object)
    if isinstance(column, np.ndarray):
        cells[:] = column.tolist()
    elif hasattr(column, "iloc"):
        cells[:] = list(column.astype(object))
    else:
        cells[:] = column.to_list() if hasattr(column, "to_list") else column.to_pylist()
    return cells


def build_container(
    container: str,
    columns: list[Any],
    names: list[Any],
    index: Any = None,
    more: NDArray[Any] | None = None,
) -> Any:
    """Return columns as a table.

    Parameters
    ----------
    container : {"pandas", "polars", "pyarrow"}
        What to return; columns of another container are turned into its own.
    columns : list of ndarray, pandas.Series, polars.Series or pyarrow.ChunkedArray
        Completed columns.
    names : list of str
        Names of all columns.
    index : pandas.Index or None, default=None
        Of a pandas dataframe.
    more : ndarray of shape (N, n_more), default=None
        Columns to append.
    """
    columns = columns + ([] if more is None else list(more.T))
    if container == "pandas":
        return _pandas(columns, names, index)
    if container == "polars":
        import polars as pl

        return pl.DataFrame(
            [_to_polars(name, column) for name, column in zip(names, columns, strict=True)]
        )
    import pyarrow as pa

    return pa.table({name: _to_arrow(column) for name, column in zip(names, columns, strict=True)})


def _pandas(columns: list[Any], names: list[Any], index: Any) -> Any:
    import pandas as pd

    series = [_to_pandas(column).reset_index(drop=True) for column in columns]
    frame = pd.concat(series, axis=1) if series else pd.DataFrame(index=index)
    frame.columns = pd.Index(names, tupleize_cols=False)
    if index is not None:
        frame.index = index
    return frame


def _to_pandas(column: Any) -> Any:
    import pandas as pd

    if hasattr(column, "iloc"):
        return column
    if isinstance(column, np.ndarray):
        return pd.Series(column, dtype=object if column.dtype.kind == "O" else None)
    if hasattr(column, "to_pylist"):
        return pd.Series(pd.arrays.ArrowExtensionArray(column))
    return _polars_to_pandas(column)


def _polars_to_pandas(column: Any) -> Any:
    import pandas as pd

    dtype = column.dtype
    if dtype.is_float() or (dtype.is_integer() and "128" not in str(dtype)):
        return pd.Series(column.to_numpy())
    if dtype.is_temporal():
        times = pd.Series(column.to_numpy())
        zone = getattr(dtype, "time_zone", None)
        return times if zone is None else times.dt.tz_localize("UTC").dt.tz_convert(zone)
    if str(dtype).startswith(("Categorical", "Enum")):
        return pd.Series(pd.Categorical(column.to_list()))
    if str(dtype) in ("Boolean", "String"):
        return pd.Series(column.to_list())
    return pd.Series(column.to_list(), dtype=object)


def _to_polars(name: str, column: Any) -> Any:
    import polars as pl

    if hasattr(column, "zip_with"):
        return column.alias(name)
    if hasattr(column, "to_pylist"):
        wide = str(column.type).startswith("decimal256")  # which polars does not have
        return pl.Series(name, column.to_pylist() if wide else column)
    dtype = getattr(column, "dtype", None)
    plain = getattr(dtype, "numpy_dtype", dtype)
    if isinstance(plain, np.dtype) and plain.kind in "biuf":
        return pl.Series(name, np.asarray(column, dtype=plain))
    return pl.Series(name, cells_of(column).tolist(), strict=False)


def _to_arrow(column: Any) -> Any:
    import pyarrow as pa

    return column if hasattr(column, "to_pylist") else pa.array(column)
