"""Types of cells, their numbers, and what floats hold of them."""

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sklearn_qavi.preprocessing._cells import (
    cell_type_of,
    decimals_of,
    floats_hold,
    holds_numeric_text,
    numbers_of,
    object_array,
    some,
    whole_within,
)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([1, np.int8(2)], "int"),
        ([1, 2.5], "float"),
        ([True, 2.5], "float"),
        ([True], ""),
        ([], ""),
        ([Decimal(1)], "Decimal"),
        (["a"], "str"),
        ([b"a"], "bytes"),
        ([np.timedelta64(1, "s")], "timedelta64"),
        ([datetime.date(2020, 1, 1)], "date"),
        ([pd.Timestamp(0)], "Timestamp"),
    ],
)
def test_types_of_cells(cells: list[Any], expected: str) -> None:
    assert cell_type_of(cells) == expected


def test_decimals() -> None:
    assert decimals_of(["1.50 ", "2", Decimal("0.125"), 0.123456]) == 3
    assert decimals_of(["1.25e-20", "0.5"]) == 1
    assert decimals_of(["1." + "0" * 20]) == 15
    assert decimals_of([]) == 0


@pytest.mark.parametrize(
    ("cells", "held"),
    [
        (pd.Series([2**53]), True),
        (pd.Series([2**60 + 1]), False),
        (pd.Series([], dtype="int64"), True),
        (pd.Series([1.5], dtype="float32"), True),
        (pd.Series([1, 2.5], dtype=object), True),
        (pd.Series([2**60, 2.5], dtype=object), False),
        (pd.Series([Decimal(1)]), False),
    ],
)
def test_what_floats_hold(cells: Any, held: bool) -> None:
    assert floats_hold(cells) is held
    assert not floats_hold(cells, "Int128")


@pytest.mark.parametrize(
    ("cells", "blank"),
    [
        (["1", " 2.5", "-3"], []),
        (["1", "", " ", "1"], ["", " "]),
        (["0123", "1"], None),
        (["1", "x"], None),
        ([""], None),
        (["1", 2], None),
        ([1, 2], None),
    ],
)
def test_text_of_numbers(cells: list[Any], blank: list[str] | None) -> None:
    series = pd.Series(cells, dtype=object)
    assert holds_numeric_text(series, np.zeros(len(cells), dtype=bool)) == blank


@pytest.mark.parametrize("dtype", ["array", "int64", "Int64", "int64[pyarrow]", object])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_whole_number_that_floats_hold(dtype: Any, sign: int) -> None:
    for number, held in ((2**53, True), (2**53 + 1, False), (2**53 + 2, False)):
        cells = [0, sign * number]
        of_type = np.array(cells) if dtype == "array" else pd.Series(cells, dtype=dtype)
        assert floats_hold(of_type) is held
    assert floats_hold(np.array([2**53], dtype=np.uint64))
    assert not floats_hold(np.array([2**53 + 1], dtype=np.uint64))


def test_numbers_of_text_and_decimals() -> None:
    cells = pd.Series(["1.5", Decimal("2.25"), 3], dtype=object)
    assert numbers_of("c", cells).tolist() == [1.5, 2.25, 3.0]
    with pytest.raises(ValueError, match=r"'c' holds infinity.*in 2 row\(s\)"):
        numbers_of("c", pd.Series(["inf", 10**400, 1], dtype=object))


def test_whole_numbers_of_a_range_are_exact() -> None:
    numbers = np.array([1e30, -1e30, 2.5, -0.6])
    assert whole_within(numbers, -9, 2**63 - 1).tolist() == [2**63 - 1, -9, 2, -1]


def test_arrays_of_objects_have_one_dimension() -> None:
    assert object_array([(1, 2), (3, 4)]).shape == (2,)


def test_some_values() -> None:
    assert some(np.array([1.0, 1.0, 2.0])) == "1.0, 2.0"
    assert some(list("abcdefg")) == "'a', 'b', 'c', 'd', 'e', ..."
