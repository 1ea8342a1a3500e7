"""Training once for the same data and parameters, whoever asks."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from _factories import iris, tiny_imputer, tiny_table_model, with_missing
from sklearn_qavi import QAVIImputer
from sklearn_qavi.inference import Mixture

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
GRID = {"beta": [0.5, 1.0], "posterior": ["gaussian", Mixture(n_components=2)]}


def _imputer(memory: Path | None = None, **params) -> QAVIImputer:
    model = tiny_table_model(memory=None if memory is None else str(memory))
    return tiny_imputer(generative_model=model, **params)


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    return with_missing(iris()[::2], 0.1)


def _entries(memory: Path) -> list[Path]:
    return sorted(memory.rglob("output.pkl"))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_grid_over_inference_trains_once_a_fold(table, tmp_path, n_jobs) -> None:
    searches = [
        GridSearchCV(_imputer(memory), GRID, cv=2, refit=False, n_jobs=n_jobs)
        for memory in (tmp_path, None)
    ]
    cached, trained = (search.fit(table).cv_results_ for search in searches)
    assert len(_entries(tmp_path)) == 2  # of 8 fits
    np.testing.assert_array_equal(cached["mean_test_score"], trained["mean_test_score"])


def test_other_data_and_other_training_parameters_are_trained_anew(table, tmp_path) -> None:
    for data, params in (
        (table, {}),
        (table, {"beta": 2.0, "verbose": 1, "posterior": "flow"}),  # the same training
        (table[:-1], {}),
        (table, {"random_state": 1}),
        (table, {"generative_model__latent_dim": 3}),
    ):
        _imputer(tmp_path).set_params(**params).fit(data)
    assert len(_entries(tmp_path)) == 4


@pytest.mark.filterwarnings("ignore:.*while loading results")  # joblib says so
def test_a_damaged_entry_is_trained_again(table, tmp_path) -> None:
    first = _imputer(tmp_path).fit(table)
    (entry,) = _entries(tmp_path)
    entry.write_bytes(entry.read_bytes()[:100])
    again = _imputer(tmp_path).fit(table)
    np.testing.assert_array_equal(again.transform(table), first.transform(table))
    assert entry.stat().st_size > 100


def test_an_entry_that_is_no_model_of_this_table_is_replaced(table, tmp_path) -> None:
    first = _imputer(tmp_path).fit(table)
    (entry,) = _entries(tmp_path)
    other = tiny_table_model(random_state=0)
    for foreign in ({"no": "model"}, other, other.fit(table[:, :3])):
        entry.write_bytes(pickle.dumps(foreign))
        with pytest.warns(UserWarning, match="holds something else than the trained TabularVAE"):
            again = _imputer(tmp_path).fit(table)
        np.testing.assert_array_equal(again.transform(table), first.transform(table))
        _imputer(tmp_path).fit(table)  # a warning would be an error


def test_the_cache_does_not_change_what_is_fitted(table, tmp_path) -> None:
    plain = _imputer().fit(table).transform(table)
    for _ in range(2):
        cached = _imputer(tmp_path).fit(table)
        np.testing.assert_array_equal(cached.transform(table), plain)
