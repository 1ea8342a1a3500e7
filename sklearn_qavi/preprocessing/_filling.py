"""Missing cells of a column filled with values of its own type; the other cells stay as they are.

The type of a completed column does not depend on whether it has missing cells.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._cells import Cells, whole_within
from ._columns import Column

__all__ = ["complete_column", "largest_number"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def complete_column(cells: Cells, column: Column, numbers: Array, missing: Mask) -> Cells:
    """Return the cells of a column with the missing ones filled.

    Parameters
    ----------
    cells : ndarray, pandas.Series, polars.Series or pyarrow.ChunkedArray of shape (N,)
        As it came; not changed.
    column : Column
        What the column holds.
    numbers : ndarray of shape (N,)
        What `Column.from_model` gave, read where a cell is missing.
    missing : bool ndarray of shape (N,)
        True where a cell is missing.

    Returns
    -------
    completed : ndarray, pandas.Series, polars.Series or pyarrow.ChunkedArray
        Of the type of ``cells``. Integers are rounded and kept within their type, times
        within theirs; text that stands for numbers is written as the column's text is.
    """
    if isinstance(cells, np.ndarray):
        return _complete_array(cells, column, numbers, missing)
    if hasattr(cells, "iloc"):
        return _complete_pandas(cells, column, numbers, missing)
    if hasattr(cells, "zip_with"):
        return _complete_polars(cells, column, numbers, missing)
    return _complete_arrow(cells, column, numbers, missing)


def largest_number(cells: Cells) -> float:
    """Return the largest finite number of a column's type, for floats; infinity for others."""
    dtype = getattr(cells, "dtype", None)
    dtype = getattr(dtype, "numpy_dtype", dtype)
    name = str(getattr(cells, "type", dtype)).lower()
    for of_numpy, names in _FLOATS.items():
        if name in names:
            return float(np.finfo(of_numpy).max)
    return np.inf


_FLOATS: dict[type[np.floating[Any]], tuple[str, ...]] = {
    np.float16: ("float16", "halffloat"),
    np.float32: ("float32", "float"),
    np.float64: ("float64", "double"),
}


# numpy


def _complete_array(
    cells: NDArray[Any], column: Column, numbers: Array, missing: Mask
) -> NDArray[Any]:
    if cells.dtype.kind in "OUS" or not column.fits(cells.dtype):
        out = cells.astype(object)
        out[missing] = column.as_objects(numbers[missing], cells[~missing])
        return out
    out = cells.copy()
    out[missing] = _for_numpy(column, numbers[missing], cells.dtype)
    return out


def _for_numpy(column: Column, numbers: Array, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values of a numpy type that is not object or text."""
    if dtype.kind in "mM":
        unit, _ = np.datetime_data(dtype)
        return column.as_times(numbers, unit).astype(dtype)
    if column.n_categories is not None:
        return column.decode(numbers).astype(dtype)
    if dtype.kind in "iu":
        return whole_within(numbers, np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)
    with np.errstate(over="ignore"):
        return numbers.astype(dtype)


# pandas


def _complete_pandas(cells: Cells, column: Column, numbers: Array, missing: Mask) -> Cells:
    import pandas as pd

    if isinstance(cells.dtype, pd.SparseDtype):
        dense = _complete_pandas(cells.sparse.to_dense(), column, numbers, missing)
        return dense.astype(cells.dtype)
    cells = _with_type_of_fit(cells, column, ~missing)
    dtype = cells.dtype
    if isinstance(dtype, pd.ArrowDtype):
        import pyarrow as pa

        arrow = pa.chunked_array([pa.array(cells.array)])
        completed = _complete_arrow(arrow, column, numbers, missing)
        values = pd.arrays.ArrowExtensionArray(completed)
        return pd.Series(values, index=cells.index, name=cells.name)
    if isinstance(dtype, pd.CategoricalDtype):
        cells = cells.astype(_type_with_categories(dtype, column))
    if not missing.any():
        return cells
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        objects = cells.to_numpy(copy=True)
        objects[missing] = column.as_objects(numbers[missing], objects[~missing])
        return pd.Series(objects, index=cells.index, name=cells.name, dtype=object)
    out = cells.copy()
    out.iloc[np.flatnonzero(missing)] = _for_pandas(column, numbers[missing], cells[~missing])
    return out


def _for_pandas(column: Column, numbers: Array, shown: Cells) -> Cells:
    import pandas as pd

    dtype = getattr(shown.dtype, "numpy_dtype", shown.dtype)
    zone = getattr(dtype, "tz", None)
    if zone is not None:
        times = pd.Series(column.as_times(numbers, dtype.unit))
        return times.dt.tz_localize("UTC").dt.tz_convert(zone).array
    if isinstance(dtype, np.dtype) and dtype.kind in "biufmM":
        return _for_numpy(column, numbers, dtype)
    return column.as_objects(numbers, shown.to_numpy(dtype=object))


def _with_type_of_fit(cells: Cells, column: Column, observed: Mask) -> Cells:
    """Return cells, with the type of fit if they show no value that could have a type."""
    import pandas as pd

    if observed.any() or column.is_number:
        return cells
    if getattr(cells.dtype, "kind", "O") not in "iufO":
        return cells
    dtype: Any = object
    if isinstance(column.dtype, np.dtype | pd.api.extensions.ExtensionDtype):
        dtype = column.dtype
    if isinstance(dtype, pd.SparseDtype):
        dtype = dtype.subtype
    return pd.Series([None] * len(cells), index=cells.index, name=cells.name, dtype=dtype)


def _type_with_categories(dtype: Any, column: Column) -> Any:
    """Return a categorical type that has the column's categories, that of fit if it can be."""
    import pandas as pd

    lacking = column.lacking_in(dtype.categories)
    if not lacking:
        return dtype
    known = column.dtype
    if isinstance(known, pd.CategoricalDtype) and dtype.categories.isin(known.categories).all():
        return known
    return pd.CategoricalDtype([*dtype.categories, *lacking], ordered=dtype.ordered)


# polars


def _complete_polars(cells: Cells, column: Column, numbers: Array, missing: Mask) -> Cells:
    import polars as pl

    cells = _with_polars_type_of_fit(cells, column, ~missing)
    dtype = cells.dtype
    if str(dtype).startswith("Enum"):
        lacking: list[Any] = column.lacking_in(dtype.categories)
        if lacking:
            dtype = pl.Enum([*dtype.categories, *lacking])
            cells = cells.cast(dtype)
    if not missing.any():
        return cells
    if dtype.is_temporal():
        unit = "D" if dtype == pl.Date else dtype.time_unit
        values = pl.Series(cells.name, _placed_times(column, numbers, missing, unit))
        zone = getattr(dtype, "time_zone", None)
        if zone is not None:
            values = values.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
        values = values.cast(dtype)
    else:
        placed = _placed(_for_polars(column, numbers[missing], cells), missing)
        values = pl.Series(cells.name, placed, dtype=dtype)
    return cells.zip_with(pl.Series(~missing), values)


def _for_polars(column: Column, numbers: Array, cells: Cells) -> Iterable[object]:
    import polars as pl

    dtype = cells.dtype
    if column.n_categories is None:
        if dtype.is_integer():
            bits = int("".join(filter(str.isdigit, str(dtype))))
            return _integers(numbers, bits, signed=dtype.is_signed_integer())
        if dtype.is_float():
            floats: Iterable[object] = numbers.tolist()
            return floats
        if dtype.is_decimal():
            return _decimals(numbers, dtype.precision or 38, dtype.scale)
        return column.as_objects(numbers, cells.drop_nulls().to_list())
    categories = column.decode(numbers)
    if dtype.is_numeric():
        return [dtype.to_python()(category) for category in categories]
    return [bool(c) for c in categories] if dtype == pl.Boolean else categories.tolist()


def _with_polars_type_of_fit(cells: Cells, column: Column, observed: Mask) -> Cells:
    import polars as pl

    untyped = cells.dtype == pl.Null or (cells.dtype.is_numeric() and not column.is_number)
    if observed.any() or not untyped:
        return cells
    dtype = column.dtype
    if not isinstance(dtype, pl.DataType):
        dtype = pl.Series(column.examples(), strict=False).dtype
    return pl.Series(cells.name, [None] * len(cells), dtype=dtype)


# pyarrow


def _complete_arrow(cells: Cells, column: Column, numbers: Array, missing: Mask) -> Cells:
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = _with_arrow_type_of_fit(cells, column, ~missing)
    dtype = cells.type
    if not missing.any():
        return cells
    plain = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    if str(dtype).endswith("_view"):  # few functions of pyarrow take these
        plain = pa.large_string() if "string" in str(dtype) else pa.large_binary()
    values = _for_arrow(column, numbers, missing, cells.cast(plain), plain)
    if isinstance(plain, pa.BaseExtensionType):  # functions of pyarrow take what is stored
        stored = pc.if_else(pa.array(missing), values.storage, cells.cast(plain.storage_type))
        return stored.cast(plain)
    completed = pc.if_else(pa.array(missing), values, cells.cast(plain))
    if pa.types.is_dictionary(dtype):
        completed = pc.dictionary_encode(completed)
    if plain is not dtype:
        completed = completed.cast(dtype)
    return completed if isinstance(completed, pa.ChunkedArray) else pa.chunked_array([completed])


def _for_arrow(column: Column, numbers: Array, missing: Mask, cells: Cells, dtype: Any) -> Cells:
    import pyarrow as pa

    if pa.types.is_temporal(dtype):
        unit = "s" if pa.types.is_date(dtype) else dtype.unit
        return pa.array(_placed_times(column, numbers, missing, unit)).cast(dtype)
    placed = _placed(_arrow_cells(column, numbers[missing], cells, dtype), missing)
    return pa.array(placed, type=dtype)


def _arrow_cells(column: Column, numbers: Array, cells: Cells, dtype: Any) -> Iterable[object]:
    import pyarrow as pa

    if column.n_categories is not None:
        objects: Iterable[object] = column.decode(numbers).tolist()
        return objects
    if pa.types.is_integer(dtype):
        return _integers(numbers, dtype.bit_width, signed=pa.types.is_signed_integer(dtype))
    if pa.types.is_decimal(dtype):
        return _decimals(numbers, dtype.precision, dtype.scale)
    if pa.types.is_floating(dtype):
        return [np.float16(v) for v in numbers] if dtype.bit_width == 16 else numbers.tolist()
    return column.as_objects(numbers, cells.drop_null().to_pylist())


def _with_arrow_type_of_fit(cells: Cells, column: Column, observed: Mask) -> Cells:
    import pyarrow as pa

    untyped = pa.types.is_null(cells.type) or (
        (pa.types.is_floating(cells.type) or pa.types.is_integer(cells.type))
        and not column.is_number
    )
    if observed.any() or not untyped:
        return cells
    dtype = getattr(column.dtype, "pyarrow_dtype", column.dtype)
    if not isinstance(dtype, pa.DataType):
        dtype = pa.array(column.examples()).type
    return pa.chunked_array([pa.nulls(len(cells), dtype)])


# of several containers


def _placed(values: Iterable[object], missing: Mask) -> list[object]:
    """Return values where cells are missing, and None elsewhere."""
    cells: list[object] = [None] * len(missing)
    for place, value in zip(np.flatnonzero(missing), values, strict=True):
        cells[place] = value
    return cells


def _placed_times(column: Column, numbers: Array, missing: Mask, unit: str) -> NDArray[Any]:
    """Return times where cells are missing, and NaT elsewhere."""
    times = column.as_times(numbers[missing], unit)
    cells = np.full(len(missing), "NaT", dtype=times.dtype)
    cells[missing] = times
    return cells


def _integers(numbers: Array, bits: int, *, signed: bool) -> list[int]:
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    whole: list[int] = whole_within(numbers, lowest, highest).tolist()
    return whole


def _decimals(numbers: Array, precision: int, scale: int) -> list[Decimal]:
    most = 10**precision - 1
    counts = whole_within(numbers * 10.0**scale, -most, most)
    return [Decimal(int(count)).scaleb(-scale) for count in counts]
