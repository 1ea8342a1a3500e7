"""Rows to train on, and the way into the model and back."""

import warnings

import numpy as np
import pytest

from sklearn_qavi.exceptions import IncompleteTrainingDataWarning
from sklearn_qavi.preprocessing import TableEncoder, select_training_rows


def _observed(n_complete: int, n_incomplete: int, n_empty: int = 0) -> np.ndarray:
    complete = np.ones((n_complete, 3), dtype=bool)
    incomplete = np.tile([True, False, True], (n_incomplete, 1))
    return np.vstack([complete, incomplete, np.zeros((n_empty, 3), dtype=bool)])


def test_auto_takes_complete_rows_when_there_are_enough() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = select_training_rows(_observed(150, 100), "auto")
        assert rows.sum() == 150
        assert select_training_rows(_observed(20, 0), "auto").all()
        assert select_training_rows(_observed(3, 60, 5), "all").sum() == 63


@pytest.mark.parametrize(("n_complete", "n_incomplete"), [(60, 10), (150, 200), (0, 30)])
def test_auto_takes_all_rows_otherwise_and_says_so(n_complete: int, n_incomplete: int) -> None:
    observed = _observed(n_complete, n_incomplete, 4)
    message = f"{n_complete} of {len(observed)} rows are complete"
    with pytest.warns(IncompleteTrainingDataWarning, match=message):
        rows = select_training_rows(observed, "auto")
    assert rows.sum() == n_complete + n_incomplete  # not the empty ones


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
