"""Shifts of imputed numbers: what moves, what stays, what is refused."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sklearn_qavi.pooling import shift_imputed

X = np.array([[1.0, 5.0], [np.nan, 6.0], [3.0, np.nan]])
COMPLETED = np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 7.5]])


def test_imputed_numbers_alone_are_shifted_in_all_draws() -> None:
    draws = np.stack([COMPLETED, COMPLETED + np.isnan(X)])
    before = draws.copy()
    shifted = shift_imputed(draws, X, {0: 10.0, -1: -1.0})
    expected = draws + np.where(np.isnan(X), [10.0, -1.0], 0.0)
    np.testing.assert_array_equal(shifted, expected)
    np.testing.assert_array_equal(draws, before)
    np.testing.assert_array_equal(shift_imputed(COMPLETED, X, {}), COMPLETED)


def test_bounds_hold_for_what_is_shifted_alone() -> None:
    shifted = shift_imputed(COMPLETED, X, {0: 10.0, 1: -9.0}, min_value={1: 0.0}, max_value=4.0)
    assert shifted.tolist() == [[1.0, 5.0], [4.0, 6.0], [3.0, 0.0]]


def test_bounds_are_found_by_name_and_by_position() -> None:
    frame = pd.DataFrame(X, columns=["a", "b"])
    for delta, low in (({0: -9.0}, {"a": 1.5}), ({"a": -9.0}, {0: 1.5}), ({0: -9.0}, {-2: 1.5})):
        assert shift_imputed(COMPLETED, frame, delta, min_value=low)[1, 0] == 1.5
    with pytest.raises(ValueError, match="max_value names 'z', which is no column"):
        shift_imputed(COMPLETED, frame, {0: 1.0}, max_value={"z": 1.0})


@pytest.mark.parametrize("kind", ["array", "pandas", "nullable", "polars"])
def test_whole_numbers_stay_in_the_range_of_their_type(kind: str) -> None:
    incomplete = pd.DataFrame({"n": [None, 5]})
    table: Any = pd.DataFrame({"n": np.array([120, 5], dtype=np.int8)})
    if kind == "array":
        table = table.to_numpy()
    elif kind == "nullable":
        table = table.astype("Int8")
    elif kind == "polars":
        table = pytest.importorskip("polars").from_pandas(table)
    shifted = shift_imputed(table, incomplete, {"n": 100.0})
    assert np.asarray(shifted).ravel().tolist() == [127, 5]


@pytest.mark.parametrize("kind", ["pandas", "polars", "nullable"])
def test_dataframes_keep_types_and_whole_numbers(kind: str) -> None:
    incomplete: Any = pd.DataFrame(
        {"n": [1, None, 2**53 + 1], "t": ["a", "b", None], "x": [None, 1, 2]}
    )
    incomplete = incomplete.astype({"n": "Int64", "x": "Float64"})
    table: Any = pd.DataFrame({"n": [1, 5, 2**53 + 1], "t": ["a", "b", "b"], "x": [0.5, 1.0, 2.0]})
    if kind == "nullable":
        table = table.astype({"n": "Int64", "x": "Float64"})
    elif kind == "polars":
        pl = pytest.importorskip("polars")
        incomplete, table = pl.from_pandas(incomplete), pl.from_pandas(table)
    shifted = shift_imputed(table, incomplete, {"n": 1.4, "x": 0.25}, max_value={"n": 100})
    assert type(shifted) is type(table)
    assert list(shifted.dtypes) == list(table.dtypes)
    assert list(shifted["n"]) == [1, 6, 2**53 + 1]
    assert list(shifted["x"]) == [0.75, 1.0, 2.0]
    assert list(shifted["t"]) == ["a", "b", "b"]
    assert list(table["n"]) == [1, 5, 2**53 + 1]


def test_markers_of_missing_values() -> None:
    marked = np.array([[1, -999], [2, 4]])
    shifted = shift_imputed(np.array([[1, 3], [2, 4]]), marked, {1: 2.0}, missing_values=-999)
    assert shifted.tolist() == [[1, 5], [2, 4]]
    assert shifted.dtype == np.array([1]).dtype


def test_names_of_columns_of_a_table_that_became_an_array() -> None:
    frame = pd.DataFrame(X, columns=["a", "b"])
    np.testing.assert_array_equal(
        shift_imputed(COMPLETED, frame, {"b": 1.0}), shift_imputed(COMPLETED, X, {1: 1.0})
    )


@pytest.mark.parametrize(
    ("delta", "message"),
    [
        ({"t": 1.0}, "delta shifts numbers, but column 't' holds"),
        ({"n": "1"}, r"delta\['n'\] must be a finite number, got '1'"),
        ({"n": np.inf}, "finite number"),
        ({"z": 1.0}, "delta names 'z', which is no column"),
    ],
)
def test_what_cannot_be_shifted_is_named(delta: Any, message: str) -> None:
    table = pd.DataFrame({"n": [1.0, 2.0], "t": ["a", "b"]})
    with pytest.raises(ValueError, match=message):
        shift_imputed(table, table.mask(table == 2.0), delta)


def test_tables_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"X has shape \(3, 2\), but the completed table has"):
        shift_imputed(COMPLETED[:, :1], X, {0: 1.0})
