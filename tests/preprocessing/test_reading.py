"""What columns hold, read from what the user says, from types and from values."""

import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sklearn_qavi.preprocessing import COLUMNS, Column
from sklearn_qavi.preprocessing._reading import DECLARABLE, class_declared, read_column


def read(values: Any, declared: Any = None) -> Column:
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
def test_types_and_values_say_what_a_column_is(values: Any, kind: str) -> None:
    assert type(read(values)) is COLUMNS[kind]


@pytest.mark.parametrize(
    ("values", "declared", "kind"),
    [
        *(([1, 2], kind, kind) for kind in DECLARABLE),
        ([1, 2], (0, 3), "bounded"),
        ([1, 2], [2, 1], "ordinal"),
    ],
)
def test_what_the_user_says_comes_first(values: Any, declared: Any, kind: str) -> None:
    assert type(read(values, declared)) is COLUMNS[kind]
    assert class_declared(declared) is COLUMNS[kind]


def test_a_column_without_any_value_is_empty_whatever_the_user_says() -> None:
    assert type(read([None, None], "count")) is COLUMNS["empty"]
    assert type(read([None, None], (1, 0))) is COLUMNS["empty"]


def test_the_type_as_it_came_is_kept() -> None:
    dtype = pd.Int8Dtype()
    for cells in (pd.array([1, 2], dtype=dtype), pd.array([None, None], dtype=dtype)):
        missing = np.asarray(pd.isna(cells))
        assert read_column("c", pd.Series(cells), missing, dtype=dtype).dtype is dtype


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, "two", 3.0], "mixes values of the types .*'int', 'str'"),
        ([[1], [2]], "holds values of the type list"),
        ([datetime.time(3), datetime.time(4)], "holds values of the type time"),
        ([1.0, np.inf], "holds infinity"),
        ([10**400, 1], "too large for a float|is not one"),
        (pd.period_range("2020", periods=2, freq="M"), "has the type period"),
    ],
)
def test_what_cannot_be_imputed_says_why_and_what_to_do(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(values)
