"""Observed cells come back as they were, in every container and type; imputed ones fit the type."""

import datetime
import zoneinfo
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from _factories import tiny_imputer
from sklearn_qavi import QAVIImputer

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn_qavi.exceptions.ExtremeValueWarning"),
    pytest.mark.filterwarnings("ignore::sklearn_qavi.exceptions.NumericTextWarning"),
]

N = 24
BIG = 4873214862074861313  # no float is this number
MISSING = np.zeros(N, dtype=bool)
MISSING[[0, 5, 23]] = True
ROME = zoneinfo.ZoneInfo("Europe/Rome")


def moment(i: int) -> datetime.datetime:
    return datetime.datetime(2020, 1, 1, 12) + datetime.timedelta(hours=7 * i, microseconds=i)


VALUES: dict[str, list[Any]] = {
    "float": [0.1 * i for i in range(N)],
    "whole": [i % 7 for i in range(N)],
    "big": [BIG + 7919 * i for i in range(N)],
    "text": [["red", "blue", "é"][i % 3] for i in range(N)],
    "digits": [f"{6783 + 17 * i:05d}" for i in range(N)],
    "bytes": [[b"uu", b"vv"][i % 2] for i in range(N)],
    "flag": [i % 3 == 0 for i in range(N)],
    "decimal": [Decimal(i * 37) / 100 for i in range(N)],
    "date": [datetime.date(2020, 2, 27) + datetime.timedelta(days=i) for i in range(N)],
    "time": [moment(i) for i in range(N)],
    "zone": [moment(i).replace(tzinfo=datetime.UTC).astimezone(ROME) for i in range(N)],
    "span": [datetime.timedelta(minutes=11 * i) for i in range(N)],
}


def pandas_columns(gone: np.ndarray) -> dict[str, pd.Series]:
    """Return a column of every type that pandas has and that can be imputed."""

    def of(kind: str, dtype: Any) -> pd.Series:
        cells = [None if g else v for v, g in zip(VALUES[kind], gone, strict=True)]
        return pd.Series(cells, dtype=dtype)

    types: list[tuple[str, Any]] = [("float", "float64"), ("float", "float32")]
    types += [("float", "Float64"), ("whole", "Float32"), ("whole", "float64")]
    types += [("whole", f"{sign}Int{bits}") for sign in ("", "U") for bits in (8, 16, 32)]
    types += [("big", "Int64"), ("big", "UInt64"), ("flag", "boolean")]
    types += [("text", "string"), ("text", "str"), ("text", "category"), ("digits", "str")]
    types += [("digits", "string"), ("digits", "category"), ("whole", "category")]
    types += [("time", "datetime64[us]"), ("time", "datetime64[ns]"), ("date", "datetime64[s]")]
    types += [("span", "timedelta64[s]"), ("span", "timedelta64[ns]")]
    types += [("zone", pd.DatetimeTZDtype("us", "Europe/Rome")), ("float", "Sparse[float64]")]
    types += [(kind, object) for kind in VALUES]
    arrow = {k: t for k, t in ARROW.items() if not pa.types.is_nested(t)}
    out = {f"{kind}/{dtype}": of(kind, dtype) for kind, dtype in types}
    for name, kind in arrow.items():
        cells = [None if g else v for v, g in zip(VALUES[name.split("/")[0]], gone, strict=True)]
        array = pd.arrays.ArrowExtensionArray(pa.chunked_array([pa.array(cells, type=kind)]))
        out[f"{name}[pyarrow]"] = pd.Series(array)
    if not gone.any():
        for bits in (8, 16, 32, 64):
            out[f"whole/int{bits}"] = of("whole", f"int{bits}")
            out[f"whole/uint{bits}"] = of("whole", f"uint{bits}")
        out["big/int64"] = of("big", "int64")
        out["flag/bool"] = of("flag", "bool")
    return out


ARROW: dict[str, Any] = {
    "float/double": pa.float64(),
    "float/float": pa.float32(),
    "whole/int8": pa.int8(),
    "whole/uint16": pa.uint16(),
    "big/int64": pa.int64(),
    "big/uint64": pa.uint64(),
    "text/string": pa.string(),
    "text/large": pa.large_string(),
    "digits/string": pa.string(),
    "bytes/binary": pa.binary(),
    "flag/bool": pa.bool_(),
    "decimal/128": pa.decimal128(10, 2),
    "decimal/256": pa.decimal256(40, 2),
    "date/32": pa.date32(),
    "date/64": pa.date64(),
    "time/us": pa.timestamp("us"),
    "zone/us": pa.timestamp("us", tz="Europe/Rome"),
    "span/ms": pa.duration("ms"),
    "text/view": pa.string_view(),
    "bytes/fixed": pa.binary(2),
    "text/dictionary": pa.dictionary(pa.int32(), pa.string()),
    "whole/dictionary": pa.dictionary(pa.int8(), pa.int64()),
}


def pandas_table(gone: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(pandas_columns(gone)).set_axis([f"r{i}" for i in range(N)])


def polars_table(gone: np.ndarray) -> pl.DataFrame:
    types: list[tuple[str, Any]] = [("float", pl.Float64), ("float", pl.Float32)]
    integers = (pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32)
    types += [("whole", kind) for kind in integers]
    types += [("big", kind) for kind in (pl.Int64, pl.UInt64, pl.Int128)]
    types += [("text", pl.String), ("text", pl.Categorical), ("digits", pl.String)]
    types += [("text", pl.Enum(["blue", "é", "grey", "red"])), ("bytes", pl.Binary)]
    types += [("flag", pl.Boolean), ("decimal", pl.Decimal(12, 2)), ("date", pl.Date)]
    types += [("time", pl.Datetime("us")), ("date", pl.Datetime("ms")), ("date", pl.Datetime("ns"))]
    types += [("zone", pl.Datetime("us", "Europe/Rome")), ("span", pl.Duration("us"))]
    columns = {}
    for kind, dtype in types:
        cells = [None if g else v for v, g in zip(VALUES[kind], gone, strict=True)]
        columns[f"{kind}/{dtype}"] = pl.Series(cells, dtype=dtype, strict=False)
    return pl.DataFrame(columns)


def arrow_table(gone: np.ndarray) -> pa.Table:
    return pa.table(
        {
            name: pa.array(
                [None if g else v for v, g in zip(VALUES[name.split("/")[0]], gone, strict=True)],
                type=kind,
            )
            for name, kind in ARROW.items()
        }
    )


def cells_of(table: Any) -> dict[str, list[Any]]:
    """Return the cells of each column as the container's own objects."""
    if isinstance(table, pd.DataFrame):
        return {name: list(table[name]) for name in table}
    if isinstance(table, pl.DataFrame):
        return {name: table[name].to_list() for name in table.columns}
    if isinstance(table, pa.Table):
        return {name: table[name].to_pylist() for name in table.column_names}
    return {str(j): list(column) for j, column in enumerate(np.asarray(table).T)}


def types_of(table: Any) -> list[Any]:
    """Return the types of the columns."""
    if isinstance(table, pa.Table):
        return list(table.schema.types)
    return list(table.dtypes) if hasattr(table, "columns") else [table.dtype]


def assert_unchanged(completed: Any, given: Any, gone: np.ndarray) -> None:
    new, old = cells_of(completed), cells_of(given)
    assert list(new) == list(old)
    for name, cells in new.items():
        for cell, was, is_missing in zip(cells, old[name], gone, strict=True):
            if is_missing:
                assert not pd.isna(cell), name
            else:
                assert cell == was, name
            shown = (
                was
                if not is_missing
                else next(v for v, g in zip(old[name], gone, strict=True) if not g)
            )
            assert type(cell) is type(shown), name


MAKERS: dict[str, Callable[[np.ndarray], Any]] = {
    "pandas": pandas_table,
    "polars": polars_table,
    "default": arrow_table,  # what comes back is a pyarrow table
}


@pytest.mark.parametrize("container", MAKERS)
def test_dataframes_of_every_type(container: str) -> None:
    make = MAKERS[container]
    table = make(MISSING)
    imputer = tiny_imputer().fit(table).set_output(transform=container)
    lower, upper = imputer.predict_interval(table)
    answers = [imputer.transform(table), *imputer.sample(table, n=2), lower, upper]
    for completed in answers:
        assert type(completed) is type(table)
        assert types_of(completed) == types_of(table)
        assert_unchanged(completed, table, MISSING)
    whole = make(np.zeros(N, dtype=bool))
    names = list(cells_of(table))
    whole = whole[names] if container == "pandas" else whole.select(names)
    completed = imputer.transform(whole)
    assert types_of(completed) == types_of(whole)
    assert_unchanged(completed, whole, np.zeros(N, dtype=bool))


@pytest.mark.parametrize("container", MAKERS)
def test_rows_that_show_nothing_have_the_types_of_fit(container: str, tmp_path: Path) -> None:
    """Where a column's type says nothing; what is saved knows them too, but for polars' own."""
    table = MAKERS[container](MISSING)
    names = list(cells_of(table))
    empty: dict[str, Callable[[], Any]] = {
        "pandas": lambda: pd.DataFrame({name: [np.nan] * 3 for name in names}),
        "polars": lambda: pl.DataFrame({name: [None] * 3 for name in names}),
        "default": lambda: pa.table({name: pa.nulls(3) for name in names}),
    }
    nothing = empty[container]()
    imputer = tiny_imputer().fit(table)
    imputer.save(tmp_path)
    loaded = QAVIImputer.load(tmp_path)
    for each in [imputer] + [loaded] * (container != "polars"):
        completed = each.set_output(transform=container).transform(nothing)
        numbers = ("float", "whole", "big", "decimal")  # a column of NaN may be one of numbers
        for name, old, new in zip(names, types_of(table), types_of(completed), strict=True):
            assert new == old or (container == "pandas" and name.startswith(numbers)), name
        for cells in cells_of(completed).values():
            assert not any(pd.isna(cell) for cell in cells)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("whole", f"{s}int{b}") for s in ("", "u") for b in (8, 16, 32, 64)]
    + [("big", "int64"), ("big", "uint64"), ("float", "float16"), ("float", "float32")]
    + [("float", "float64"), ("flag", "bool"), ("text", "U"), ("bytes", "S"), ("digits", "U")]
    + [("time", "datetime64[us]"), ("date", "datetime64[D]"), ("span", "timedelta64[s]")]
    + [(kind, "O") for kind in VALUES],
)
def test_arrays_of_every_type(kind: str, dtype: str) -> None:
    column = np.empty(N, dtype=object)
    column[:] = VALUES[kind]
    given = np.column_stack([column, column[::-1]]).astype(dtype)
    mask = np.column_stack([MISSING, MISSING])
    table = np.ma.array(given, mask=mask)
    imputer = tiny_imputer().fit(table)
    lower, upper = imputer.predict_interval(table)
    for completed in (imputer.transform(table), *imputer.sample(table, n=2), lower, upper):
        assert type(completed) is np.ndarray
        assert completed.dtype.kind == given.dtype.kind
        assert completed.dtype == given.dtype or dtype in ("U", "S")
        assert_unchanged(completed, given, MISSING)
    assert_unchanged(imputer.transform(given), given, np.zeros(N, dtype=bool))
    assert imputer.transform(given).dtype == given.dtype


def test_markers_of_integers_leave_an_array_of_integers() -> None:
    given = np.array([[BIG + i, i % 5] for i in range(N)])
    given[MISSING, 1] = -1
    imputer = tiny_imputer(missing_values=-1).fit(given)
    completed = imputer.transform(given)
    assert completed.dtype == np.int64
    assert (completed[:, 0] == given[:, 0]).all()
    assert (completed[~MISSING, 1] == given[~MISSING, 1]).all()


def test_lists_keep_what_floats_do_not_hold() -> None:
    rows = [[BIG + i, None if i in (0, 5) else 0.5 * i] for i in range(N)]
    completed = tiny_imputer().fit(rows).transform(rows)
    assert completed.dtype == object
    assert completed[:, 0].tolist() == [row[0] for row in rows]
    numbers = [[float(i), None if i in (0, 5) else i] for i in range(N)]
    assert tiny_imputer().fit(numbers).transform(numbers).dtype == np.float64


@pytest.mark.parametrize("as_type", [np.ndarray, np.recarray])
def test_structured_arrays_are_tables_with_names(as_type: Any) -> None:
    fields = [("x", "f4"), ("id", "i8"), ("c", "U4")]
    table = np.array(
        [(np.nan if g else i, BIG + i, "ab"[i % 2]) for i, g in enumerate(MISSING)], dtype=fields
    ).view(as_type)
    imputer = tiny_imputer().fit(table)
    assert imputer.get_feature_names_out().tolist() == ["x", "id", "c"]
    completed = imputer.transform(table)
    assert completed.dtype == object
    assert completed[:, 1].tolist() == table["id"].tolist()
    frame = imputer.set_output(transform="pandas").transform(table)
    assert frame.dtypes.iloc[:2].tolist() == [np.float32, np.int64]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pl.Series([[1]] * N), "'c' holds values of the type list"),
        (pl.Series([{"a": 1}] * N), "'c' holds values of the type dict"),
        (pl.Series([datetime.time(1)] * N), "'c' holds values of the type time"),
        (pa.array([pa.MonthDayNano([1, 2, 3])] * N), "'c' holds values of the type MonthDayNano"),
        (pd.Series(pd.interval_range(0, N)), "'c' has the type interval"),
        (pd.Series([1, "a"] * (N // 2)), "'c' mixes values of the types .*'int', 'str'"),
    ],
)
def test_columns_that_cannot_be_imputed_are_named_at_fit(column: Any, message: str) -> None:
    make = {"polars": pl.DataFrame, "pyarrow": pa.table}
    table = make.get(type(column).__module__.partition(".")[0], pd.DataFrame)({"c": column})
    with pytest.raises(ValueError, match=message):
        tiny_imputer().fit(table)


def test_tables_that_are_only_plans_are_refused() -> None:
    with pytest.raises(TypeError, match=r"LazyFrame has no values yet. Pass X.collect\(\)"):
        tiny_imputer().fit(polars_table(MISSING).lazy())
    import dask.dataframe as dd

    with pytest.raises(TypeError, match=r"Dask collection.*complete_dask"):
        tiny_imputer().fit(dd.from_pandas(pd.DataFrame({"x": VALUES["float"]}), npartitions=2))


def test_record_batches_are_tables() -> None:
    batch = arrow_table(MISSING).select(["float/double", "text/string"]).to_batches()[0]
    completed = tiny_imputer().fit(batch).transform(batch)
    assert isinstance(completed, pa.Table)
    assert completed.num_rows == N


def test_periods_in_a_pyarrow_table_come_back_as_periods() -> None:
    """pyarrow has no functions for types that others add to it."""
    months = pd.PeriodIndex(["2020-02", None, "2021-03", "2020-11", None, "2020-02"] * 3, freq="M")
    frame = pd.DataFrame({"a": np.arange(18.0), "month": months})
    table = pa.Table.from_pandas(frame)
    completed = tiny_imputer().fit_transform(table)
    assert completed.schema.field("month").type == table.schema.field("month").type
    found = completed.to_pandas()["month"]
    observed = frame["month"].notna()
    assert (found[observed] == frame["month"][observed]).all()
    assert found.between(months.min() - 3, months.max() + 3).all()


@pytest.mark.parametrize("container", ["pandas", "polars", "default"])
@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
def test_one_container_in_and_another_out(container: str, output: str) -> None:
    """Cells are equal whatever is asked for."""
    kinds = ["float", "big", "text", "flag", "time", "digits"]
    columns = {kind: VALUES[kind] for kind in kinds}
    frame = pd.DataFrame({k: pd.Series(v, dtype=object) for k, v in columns.items()})
    frame = frame.astype({"float": "float64", "big": "int64", "time": "datetime64[us]"})
    make: dict[str, Any] = {"pandas": pd.DataFrame, "polars": pl.from_pandas}
    table = make.get(container, pa.Table.from_pandas)(frame)
    completed = tiny_imputer().fit(table).set_output(transform=output).transform(table)
    if isinstance(completed, np.ndarray):
        completed = pd.DataFrame(completed, columns=kinds)
    for kind, cells in cells_of(completed).items():
        assert cells == columns[kind]


def test_the_same_array_of_floats_whether_a_batch_has_missing_cells() -> None:
    frame = pd.DataFrame({"x": np.where(MISSING, np.nan, np.arange(N)), "k": pd.array(range(N))})
    imputer = tiny_imputer().fit(frame)
    assert imputer.transform(frame).dtype == imputer.transform(frame[~MISSING]).dtype == np.float64
    later = frame.assign(k=pd.array([BIG] * N))  # what floats do not hold stays what it is
    assert imputer.transform(later)[:, 1].tolist() == [BIG] * N


def test_times_stay_near_the_observed_ones_and_within_their_type() -> None:
    lowest, highest = pd.Timestamp.min.ceil("D"), pd.Timestamp.max.floor("D")
    ends = pd.Series([lowest, highest] * (N // 2)).mask(MISSING)
    days = pd.Series(pd.date_range("2020-01-01", periods=N)).mask(MISSING)
    frame = pd.DataFrame({"ends": ends.astype("datetime64[ns]"), "days": days})
    frame["old"] = [
        None if g else datetime.date(1 + 9000 * (i % 2), 1, 1) for i, g in enumerate(MISSING)
    ]
    imputer = tiny_imputer().set_output(transform="pandas").fit(frame)
    shown = days.dropna()
    margin = 0.1 * (shown.max() - shown.min())
    for draw in imputer.sample(frame, n=50):
        assert draw["days"].between(shown.min() - margin, shown.max() + margin).all()
        assert draw["ends"].notna().all()
        assert draw["old"].map(lambda day: type(day) is datetime.date).all()


def test_integers_stay_within_their_type() -> None:
    frame = pd.DataFrame({"k": pd.array([-128, 127] * (N // 2), dtype="Int8")}).mask(
        MISSING[:, None]
    )
    frame["x"] = np.arange(N) % 3 - 1.0
    for draw in tiny_imputer().set_output(transform="pandas").fit(frame).sample(frame, n=50):
        assert draw["k"].dtype == "Int8"
        assert draw["k"].between(-128, 127).all()
