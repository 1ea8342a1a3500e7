"""Columns of numbers: scales, limits, and numbers as they were written."""

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sklearn_qavi.preprocessing._numbers import (
    Bounded,
    Count,
    Empty,
    Integer,
    Numbers,
    Positive,
    Real,
)

WILD = np.array([-1e6, -30.0, 0.0, 30.0, 1e6])


def test_real_numbers_are_the_models() -> None:
    column = Real.learn("c", np.array([2.25, -1e-9, 40.0]))
    assert column.seen == (-1e-9, 40.0)
    np.testing.assert_array_equal(column.to_model(WILD), WILD)
    np.testing.assert_array_equal(column.from_model(WILD), WILD)


def test_positive_numbers_are_logarithms_and_stay_within_reach() -> None:
    column = Positive.learn("c", np.array([0.5, 2.0, 8.0]))
    np.testing.assert_allclose(column.to_model(np.array([1.0, np.e])), [0.0, 1.0], atol=1e-12)
    drawn = column.from_model(WILD)
    assert (drawn >= 0).all()
    assert drawn.max() == column.limits[1] == pytest.approx(8.0 * 16)


def test_bounded_numbers_are_logits_and_stay_within_limits() -> None:
    column = Bounded.learn("c", np.array([0.5, 4.0]), (0, 4))
    assert column.to_model(np.array([2.0])) == pytest.approx(0.0)
    assert np.isfinite(column.to_model(np.array([0.0, 4.0]))).all()
    drawn = column.from_model(WILD)
    assert drawn.min() == 0.0
    assert drawn.max() == 4.0


@pytest.mark.parametrize("column", [Integer, Count])
def test_whole_numbers_are_rounded_unless_they_are_means(column: type[Numbers]) -> None:
    learned = column.learn("c", np.array([0.0, 5.0]))
    drawn = learned.from_model(WILD + 0.3)
    assert (drawn == np.round(drawn)).all()
    assert learned.from_model(np.array([2.3]), whole=False) == 2.3


def test_counts_stay_at_0_or_above_where_integers_do_not() -> None:
    numbers = np.array([0.0, 5.0])
    assert Count.learn("c", numbers).from_model(WILD).min() == 0.0
    assert Integer.learn("c", numbers).from_model(WILD).min() == -1e6


def test_of_an_empty_column_all_is_unknown() -> None:
    column = Empty.learn("c", np.empty(0))
    numbers, unknown = column.encode(np.array([1.0, 2.0]), np.array([True, False]))
    assert np.isnan(numbers).all()
    assert unknown.tolist() == [False, True]


@pytest.mark.parametrize(
    ("column", "values", "given", "message"),
    [
        (Positive, [1.0, -2.0], None, "'c' was declared to be greater than 0, but holds .*-2.0"),
        (Bounded, [0.5, 1.5], (0, 1), "between 0 and 1, but holds .*1.5"),
        (Bounded, [0.5, 0.7], (1, 0), "finite and in order"),
        (Bounded, [0.5, 0.7], (0, np.inf), "finite and in order"),
        (Bounded, [0.5, 0.7], (0, "x"), "must be two numbers"),
        (Bounded, [0.5, 0.7], (0, 1, 2), "must be two numbers"),
        (Bounded, ["x", "y"], (1, 0), "finite and in order"),  # the limits are looked at first
        (Count, [1.0, -2.0], None, "holds -2.0. Declare it 'integer'"),
        (Real, ["1", "", "2"], None, "blank text .*missing_values=''"),
        (Real, ["x", "y"], None, "holds numbers, but 'x'"),
    ],
)
def test_what_a_column_cannot_hold(
    column: type[Numbers], values: Any, given: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        column.learn("c", pd.Series(values), given)


def test_later_values_outside_of_the_range_are_refused() -> None:
    for column, value in [
        (Positive.learn("c", np.array([1.0, 2.0])), 0.0),
        (Bounded.learn("c", np.array([0.5]), (0, 1)), 1.5),
    ]:
        with pytest.raises(ValueError, match=f"holds {value}"):
            column.encode(np.array([value]), np.array([False]))


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1.50", "12.2"], ["3.14", "-1.00"]),
        ([b"1.5", b"2"], [b"3", b"-1"]),
        ([Decimal("1.125"), Decimal(2)], [Decimal("3.142"), Decimal("-1.000")]),
        ([1, 2], [3, -1]),
        ([1.5, 2], [3.14159, -1.0]),
    ],
)
def test_objects_are_written_as_those_of_fit(cells: list[Any], expected: list[Any]) -> None:
    column = Real.learn("c", pd.Series(cells, dtype=object))
    written = column.as_objects(np.array([3.14159, -1.0]), ["other"]).tolist()
    assert written == expected
    assert [type(cell) for cell in written] == [type(cell) for cell in expected]


def test_a_column_without_objects_in_fit_writes_those_that_it_shows() -> None:
    column = Real.learn("c", np.array([1.5, 2.5]))
    assert column.as_objects(np.array([3.7]), ["1"]).tolist() == ["4"]
    assert column.as_objects(np.array([3.7]), [1]).tolist() == [4]


def test_numbers_that_floats_do_not_hold_are_no_floats() -> None:
    assert Integer.learn("c", pd.Series([2**53, 1])).gives_numbers
    assert not Integer.learn("c", pd.Series([2**60 + 1, 1])).gives_numbers
    assert not Real.learn("c", pd.Series([1.5]), dtype="decimal128(9, 2)").gives_numbers
