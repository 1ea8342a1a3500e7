"""Dataframes of every kind: a completed table or an error of ours, never anything else."""

import copy
import datetime
import os
import warnings
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sklearn_qavi
from _factories import tiny_imputer

N_TABLES = int(os.environ.get("SKLEARN_QAVI_FUZZ", "120"))
OURS = (ValueError, TypeError)  # what scikit-learn and this package raise, with a message of theirs

texts = st.sampled_from(["a", "b", "", " ", "é", "nan", "1", "2.5", "None", "x" * 300, "0x1"])
numbers = st.one_of(
    st.floats(-10, 10),
    st.sampled_from([0.0, -0.0, 1e300, -1e300, 1e-300, 1e20, np.inf, 5e-324]),
    st.integers(-3, 3).map(float),
)
dates = st.datetimes(datetime.datetime(1678, 1, 1), datetime.datetime(2261, 1, 1))
odd = st.one_of(
    numbers,
    texts,
    st.booleans(),
    dates,
    st.sampled_from([(1, 2), b"b", 10**400, 1 + 2j, pd.NA, pd.NaT, frozenset({1})]),
    st.lists(st.integers(0, 2), max_size=2),
)


KINDS = [
    "float",
    "float32",
    "int",
    "Int64",
    "UInt8",
    "bool",
    "boolean",
    "text",
    "string",
    "category",
    "ordered",
    "number category",
    "date",
    "zone",
    "object date",
    "duration",
    "odd",
    "empty",
    "constant",
    "period",
    "int8",
    "Float64",
    "one category",
]


@st.composite
def columns(draw: Any, n_rows: int) -> pd.Series:
    kind = draw(st.sampled_from(KINDS))
    pick: dict[str, Any] = {
        "float": numbers,
        "float32": st.floats(-5, 5, width=32),
        "int": st.integers(-(2**63), 2**63 - 1),
        "int8": st.integers(-128, 127),
        "Int64": st.integers(-(2**62), 2**62),
        "UInt8": st.integers(0, 255),
        "Float64": st.floats(-5, 5),
        "bool": st.booleans(),
        "boolean": st.booleans(),
        "text": texts,
        "string": texts,
        "category": texts,
        "ordered": st.sampled_from(["S", "M", "L"]),
        "number category": st.integers(0, 3),
        "date": dates,
        "zone": dates,
        "object date": dates.map(lambda d: d.date()),
        "duration": st.timedeltas(datetime.timedelta(-9999), datetime.timedelta(9999)),
        "odd": odd,
        "empty": st.none(),
        "constant": st.just(7.25),
        "period": st.integers(0, 100),
        "one category": st.just("only"),
    }
    values = draw(st.lists(pick[kind], min_size=n_rows, max_size=n_rows))
    rate = draw(st.sampled_from([0.0, 0.2, 0.5, 0.95]))
    missing = np.array(draw(st.lists(st.floats(0, 1), min_size=n_rows, max_size=n_rows))) < rate
    if kind in ("int", "int8", "bool"):
        return pd.Series(values, dtype={"int": "int64"}.get(kind, kind))
    if kind in ("float", "float32"):
        return pd.Series(values, dtype=kind).mask(missing)
    if kind == "period":
        return pd.Series(pd.PeriodIndex.from_ordinals(values, freq="M")).mask(missing)
    objects = pd.Series(values, dtype=object)
    objects[missing] = draw(st.sampled_from([None, np.nan, pd.NA]))
    if kind in ("Int64", "UInt8", "boolean", "string", "Float64"):
        return objects.where(~missing, pd.NA).astype(kind)
    if kind in ("category", "number category", "one category"):
        return objects.where(~missing, None).astype("category")
    if kind == "ordered":
        return pd.Series(
            pd.Categorical(objects.where(~missing, None), ["L", "M", "S", "XL"], ordered=True)
        )
    if kind in ("date", "zone"):
        times = pd.to_datetime(objects.where(~missing, None))
        return (
            times.dt.tz_localize("Europe/Rome", ambiguous="NaT", nonexistent="NaT")
            if kind == "zone"
            else times
        )
    if kind == "duration":
        return pd.to_timedelta(objects.where(~missing, None))
    return objects


@st.composite
def frames(draw: Any) -> pd.DataFrame:
    n_rows, n_columns = draw(st.sampled_from([1, 6, 8, 9, 10, 14])), draw(st.integers(1, 4))
    parts = [draw(columns(n_rows)) for _ in range(n_columns)]
    frame = pd.concat(parts, axis=1)
    names = draw(st.permutations(["a", "b", "", "c d"]))[:n_columns]
    frame.columns = names if draw(st.integers(0, 9)) else ["a"] * n_columns
    index = draw(st.sampled_from(["range", "text", "same", "date", "multi"]))
    if index == "text":
        frame.index = [f"r{i}" for i in range(n_rows)]
    elif index == "same":
        frame.index = [0] * n_rows
    elif index == "date":
        frame.index = pd.date_range("2020", periods=n_rows)
    elif index == "multi":
        frame.index = pd.MultiIndex.from_product([["x"], range(n_rows)])
    return frame


def given_as(frame: pd.DataFrame, container: str) -> Any:
    """Return a table in another container; a dataframe that has no place there stays one."""
    if container == "array":
        return frame.astype(object).to_numpy()
    if container in ("polars", "pyarrow") and frame.columns.is_unique:
        try:
            table = pa.Table.from_pandas(frame, preserve_index=False)
            return table if container == "pyarrow" else pl.from_arrow(table)
        except (pa.ArrowException, TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            pass
    return frame


def cells_of(table: Any) -> list[list[Any]]:
    """Return the cells of each column as the container's own objects."""
    if isinstance(table, pd.DataFrame):
        return [list(table.iloc[:, j]) for j in range(table.shape[1])]
    if isinstance(table, pl.DataFrame):
        return [series.to_list() for series in table.get_columns()]
    if isinstance(table, pa.Table):
        return [column.to_pylist() for column in table.columns]
    return [list(column) for column in table.T]


def types_of(table: Any) -> list[Any]:
    if isinstance(table, pa.Table):
        return list(table.schema.types)
    return list(table.dtypes) if hasattr(table, "columns") else [table.dtype] * table.shape[1]


def is_null(cell: Any) -> bool:
    return cell is None or cell is pd.NA or (not isinstance(cell, list | tuple) and cell != cell)


@settings(
    max_examples=N_TABLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(
    frame=frames(),
    container=st.sampled_from(["pandas", "polars", "pyarrow", "array"]),
    as_floats=st.booleans(),
    method=st.sampled_from(["transform", "sample", "predict_interval"]),
)
def test_every_table_is_completed_or_refused_in_our_words(
    frame: pd.DataFrame, container: str, as_floats: bool, method: str
) -> None:
    table = given_as(frame, container)
    before = copy.deepcopy(table)
    own = type(table).__module__.partition(".")[0]
    output = own if own in ("pandas", "polars") and not as_floats else "default"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        imputer = tiny_imputer().set_output(transform=output)
        try:
            completed = getattr(imputer.fit(table), method)(table)
        except OURS as error:
            _assert_raised_on_purpose(error)
            return
    if method != "transform":
        completed = completed[0]
    old, new, given = cells_of(table), cells_of(completed), cells_of(before)
    kept = [j for j, cells in enumerate(old) if not all(map(is_null, cells))]
    assert len(new) == len(kept)
    same_container = type(completed) is type(table)
    for cells, j in zip(new, kept, strict=True):
        for cell, was, untouched in zip(cells, old[j], given[j], strict=True):
            assert not is_null(cell)
            if is_null(was):
                continue
            assert cell == was == untouched
            assert type(cell) is type(was) or not same_container
    if same_container:
        assert types_of(completed) == [types_of(table)[j] for j in kept]


def _assert_raised_on_purpose(error: BaseException) -> None:
    """The innermost frame is a ``raise`` of this package or of scikit-learn's validation."""
    trace = error.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    file = trace.tb_frame.f_code.co_filename
    own = os.path.dirname(sklearn_qavi.__file__)
    assert file.startswith(own) or "sklearn/utils" in file, f"{type(error).__name__}: {error}"
    assert len(str(error)) > 20
