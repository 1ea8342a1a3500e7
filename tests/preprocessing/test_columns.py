"""What all columns promise, whatever they hold."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from sklearn_qavi.preprocessing import COLUMNS, Column
from sklearn_qavi.preprocessing._columns import Given

HELD: dict[str, tuple[Any, Given]] = {
    "real": ([0.5, -2.0, 3.25], None),
    "positive": ([0.5, 2.0, 900.0], None),
    "bounded": ([0.0, 0.25, 1.0], (0, 1)),
    "integer": ([-3, 0, 5], None),
    "count": ([0, 2, 7], None),
    "binary": ([True, False, True], None),
    "nominal": (["b", "a", "b"], None),
    "ordinal": (["lots", "few", "lots"], ["few", "some", "lots"]),
    "date": (pd.to_datetime(["2020-01-01 10:00", "2021-06-30 00:00", "2020-03-01 00:00"]), None),
    "duration": (pd.to_timedelta([90, -30, 0], unit="m"), None),
    "empty": ([], None),
}


def column_of(kind: str, name: Hashable = "c") -> tuple[Column, pd.Series]:
    values, given = HELD[kind]
    cells = pd.Series(values, dtype=None if len(values) else float)
    return COLUMNS[kind].learn(name, cells, given), cells


@pytest.mark.parametrize("kind", COLUMNS)
def test_values_come_back(kind: str) -> None:
    column, cells = column_of(kind)
    numbers, unknown = column.encode(cells, np.zeros(len(cells), dtype=bool))
    assert not unknown.any()
    own = column.from_model(numbers)
    if column.is_number:
        np.testing.assert_allclose(own, cells, rtol=1e-12, atol=1e-12)
    else:
        assert column.decode(own).tolist() == cells.to_numpy().tolist()
        assert column.as_objects(own, cells).tolist() == cells.tolist()


@pytest.mark.parametrize("kind", COLUMNS)
def test_missing_cells_are_left_out(kind: str) -> None:
    column, cells = column_of(kind)
    numbers, unknown = column.encode(cells.astype(object), np.ones(len(cells), dtype=bool))
    assert np.isnan(numbers).all()
    assert not unknown.any()


@pytest.mark.parametrize("kind", COLUMNS)
def test_what_was_seen(kind: str) -> None:
    column, cells = column_of(kind)
    numbers, _ = column.encode(cells, np.zeros(len(cells), dtype=bool))
    assert column.was_seen(numbers).all()
    assert not column.was_seen(np.array([np.nan])).any()
    if hasattr(column, "seen") and not column.is_empty:
        assert not column.was_seen(numbers + 2 * np.ptp(numbers))[1:].all()


@pytest.mark.parametrize("kind", COLUMNS)
def test_every_library_finds_a_type_for_it(kind: str) -> None:
    column, _ = column_of(kind)
    expected = {
        "binary": (pa.bool_(), pl.Boolean()),
        "nominal": (pa.string(), pl.String()),
        "ordinal": (pa.string(), pl.String()),
        "date": (pa.timestamp("us"), pl.Datetime("us")),
        "duration": (pa.duration("us"), pl.Duration("us")),
    }
    found = pa.array(column.examples()).type, pl.Series(column.examples()).dtype
    assert found == expected.get(kind, (pa.float64(), pl.Float64()))


@pytest.mark.parametrize("kind", COLUMNS)
def test_arrays_that_have_room_for_it(kind: str) -> None:
    column, _ = column_of(kind)
    types = ("f8", "i4", "O", "U3", "M8[s]", "m8[s]")
    expected = {
        "nominal": ["O", "U3"],
        "ordinal": ["O", "U3"],
        "date": ["O", "U3", "M8[s]", "m8[s]"],
        "duration": ["O", "U3", "M8[s]", "m8[s]"],
    }
    room = [name for name in types if column.fits(np.dtype(name))]
    assert room == expected.get(kind, ["f8", "i4", "O", "U3"])


@pytest.mark.parametrize("kind", [k for k in COLUMNS if k not in ("date", "duration")])
def test_columns_without_times_refuse_to_give_them(kind: str) -> None:
    column, _ = column_of(kind)
    with pytest.raises(ValueError, match=f"'c' is {kind}, but came as times"):
        column.as_times(np.zeros(1), "s")


@pytest.mark.parametrize("kind", COLUMNS)
def test_names_may_be_any_key(kind: str) -> None:
    assert column_of(kind, ("a", 1))[0].name == ("a", 1)


def test_kinds_differ_in_what_they_say_of_themselves() -> None:
    columns = {kind: column_of(kind)[0] for kind in COLUMNS}

    def those(attribute: str, answer: bool = True) -> str:
        return " ".join(k for k, c in columns.items() if getattr(c, attribute) is answer)

    assert those("is_declarable") == "real positive integer count nominal ordinal"
    assert those("is_number") == "real positive bounded integer count empty"
    assert those("is_whole") == "integer count date duration"
    assert those("is_unordered") == "binary nominal"
    assert those("is_empty") == "empty"
    assert those("is_linear", False) == "positive bounded"
    assert those("gives_numbers", False) == "nominal ordinal date duration"
    assert [k for k, c in columns.items() if c.n_categories] == ["binary", "nominal", "ordinal"]
