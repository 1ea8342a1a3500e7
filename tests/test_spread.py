"""Draws spread around the mean of their cell: what is learned, what moves, and densities."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from _factories import iris, quick_imputer, quick_table_model, with_missing
from sklearn_qavi import QAVIImputer
from sklearn_qavi._spread import Spread
from sklearn_qavi.generative import TabularVAE

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NO_ATOMS = np.array([], dtype=np.float32)


def test_atoms_stay_and_others_move_away_from_the_mean() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(30, 5, 2)).astype(np.float32).astype(float)
    draws[::3, :, 0] = np.float32(0.1)
    center = rng.normal(size=(5, 2))
    spread = Spread(np.array([1.5, 1.0]), [np.array([-3.0, 0.1], dtype=np.float32), NO_ATOMS])
    moved = spread.spread(draws, center)
    np.testing.assert_array_equal(moved[..., 1], draws[..., 1])
    np.testing.assert_array_equal(moved[::3, :, 0], draws[::3, :, 0])
    expected = center[:, 0] + 1.5 * (draws[1::3, :, 0] - center[:, 0])
    np.testing.assert_allclose(moved[1::3, :, 0], expected)
    back, log_factor = spread.gathered(moved[1], center)
    np.testing.assert_allclose(back, draws[1], rtol=1e-12)
    np.testing.assert_allclose(log_factor, np.log([[1.5, 1.0]] * 5))
    back, log_factor = spread.gathered(moved[0], center)
    np.testing.assert_allclose(back, draws[0], rtol=1e-12)
    assert (log_factor == 0.0).all()


@pytest.fixture(scope="module")
def imputer(train_once: Callable[..., Any]) -> QAVIImputer:
    model = quick_table_model(likelihood="gaussian")
    return train_once("spread", quick_imputer(generative_model=model), with_missing(iris()))


@pytest.fixture
def spread_out(imputer: QAVIImputer) -> QAVIImputer:
    imputer.generative_model_.spread_ = np.array([1.5, 1.0, 0.7, 1.0])
    yield imputer
    imputer.generative_model_.spread_ = np.ones(4)


def test_draws_are_spread_around_the_mean_and_nothing_else_changes(imputer: QAVIImputer) -> None:
    model, X = imputer.generative_model_, with_missing(iris())[::3]
    answers = {}
    for name, factor in (("before", np.ones(4)), ("after", np.array([1.5, 1.0, 0.7, 1.0]))):
        model.spread_ = factor
        answers[name] = (imputer.transform(X), imputer.sample(X, n=100))
    (mean, before), (mean_after, after) = answers["before"], answers["after"]
    np.testing.assert_array_equal(mean, mean_after)
    observed = ~np.isnan(X)
    np.testing.assert_array_equal(after[:, observed], before[:, observed])
    for j, factor in enumerate(model.spread_):
        gaps = ~observed[:, j]
        ratio = after[:, gaps, j].std(axis=0) / before[:, gaps, j].std(axis=0)
        np.testing.assert_allclose(ratio, factor, rtol=1e-6)
        shift = np.abs(after[:, gaps, j].mean(axis=0) - before[:, gaps, j].mean(axis=0))
        # what is spread around is a mean over other codes than those of the draws
        error = 4.0 * before[:, gaps, j].std(axis=0) * (100**-0.5 + 16**-0.5)
        assert (shift <= abs(factor - 1.0) * error + 1e-9).all()
    low, high = imputer.predict_interval(X, level=0.9)
    model.spread_ = np.ones(4)
    low_before, high_before = imputer.predict_interval(X, level=0.9)
    ratio = (high - low)[~observed] / (high_before - low_before)[~observed]
    factors = np.broadcast_to([1.5, 1.0, 0.7, 1.0], X.shape)[~observed]
    np.testing.assert_allclose(ratio, factors, rtol=1e-6)


def test_densities_are_those_of_the_draws(spread_out: QAVIImputer) -> None:
    X = with_missing(iris())[:4]
    X[:, 0] = np.nan
    inference, rows = spread_out._inference(), spread_out._encode(X)
    pooled = inference.posteriors(rows)
    grid = np.linspace(-6.0, 6.0, 301)
    values = (torch.full_like(rows.x, float(value)) for value in grid)
    density = np.exp([pooled.log_predictive(x, n_codes=64)[:, 0] for x in values])
    step = grid[1] - grid[0]
    np.testing.assert_allclose(density.sum(axis=0) * step, 1.0, atol=1e-3)
    draws = pooled.shared_draws(2000)[..., 0]
    for level in (0.1, 0.5, 0.9):
        below = (density * (grid[:, None] < np.quantile(draws, level, axis=0))).sum(axis=0) * step
        # twice the error of a quantile of 2,000 draws, and of the sum
        np.testing.assert_allclose(below, level, atol=2 * norm.pdf(0) / 2000**0.5 + 0.02)


def test_resampled_draws_and_methods_to_compare_with_are_the_decoders(
    spread_out: QAVIImputer,
) -> None:
    assert spread_out._inference().pool.spread is not None
    spread_out.set_params(importance_resampling=True)
    assert spread_out._inference().pool.spread is None
    spread_out.set_params(importance_resampling=False, posterior="fill_zeros", max_iter=None)
    assert spread_out._inference().pool.spread is None
    spread_out.set_params(posterior="auto", max_iter=60)


def test_it_is_saved(spread_out: QAVIImputer, tmp_path: Path) -> None:
    spread_out.generative_model_.save(tmp_path / "model")
    loaded = TabularVAE.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.spread_, spread_out.generative_model_.spread_)


def test_it_can_be_switched_off_and_needs_rows_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sklearn_qavi.generative._table_training.learn_factors", lambda *args: np.full(4, 1.5)
    )
    options = {"likelihood": "gaussian", "random_state": 0, "max_steps": 2}
    assert (quick_table_model(**options).fit(iris()).spread_ == 1.5).all()
    without = quick_table_model(calibrate=False, **options)
    few = quick_table_model(**options)
    without.fit(iris()), few.fit(iris()[::8])
    for model in (without, few):
        assert (model.spread_ == 1.0).all()
        assert model.spread is None
