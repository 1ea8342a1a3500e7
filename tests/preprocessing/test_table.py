"""Rows to train on, and the way into the model and back."""

import numpy as np
import pytest

from sklearn_qavi.preprocessing import TableEncoder, select_training_rows


def _observed(n_complete: int, n_incomplete: int, n_empty: int = 0) -> np.ndarray:
    complete = np.ones((n_complete, 3), dtype=bool)
    incomplete = np.tile([True, False, True], (n_incomplete, 1))
    return np.vstack([complete, incomplete, np.zeros((n_empty, 3), dtype=bool)])


@pytest.mark.parametrize("training_rows", ["auto", "all"])
def test_all_rows_with_an_observed_cell_are_trained_on(training_rows: str) -> None:
    rows = select_training_rows(_observed(150, 100, 4), training_rows)
    assert rows[:250].all()
    assert not rows[250:].any()


def test_complete_rows_are_trained_on_alone_when_asked_for() -> None:
    rows = select_training_rows(_observed(150, 100, 4), "complete")
    assert rows[:150].all()
    assert not rows[150:].any()


def test_too_few_rows_name_the_number_and_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"5 complete rows, got 3.*training_rows='all'"):
        select_training_rows(_observed(3, 60), "complete")
    with pytest.raises(ValueError, match="rows with an observed cell, got 4"):
        select_training_rows(_observed(2, 2, 60), "all")


def test_decode_keeps_observed_bits_and_bounds_the_rest() -> None:
    X = np.array([[1.5, np.nan, np.nan], [np.nan, 1e-300, np.nan]])
    encoder = TableEncoder(
        missing_values=np.nan, keep_empty_features=False, min_value=-2.0, max_value=2.0
    ).fit(X)
    table = encoder.encode(X)
    assert table.observed.tolist() == [[True, False], [False, True]]
    assert table.incomplete_rows.tolist() == [0, 1]
    imputed = encoder.from_model(np.array([[9.0, 9.0], [-9.0, 9.0]]), whole=True)
    completed = encoder.decode(X, imputed, table.observed)
    assert completed.tolist() == [[1.5, 2.0], [-2.0, 1e-300]]
