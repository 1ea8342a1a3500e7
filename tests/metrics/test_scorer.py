"""The scorer of searches: what it hides, what it returns, what it refuses."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.model_selection import GridSearchCV

from sklearn_qavi.metrics import make_imputation_scorer


def test_scorer_hides_known_cells_and_returns_minus_the_error():
    X = np.random.default_rng(0).normal(size=(400, 3)) * [1.0, 10.0, 100.0] + 5.0
    X[::7, 1] = np.nan
    scorer = make_imputation_scorer("rmse", rate=0.2)
    imputer = SimpleImputer().fit(X)
    # filling in the mean is off by one standard deviation, whatever the units
    assert scorer(imputer, X) == pytest.approx(-1.0, abs=0.06)
    assert scorer(imputer, pd.DataFrame(X)) == scorer(imputer, X)
    assert pickle.loads(pickle.dumps(scorer))(imputer, X) == scorer(imputer, X)
    other = make_imputation_scorer("rmse", rate=0.2, random_state=1)
    assert other(imputer, X) != scorer(imputer, X)
    assert make_imputation_scorer("mae")(imputer, X) > scorer(imputer, X)


def test_scorer_keeps_a_cell_of_every_row():
    seen = []

    class Recorder:
        def transform(self, X):
            seen.append(np.isfinite(X).sum(axis=1))
            return np.nan_to_num(X)

    X = np.random.default_rng(0).normal(size=(200, 2))
    X[0, 0] = np.nan
    make_imputation_scorer("rmse", rate=0.9)(Recorder(), X)
    assert seen[0].min() == 1


def test_scorer_of_draws_prefers_honest_spread():
    class Sampler:
        def __init__(self, spread):
            self.spread = spread

        def sample(self, X, n):
            noise = np.random.default_rng(0).normal(size=(n, *X.shape)) * self.spread
            return np.where(np.isnan(X), noise, X)

    X = np.random.default_rng(1).normal(size=(500, 3))
    for metric in ("crps", "energy"):
        scorer = make_imputation_scorer(metric)
        assert scorer(Sampler(1.0), X) > scorer(Sampler(0.2), X)
        assert scorer(Sampler(1.0), X) > scorer(Sampler(3.0), X)


def test_scorer_searches_a_grid():
    X = load_diabetes().data
    grid = {"n_neighbors": [1, 10]}
    search = GridSearchCV(KNNImputer(), grid, scoring=make_imputation_scorer("rmse"), cv=3).fit(X)
    assert search.best_params_ == {"n_neighbors": 10}
    assert (search.cv_results_["mean_test_score"] < 0).all()


def test_scorer_errors():
    X = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(ValueError, match="metric must be one of"):
        make_imputation_scorer("r2")
    with pytest.raises(ValueError, match="between 0 and 1"):
        make_imputation_scorer(rate=30)
    with pytest.raises(TypeError, match="has no sample"):
        make_imputation_scorer("crps")(SimpleImputer().fit(X), X)
    with pytest.raises(ValueError, match="No cell could be hidden"):
        make_imputation_scorer("rmse")(SimpleImputer().fit(X), np.where([True, False], X, np.nan))
