"""Columns of times: their unit, their limits, and times as they were written."""

import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sklearn_qavi.preprocessing._times import Date, Duration, Times

UTC = datetime.UTC


@pytest.mark.parametrize(
    ("column", "times", "unit"),
    [
        (Date, pd.to_datetime(["2020-01-01", "2021-06-30"]), "D"),
        (Date, pd.to_datetime(["2020-01-01 10:00", "2021-06-30 00:00"]), "h"),
        (Date, pd.to_datetime(["2020-01-01 10:00:30", "2021-06-30 00:00:00"], utc=True), "s"),
        (Date, pd.to_datetime(["0001-01-02", "9998-06-30"], format="ISO8601").as_unit("s"), "D"),
        (Duration, pd.to_timedelta(["90s", "-3min"]), "s"),
        (Duration, pd.to_timedelta(["90min", "-3min"]), "m"),
    ],
)
def test_times_are_counted_in_their_coarsest_unit_and_come_back(
    column: type[Times], times: Any, unit: str
) -> None:
    series = pd.Series(times)
    learned = column.learn("c", series)
    assert learned.unit == unit
    counts, _ = learned.encode(series, np.zeros(2, dtype=bool))
    back = pd.Series(learned.decode(learned.from_model(counts)))
    lowest, highest = learned.limits
    reach = counts.max() - counts.min()
    assert reach <= highest - lowest <= 1.2 * reach  # a tenth of the range beyond either end
    if getattr(series.dtype, "tz", None) is not None:
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    assert (back == series).all()


def test_times_are_whole_and_inside_of_limits_also_as_means() -> None:
    column = Duration.learn("c", pd.Series(pd.to_timedelta([0, 10], unit="h")))
    assert column.from_model(np.array([-99.0, 2.3, 99.0]), whole=False).tolist() == [-1, 2, 11]


def test_times_in_another_unit() -> None:
    column = Date.learn("c", pd.Series(pd.to_datetime(["1970-01-01", "1970-01-11"])))
    days = np.array([1.0, 3.4])
    expected = np.array(["1970-01-02", "1970-01-04"], dtype="M8[D]")
    for unit in ("D", "h", "ms", "ns"):
        times = column.as_times(days, unit)
        assert times.dtype == f"M8[{unit}]"
        np.testing.assert_array_equal(times, expected)
    assert column.as_times(np.array([1e9]), "ns") > np.datetime64("2262-01-01")  # and no overflow


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        (Date, [datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)]),
        (Date, [datetime.datetime(2020, 1, 1, 5), datetime.datetime(2021, 1, 1)]),
        (Date, [datetime.datetime(2020, 1, 1, 5, tzinfo=UTC)]),
        (Date, [pd.Timestamp("2020-01-01 03:00", tz="Asia/Tokyo")]),
        (Date, [np.datetime64("2020-01-01", "us")]),
        (Duration, [datetime.timedelta(minutes=3), datetime.timedelta(days=-2)]),
        (Duration, [pd.Timedelta("3h")]),
        (Duration, [np.timedelta64(5, "us")]),
    ],
)
def test_objects_are_those_that_the_column_shows_or_showed(
    column: type[Times], cells: list[Any]
) -> None:
    series = pd.Series(cells, dtype=object)
    learned = column.learn("c", series)
    numbers, _ = learned.encode(series, np.zeros(len(cells), dtype=bool))
    back = learned.as_objects(numbers, cells).tolist()
    assert back == cells
    assert [type(cell) for cell in back] == [type(cell) for cell in cells]
    later = learned.as_objects(numbers, [])  # shows nothing
    assert {type(cell) for cell in later} == {type(cell) for cell in cells}


def test_objects_stay_within_what_python_holds() -> None:
    column = Date.learn("c", pd.Series([datetime.date(1, 1, 1), datetime.date(9999, 12, 31)]))
    assert column.as_objects(np.array([-1e7, 1e7]), []).tolist() == [
        datetime.date(1, 1, 2),
        datetime.date(9999, 12, 30),
    ]


@pytest.mark.parametrize(("column", "value"), [(Date, "yesterday"), (Duration, "long")])
def test_what_is_no_time_is_named(column: type[Times], value: str) -> None:
    with pytest.raises(ValueError, match=f"'c' holds times, but '{value}' cannot be read as such"):
        column.learn("c", pd.Series([value]))
