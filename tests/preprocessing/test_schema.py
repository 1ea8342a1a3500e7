"""What columns hold, read from values and types, and that every value finds its way back."""

import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sklearn_qavi.preprocessing import ColumnSchema
from sklearn_qavi.preprocessing._schema import read_column


def _read(values: Any, declared: Any = None) -> ColumnSchema:
    series = values if isinstance(values, pd.Series | np.ndarray) else pd.Series(values)
    missing = np.asarray(pd.isna(series))
    return read_column("c", series, missing, declared)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0.5, 1.0, None], "real"),
        ([1.0, 4.0] * 5 + [None], "count"),
        ([-1.0, 4.0] * 5 + [None], "integer"),
        ([1.0, 4.0, None], "real"),  # two floats may be whole by chance
        ([1, 4] * 5, "count"),
        ([1, 4], "integer"),  # two may be positive by chance
        (pd.array([1, None, 3] * 5, dtype="Int64"), "count"),
        (np.array([0.0, 2.0] * 5 + [np.nan]), "count"),
        ([True, False], "binary"),
        ([True, None, False], "binary"),
        (pd.array([True, None], dtype="boolean"), "binary"),
        (["a", "b", None], "nominal"),
        (pd.array(["a", None], dtype="string"), "nominal"),
        (["1", "2.5", None], "nominal"),  # text stays text
        (pd.Categorical(["a", "b"]), "nominal"),
        (pd.Categorical([3, 1], ordered=True), "ordinal"),
        (pd.to_datetime(["2020-01-01", None]), "date"),
        ([datetime.date(2020, 1, 1), None], "date"),
        (pd.to_timedelta([1, 2], unit="h"), "duration"),
        ([None, None], "empty"),
    ],
)
def test_kinds(values: Any, kind: str) -> None:
    assert _read(values).kind == kind


def test_levels_are_in_the_order_of_the_category_or_sorted() -> None:
    assert _read(pd.Categorical(["b", "a", "b"], categories=["z", "b", "a"])).levels == ("b", "a")
    assert _read(["y", "x", "y"]).levels == ("x", "y")
    assert _read(["lots", "few"], ["few", "some", "lots"]).levels == ("few", "some", "lots")


def test_of_many_levels_the_frequent_ones_come_first() -> None:
    values = [f"v{i}" for i in range(60)] + ["v7"] * 3 + ["v41"] * 2
    assert _read(values).levels[:2] == ("v7", "v41")


@pytest.mark.parametrize(
    ("values", "declared", "message"),
    [
        ([1.0, -2.0], "positive", "'c' was declared to be greater than 0, but holds .*-2.0"),
        ([0.5, 1.5], (0, 1), "between 0 and 1, but holds .*1.5"),
        ([0.5, 0.7], (1, 0), "finite and in order"),
        ([0.5, 0.7], (0, "x"), "must be two numbers"),
        ([1.0, -2.0], "count", "Declare it 'integer'"),
        (["a", "q"], ["a", "b"], "holds 'q'"),
        (["a", "a"], ["a", "a"], "repeat"),
        ([1, "two", 3.0], None, "mixes values of the types .*'int', 'str'"),
        ([[1], [2]], "nominal", "holds lists, dicts"),
        ([[1], [2]], None, "holds values of the type list"),
        ([datetime.time(3), datetime.time(4)], None, "holds values of the type time"),
        (["1", "", "2"], "real", "blank text .*missing_values=''"),
        ([1.0, np.inf], None, "holds infinity"),
        ([10**400, 1], None, "too large for a float|is not one"),
        (pd.period_range("2020", periods=2, freq="M"), None, "has the type period"),
        (["x", "y"], "real", "holds numbers, but 'x'"),
        (["low", "high"], "ordinal", r"'c' holds text.*column_types=\{'c': \['high', 'low'\]\}"),
    ],
)
def test_what_cannot_be_imputed_says_why_and_what_to_do(
    values: Any, declared: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _read(values, declared)


@pytest.mark.parametrize(
    ("values", "declared"),
    [
        (np.array([0.5, 2.0, 900.0]), "positive"),
        (np.array([0.0, 0.3, 1.0]), (0.0, 1.0)),
        (np.array([-3.0, 7.0, 40.0]), None),
        (np.array([2.25, -1e-9, 40.0]), None),
    ],
)
def test_numbers_come_back(values: np.ndarray, declared: Any) -> None:
    schema = _read(values, declared)
    numbers, unknown = schema.encode(values, np.zeros(3, dtype=bool))
    assert not unknown.any()
    np.testing.assert_allclose(schema.from_model(numbers), values, rtol=1e-12, atol=1e-12)


def test_draws_stay_inside_of_what_was_declared() -> None:
    wild = np.array([-1e6, -30.0, 0.0, 30.0, 1e6])
    positive = _read(np.array([0.5, 2.0, 8.0]), "positive").from_model(wild)
    assert (positive >= 0).all()
    assert (positive <= 8.0 * 16 + 1e-6).all()
    bounded = _read(np.array([0.5, 2.0]), (0.0, 4.0)).from_model(wild)
    assert (bounded >= 0).all()
    assert (bounded <= 4.0).all()
    count = _read(np.array([0.0, 5.0]), "count").from_model(wild + 0.3)
    assert (count >= 0).all()
    assert (count == np.round(count)).all()
    means = _read(np.array([0.0, 5.0]), "count").from_model(np.array([2.3]), whole=False)
    assert means == 2.3


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        (pd.to_datetime(["2020-01-01", "2021-06-30"]), "D"),
        (pd.to_datetime(["2020-01-01 10:00", "2021-06-30 00:00"]), "h"),
        (pd.to_datetime(["2020-01-01 10:00:30", "2021-06-30 00:00:00"], utc=True), "s"),
        (pd.to_timedelta(["90s", "-3min"]), "s"),
        (pd.to_datetime(["0001-01-02", "9998-06-30"], format="ISO8601").as_unit("s"), "D"),
    ],
)
def test_times_are_counted_in_their_coarsest_unit_and_come_back(times: Any, unit: str) -> None:
    series = pd.Series(times)
    schema = _read(series)
    assert schema.unit == unit
    counts, _ = schema.encode(series, np.zeros(2, dtype=bool))
    back = pd.Series(schema.decode(schema.from_model(counts)))
    lowest, highest = schema.limits
    reach = counts.max() - counts.min()
    assert reach <= highest - lowest <= 1.2 * reach  # a tenth of the range beyond either end
    if getattr(series.dtype, "tz", None) is not None:
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    assert (back == series).all()


def test_unknown_levels_are_found() -> None:
    schema = _read(["a", "b"])
    codes, unknown = schema.encode(pd.Series(["b", "z", None]), np.array([False, False, True]))
    assert codes[0] == 1
    assert unknown.tolist() == [False, True, False]
