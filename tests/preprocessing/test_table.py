"""Rows to train on, and the way into the model and back."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sklearn_qavi.exceptions import NumericTextWarning
from sklearn_qavi.preprocessing import Frame, TableEncoder, as_frame, rows_to_learn_from


def _observed(n_complete: int, n_incomplete: int, n_empty: int = 0) -> np.ndarray:
    complete = np.ones((n_complete, 3), dtype=bool)
    incomplete = np.tile([True, False, True], (n_incomplete, 1))
    return np.vstack([complete, incomplete, np.zeros((n_empty, 3), dtype=bool)])


def test_all_rows_with_an_observed_cell_are_trained_on() -> None:
    rows = rows_to_learn_from(_observed(150, 100, 4))
    assert rows[:250].all()
    assert not rows[250:].any()


def test_too_few_rows_name_the_number() -> None:
    with pytest.raises(ValueError, match="rows with an observed cell, got 4"):
        rows_to_learn_from(_observed(2, 2, 60))


def test_decode_keeps_observed_bits_and_bounds_the_rest() -> None:
    X = Frame.of_array(np.array([[1.5, np.nan], [np.nan, 1e-300]]))
    encoder = TableEncoder(min_value=-2.0, max_value=2.0).fit(X)
    table = encoder.encode(X)
    assert table.observed.tolist() == [[True, False], [False, True]]
    assert table.incomplete_rows.tolist() == [0, 1]
    imputed = encoder.from_model(np.array([[9.0, 9.0], [-9.0, 9.0]]), whole=True)
    completed = encoder.decode(X, imputed, table.missing)
    assert completed.tolist() == [[1.5, 2.0], [-2.0, 1e-300]]


def encoder_of(frame: Any, **options: Any) -> TableEncoder:
    table = as_frame(frame)
    assert table is not None
    return TableEncoder(**options).fit(table)


BOUNDED = pd.DataFrame({"x": [0.5, 1.0], "y": [1.0, -2.0], "e": [np.nan, np.nan], "c": ["u", "v"]})


@pytest.mark.filterwarnings("ignore:Skipping features:UserWarning")
@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        (0, [0, 0, -np.inf]),
        ([0, np.nan, 1, 2], [0, -np.inf, -np.inf]),
        ({"x": 0}, [0, -np.inf, -np.inf]),
        ({"y": -3, "e": 2}, [-np.inf, -3, -np.inf]),
        (BOUNDED.min(numeric_only=True), [0.5, -2, -np.inf]),
        (None, [-np.inf] * 3),
    ],
)
def test_bounds_of_dropped_columns_and_of_text_do_not_matter(bound: Any, expected: Any) -> None:
    assert encoder_of(BOUNDED, min_value=bound).lower_.tolist() == expected


@pytest.mark.filterwarnings("ignore:Skipping features:UserWarning")
def test_bounds_by_name_say_what_they_cannot_bound() -> None:
    for bound, message in [
        ({"c": 0}, "bounds numbers, but column 'c' is nominal"),
        ({"z": 0}, "names 'z'"),
        ({"x": "1"}, "must be a number"),
    ]:
        with pytest.raises(ValueError, match=message):
            encoder_of(BOUNDED, max_value=bound)


def test_dropped_columns_are_named() -> None:
    with pytest.warns(UserWarning, match=r"Skipping features without any observed values: \['e'\]"):
        encoder_of(BOUNDED)


def test_a_tuple_is_the_name_of_a_column() -> None:
    columns = pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")])
    frame = pd.DataFrame([[1.0, 2.0], [3.0, 4.0]], columns=columns)
    encoder = encoder_of(
        frame,
        column_types={("a", "x"): "positive"},
        min_value={("a", "y"): 0},
    )
    assert [schema.kind for schema in encoder.schema_] == ["positive", "real"]
    assert encoder.lower_.tolist() == [-np.inf, 0]
    nominal = encoder_of(frame, column_types={("a", "y"): "nominal"})
    assert [schema.kind for schema in nominal.schema_] == ["real", "nominal"]


class TestMarkers:
    @pytest.mark.parametrize("marker", [np.nan, None, pd.NA, -999, "?"])
    def test_nulls_are_missing_beside_any_marker(self, marker: Any) -> None:
        objects = pd.DataFrame({"o": pd.Series([1, None, np.nan, pd.NA, pd.NaT], dtype=object)})
        objects["t"] = pd.Series(["a", None, np.nan, pd.NA, pd.NaT], dtype=object)
        objects["n"] = pd.array([1, None, 2, 3, 4], dtype="Int64")
        encoder = encoder_of(objects, missing_values=marker)
        missing = encoder.missing(as_frame(objects))
        assert missing[:, 0].tolist() == missing[:, 1].tolist() == [False] + [True] * 4
        assert missing[:, 2].tolist() == [False, True, False, False, False]
        numbers = Frame.of_array(np.array([[np.nan, 1.0], [2.0, np.nan]]))
        if not isinstance(marker, str):
            both = TableEncoder(missing_values=marker).fit(numbers).missing(numbers)
            assert both.tolist() == [[True, False], [False, True]]

    def test_markers_mark_cells_of_their_own_kind(self) -> None:
        frame = pd.DataFrame({"k": [1, 0, 2], "b": [True, False, True], "t": ["0", "1", "x"]})
        assert encoder_of(frame, missing_values=0).missing(as_frame(frame)).sum() == 1
        assert encoder_of(frame, missing_values="0").missing(as_frame(frame)).sum() == 1

    @pytest.mark.parametrize(
        ("frame", "marker"),
        [
            (pd.DataFrame({"x": [1.0, 2.0]}), "?"),
            (pd.DataFrame({"t": pd.to_datetime(["2020-01-01", "2020-01-02"])}), -1),
        ],
    )
    def test_a_marker_that_no_column_can_hold_is_refused(self, frame: Any, marker: Any) -> None:
        with pytest.raises(ValueError, match="types are expected to be both numerical"):
            encoder_of(frame, missing_values=marker)


class TestTextOfNumbers:
    def test_it_is_text_and_says_so(self) -> None:
        frame = pd.DataFrame({"age": ["31", "7", "", " ", None], "x": range(5)})
        with pytest.warns(NumericTextWarning, match=r"\['age'\].*'' in 'age'.*missing_values=''"):
            assert encoder_of(frame).schema_[0].kind == "nominal"

    @pytest.mark.parametrize("values", [["06783", "12"], ["a", "1"], ["", " "], [1, 2]])
    def test_codes_and_other_text_are_text_without_a_word(self, values: Any) -> None:
        encoder_of(pd.DataFrame({"c": pd.Series(values, dtype=object)}))

    def test_if_declared_its_cells_come_back_and_imputed_ones_are_written_alike(self) -> None:
        frame = pd.DataFrame({"p": ["1.50", None, "12.25"], "k": ["07", "3", None]})
        table = as_frame(frame)
        encoder = TableEncoder(column_types={"p": "real", "k": "count"}).fit(table)
        encoded = encoder.encode(table)
        assert encoded.values[0].tolist() == [1.5, 7]
        out = encoder.decode(
            table,
            np.array([[0, 0], [3.14159, 0], [0, 41.0]]),
            encoded.missing,
            "pandas",
            names=["p", "k"],
        )
        assert out.to_numpy().tolist() == [["1.50", "07"], ["3.14", "3"], ["12.25", "41"]]

    def test_blanks_among_declared_numbers_are_named(self) -> None:
        frame = pd.DataFrame({"age": ["31", "", "7"]})
        with pytest.raises(ValueError, match=r"'age'.*blank text \(''\).*missing_values=''"):
            encoder_of(frame, column_types={"age": "count"})
