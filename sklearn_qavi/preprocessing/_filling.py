"""Missing cells of a column filled with values of its own type; the other cells stay as they are.

The type of a completed column does not depend on whether it has missing cells.
"""

import datetime
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._schema import NUMBERS, UNITS, ColumnSchema, cell_type_of

__all__ = ["complete_column", "largest_number", "may_hold"]


def complete_column(
    column: Any, schema: ColumnSchema, numbers: NDArray[np.float64], holes: NDArray[np.bool_]
) -> Any:
    """Return a column with its missing cells filled.

    Parameters
    ----------
    column : ndarray, pandas.Series, polars.Series or pyarrow.ChunkedArray of shape (N,)
        As it came; not changed.
    schema : ColumnSchema
        What it holds.
    numbers : ndarray of shape (N,)
        What `ColumnSchema.from_model` gave, read where a cell is missing.
    holes : bool ndarray of shape (N,)
        True where a cell is missing.

    Returns
    -------
    completed : object
        A column of the same kind and type. Integers are rounded and kept within their type, times
        within theirs; text that stands for numbers is written as the column's text is.
    """
    if isinstance(column, np.ndarray):
        return _complete_array(column, schema, numbers, holes)
    if hasattr(column, "iloc"):
        return _complete_pandas(column, schema, numbers, holes)
    if hasattr(column, "zip_with"):
        return _complete_polars(column, schema, numbers, holes)
    return _complete_arrow(column, schema, numbers, holes)


def largest_number(column: Any) -> float:
    """Return the largest finite number of a column's type, for floats; infinity for others."""
    dtype = getattr(column, "dtype", None)
    dtype = getattr(dtype, "numpy_dtype", dtype)
    name = str(getattr(column, "type", dtype)).lower()
    for kind, names in _FLOATS.items():
        if name in names:
            return float(np.finfo(kind).max)
    return np.inf


_FLOATS: dict[Any, tuple[str, ...]] = {
    np.float16: ("float16", "halffloat"),
    np.float32: ("float32", "float"),
    np.float64: ("float64", "double"),
}


# numpy


def _complete_array(
    column: NDArray[Any],
    schema: ColumnSchema,
    numbers: NDArray[np.float64],
    holes: NDArray[np.bool_],
) -> NDArray[Any]:
    kind = column.dtype.kind
    if kind in "OUS" or not may_hold(column.dtype, schema):
        out = column.astype(object)
        out[holes] = _cells(schema, numbers[holes], column[~holes])
        return out
    out = column.copy()
    out[holes] = _for_numpy(schema, numbers[holes], column.dtype)
    return out


def may_hold(dtype: np.dtype[Any], schema: ColumnSchema) -> bool:
    """Return whether an array of a type has room for a column's values.

    Rows of a table with text may show numbers alone, in an array of numbers.
    """
    if dtype.kind in "mM":
        return bool(schema.unit) or schema.kind == "empty"
    return dtype.kind in "OUS" or schema.kind in (*NUMBERS, "empty") or schema.gives_numbers


def _for_numpy(schema: ColumnSchema, numbers: NDArray[np.float64], dtype: Any) -> NDArray[Any]:
    """Return values of a numpy type that is not object or text."""
    if dtype.kind in "mM":
        unit, _ = np.datetime_data(dtype)
        return _times(schema, numbers, unit).astype(dtype)
    if schema.n_levels is not None:
        return np.asarray(schema.decode(numbers)).astype(dtype)
    if dtype.kind in "iu":
        return _within(numbers, np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)
    with np.errstate(over="ignore"):
        return numbers.astype(dtype)


def _within(numbers: NDArray[np.float64], lowest: int, highest: int) -> NDArray[Any]:
    """Return numbers rounded to Python integers of a type's range, an array of objects."""
    out = np.empty(len(numbers), dtype=object)
    out[:] = [min(max(int(number), lowest), highest) for number in np.round(numbers)]
    return out


# pandas


def _complete_pandas(
    column: Any, schema: ColumnSchema, numbers: NDArray[np.float64], holes: NDArray[np.bool_]
) -> Any:
    import pandas as pd

    if isinstance(column.dtype, pd.SparseDtype):
        dense = _complete_pandas(column.sparse.to_dense(), schema, numbers, holes)
        return dense.astype(column.dtype)
    column = _with_type_of_fit(column, schema, ~holes)
    dtype = column.dtype
    if isinstance(dtype, pd.ArrowDtype):
        import pyarrow as pa

        arrow = pa.chunked_array([pa.array(column.array)])
        completed = _complete_arrow(arrow, schema, numbers, holes)
        values = pd.arrays.ArrowExtensionArray(completed)
        return pd.Series(values, index=column.index, name=column.name)
    if isinstance(dtype, pd.CategoricalDtype):
        column = column.astype(_categories_with_levels(dtype, schema))
    if not holes.any():
        return column
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        cells = column.to_numpy(copy=True)
        cells[holes] = _cells(schema, numbers[holes], cells[~holes])
        return pd.Series(cells, index=column.index, name=column.name, dtype=object)
    out = column.copy()
    out.iloc[np.flatnonzero(holes)] = _for_pandas(schema, numbers[holes], column[~holes])
    return out


def _for_pandas(schema: ColumnSchema, numbers: NDArray[np.float64], shown: Any) -> Any:
    import pandas as pd

    dtype = getattr(shown.dtype, "numpy_dtype", shown.dtype)
    zone = getattr(dtype, "tz", None)
    if zone is not None:
        times = pd.Series(_times(schema, numbers, dtype.unit))
        return times.dt.tz_localize("UTC").dt.tz_convert(zone).array
    if isinstance(dtype, np.dtype) and dtype.kind in "biufmM":
        return _for_numpy(schema, numbers, dtype)
    return _cells(schema, numbers, shown.to_numpy(dtype=object))


def _with_type_of_fit(column: Any, schema: ColumnSchema, observed: NDArray[np.bool_]) -> Any:
    """Return the column, with the type of fit if it shows no value that could have a type."""
    import pandas as pd

    if observed.any() or schema.kind in (*NUMBERS, "empty"):
        return column
    if getattr(column.dtype, "kind", "O") not in "iufO":
        return column
    dtype: Any = object
    if isinstance(schema.dtype, np.dtype | pd.api.extensions.ExtensionDtype):
        dtype = schema.dtype
    if isinstance(dtype, pd.SparseDtype):
        dtype = dtype.subtype
    return pd.Series([None] * len(column), index=column.index, name=column.name, dtype=dtype)


def _categories_with_levels(dtype: Any, schema: ColumnSchema) -> Any:
    """Return a type of categories that holds the levels, that of fit if it can be."""
    import pandas as pd

    lacking = [level for level in schema.levels if level not in dtype.categories]
    if not lacking:
        return dtype
    known = schema.dtype
    if isinstance(known, pd.CategoricalDtype) and dtype.categories.isin(known.categories).all():
        return known
    return pd.CategoricalDtype([*dtype.categories, *lacking], ordered=dtype.ordered)


# polars


def _complete_polars(
    column: Any, schema: ColumnSchema, numbers: NDArray[np.float64], holes: NDArray[np.bool_]
) -> Any:
    import polars as pl

    column = _with_polars_type_of_fit(column, schema, ~holes)
    dtype = column.dtype
    if str(dtype).startswith("Enum"):
        lacking = [level for level in schema.levels if level not in dtype.categories]
        if lacking:
            dtype = pl.Enum([*dtype.categories, *lacking])
            column = column.cast(dtype)
    if not holes.any():
        return column
    if dtype.is_temporal():
        unit = "D" if dtype == pl.Date else dtype.time_unit
        times = np.full(len(holes), "NaT", dtype=f"{schema.numpy_code}[{unit}]")
        times[holes] = _times(schema, numbers[holes], unit)
        values = pl.Series(column.name, times)
        zone = getattr(dtype, "time_zone", None)
        if zone is not None:
            values = values.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
        values = values.cast(dtype)
    else:
        cells = [None] * len(holes)
        for place, cell in zip(
            np.flatnonzero(holes), _for_polars(schema, numbers[holes], column), strict=True
        ):
            cells[place] = cell
        values = pl.Series(column.name, cells, dtype=dtype)
    return column.zip_with(pl.Series(~holes), values)


def _for_polars(schema: ColumnSchema, numbers: NDArray[np.float64], column: Any) -> Iterable[Any]:
    import polars as pl

    dtype = column.dtype
    if schema.n_levels is None:
        if dtype.is_integer():
            bits = int("".join(filter(str.isdigit, str(dtype))))
            return _integers(numbers, bits, signed=dtype.is_signed_integer())
        if dtype.is_float():
            return numbers.tolist()
        if dtype.is_decimal():
            return _decimals(numbers, dtype.precision or 38, dtype.scale)
        return _cells(schema, numbers, column.drop_nulls().to_list())
    levels = schema.decode(numbers)
    if dtype.is_numeric():
        return [dtype.to_python()(level) for level in levels]
    return [bool(level) for level in levels] if dtype == pl.Boolean else levels.tolist()


def _with_polars_type_of_fit(column: Any, schema: ColumnSchema, observed: NDArray[np.bool_]) -> Any:
    import polars as pl

    is_number = schema.kind in (*NUMBERS, "empty")
    untyped = column.dtype == pl.Null or (column.dtype.is_numeric() and not is_number)
    if observed.any() or not untyped:
        return column
    dtype = schema.dtype
    if not isinstance(dtype, pl.DataType):
        dtype = {"date": pl.Datetime("us"), "duration": pl.Duration("us")}.get(
            schema.kind, pl.Float64() if is_number else _polars_type_of(schema.levels)
        )
    return pl.Series(column.name, [None] * len(column), dtype=dtype)


def _polars_type_of(levels: tuple[Any, ...]) -> Any:
    import polars as pl

    return pl.Series(list(levels), strict=False).dtype


# pyarrow


def _complete_arrow(
    column: Any, schema: ColumnSchema, numbers: NDArray[np.float64], holes: NDArray[np.bool_]
) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    column = _with_arrow_type_of_fit(column, schema, ~holes)
    dtype = column.type
    if not holes.any():
        return column
    plain = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    if str(dtype).endswith("_view"):  # few functions of pyarrow take these
        plain = pa.large_string() if "string" in str(dtype) else pa.large_binary()
    values = _for_arrow(schema, numbers, holes, column.cast(plain), plain)
    completed = pc.if_else(pa.array(holes), values, column.cast(plain))
    if pa.types.is_dictionary(dtype):
        completed = pc.dictionary_encode(completed)
    if plain is not dtype:
        completed = completed.cast(dtype)
    return completed if isinstance(completed, pa.ChunkedArray) else pa.chunked_array([completed])


def _for_arrow(
    schema: ColumnSchema,
    numbers: NDArray[np.float64],
    holes: NDArray[np.bool_],
    column: Any,
    dtype: Any,
) -> Any:
    import pyarrow as pa

    if pa.types.is_temporal(dtype):
        unit = "s" if pa.types.is_date(dtype) else dtype.unit
        times = np.full(len(holes), "NaT", dtype=f"{schema.numpy_code}[{unit}]")
        times[holes] = _times(schema, numbers[holes], unit)
        return pa.array(times).cast(dtype)
    cells: list[Any] = [None] * len(holes)
    for place, cell in zip(
        np.flatnonzero(holes), _arrow_cells(schema, numbers[holes], column, dtype), strict=True
    ):
        cells[place] = cell
    return pa.array(cells, type=dtype)


def _arrow_cells(
    schema: ColumnSchema, numbers: NDArray[np.float64], column: Any, dtype: Any
) -> Iterable[Any]:
    import pyarrow as pa

    if schema.n_levels is not None:
        return schema.decode(numbers).tolist()
    if pa.types.is_integer(dtype):
        return _integers(numbers, dtype.bit_width, signed=pa.types.is_signed_integer(dtype))
    if pa.types.is_decimal(dtype):
        return _decimals(numbers, dtype.precision, dtype.scale)
    if pa.types.is_floating(dtype):
        return [np.float16(v) for v in numbers] if dtype.bit_width == 16 else numbers.tolist()
    return _cells(schema, numbers, column.drop_null().to_pylist())


def _with_arrow_type_of_fit(column: Any, schema: ColumnSchema, observed: NDArray[np.bool_]) -> Any:
    import pyarrow as pa

    is_number = schema.kind in (*NUMBERS, "empty")
    untyped = pa.types.is_null(column.type) or (
        (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)) and not is_number
    )
    if observed.any() or not untyped:
        return column
    dtype = getattr(schema.dtype, "pyarrow_dtype", schema.dtype)
    if not isinstance(dtype, pa.DataType):
        dtype = {"date": pa.timestamp("us"), "duration": pa.duration("us")}.get(
            schema.kind, pa.float64() if is_number else pa.array(list(schema.levels)).type
        )
    return pa.chunked_array([pa.nulls(len(column), dtype)])


# Python objects


def _cells(schema: ColumnSchema, numbers: NDArray[np.float64], shown: Any) -> NDArray[Any]:
    """Return values as Python objects of the kind that the column shows, or showed in fit."""
    out = np.empty(len(numbers), dtype=object)
    if schema.n_levels is not None:
        out[:] = list(schema.decode(numbers))
    elif schema.unit:
        out[:] = _time_objects(schema, numbers, next(iter(shown), None))
    else:
        out[:] = _number_objects(schema, numbers, schema.cell_type or cell_type_of(shown))
    return out


def _number_objects(
    schema: ColumnSchema, numbers: NDArray[np.float64], cell_type: str
) -> list[Any]:
    if cell_type == "int":
        return [int(number) for number in np.round(numbers)]
    if cell_type == "Decimal":
        return [Decimal(f"{number:.{schema.decimals}f}") for number in numbers]
    if cell_type in ("str", "bytes"):
        text = [f"{number:.{schema.decimals}f}" for number in numbers]
        return text if cell_type == "str" else [t.encode() for t in text]
    return numbers.tolist()


def _integers(numbers: NDArray[np.float64], bits: int, *, signed: bool) -> list[int]:
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return _within(numbers, lowest, highest).tolist()


def _decimals(numbers: NDArray[np.float64], precision: int, scale: int) -> list[Decimal]:
    most = 10**precision - 1
    counts = _within(numbers * 10.0**scale, -most, most)
    return [Decimal(int(count)).scaleb(-scale) for count in counts]


# times


def _times(schema: ColumnSchema, numbers: NDArray[np.float64], unit: str) -> NDArray[Any]:
    """Return counts of the schema's unit as times in another unit, within what it can hold."""
    own, wanted = UNITS[schema.unit], UNITS[unit]
    most = (2**63 - 1) * wanted // own
    counts = _within(numbers, -most, most)
    out = np.array([int(count) * own // wanted for count in counts], dtype=np.int64)
    return out.astype(f"{schema.numpy_code}[{unit}]")


def _time_objects(schema: ColumnSchema, numbers: NDArray[np.float64], like: Any) -> list[Any]:
    """Return times as objects of the kind of one that the column shows, or showed in fit."""
    kind = schema.cell_type if like is None else cell_type_of([like])
    lowest, highest = _PYTHON_RANGE[schema.kind]
    counts = np.clip(_times(schema, numbers, "us").astype(np.int64), lowest, highest)
    times = counts.astype(f"{schema.numpy_code}[us]")
    return [_time_object(time, kind, getattr(like, "tzinfo", None)) for time in times]


def _time_object(time: Any, kind: str, zone: Any) -> Any:
    import pandas as pd

    if kind in ("Timestamp", "Timedelta"):
        value = getattr(pd, kind)(time)
        return value if zone is None else value.tz_localize("UTC").tz_convert(zone)
    if kind in ("datetime64", "timedelta64"):
        return time
    value = time.astype(object)
    if kind == "date":
        return value.date()
    return value if zone is None else value.replace(tzinfo=datetime.UTC).astimezone(zone)


def _microseconds(time: datetime.datetime) -> int:
    return int(np.datetime64(time, "us").astype(np.int64))


_PYTHON_RANGE = {
    "date": (
        _microseconds(datetime.datetime(1, 1, 2)),
        _microseconds(datetime.datetime(9999, 12, 30)),
    ),
    "duration": (-(2**62), 2**62),
}
