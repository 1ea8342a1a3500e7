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
from sklearn_qavi._spread import Spread, learn_factors
from sklearn_qavi.generative import TabularVAE

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NO_ATOMS = np.array([], dtype=np.float32)


def _problem(spread: float, n_rows: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Return draws whose deviation is that of the truth times ``spread``, and the truth."""
    rng = np.random.default_rng(0)
    mean = 5.0 * rng.normal(size=(n_rows, 1))
    truth = mean + rng.normal(size=mean.shape)
    return mean + spread * rng.normal(size=(50, n_rows, 1)), truth


@pytest.mark.parametrize("spread", [0.7, 1.0, 1.4])
def test_the_factor_undoes_what_is_too_narrow_or_too_wide(spread: float) -> None:
    draws, truth = _problem(spread)
    (factor,) = learn_factors(draws, truth, np.ones(truth.shape), [NO_ATOMS])
    # seven tenths of the logarithm, within two steps of a grid of 1/12 of an octave
    assert np.log2(factor) == pytest.approx(-0.7 * np.log2(spread), abs=2 * 0.7 / 12)


def test_few_rows_of_a_column_count_less_than_all_columns() -> None:
    narrow, truth = _problem(0.6)
    wide, of_wide = _problem(1.4)
    draws, truth = np.concatenate([narrow, wide], axis=2), np.concatenate([truth, of_wide], axis=1)
    weight = np.ones(truth.shape)
    many = learn_factors(draws, truth, weight, [NO_ATOMS] * 2)
    assert many[0] > 1.0 > many[1]
    weight[20:] = 0.0
    few = learn_factors(draws, truth, weight, [NO_ATOMS] * 2)
    assert np.ptp(np.log(few)) < 0.3 * np.ptp(np.log(many))
    # the same rows several times say no more
    again = (np.tile(t, (1,) * (t.ndim - 2) + (9, 1)) for t in (draws[:, :20], truth[:20]))
    nine = learn_factors(*again, np.ones((180, 2)), [NO_ATOMS] * 2, 9)
    np.testing.assert_array_equal(nine, few)


def test_cells_that_were_not_hidden_and_atoms_say_nothing() -> None:
    draws, truth = _problem(0.5)
    weight = np.zeros(truth.shape)
    assert learn_factors(draws, truth, weight, [NO_ATOMS]) == 1.0
    whole, atoms = np.round(draws), np.unique(np.round(draws)).astype(np.float32)
    assert learn_factors(whole, np.round(truth), weight + 1.0, [atoms]) == 1.0


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


def test_it_can_be_switched_off_and_is_saved(spread_out: QAVIImputer, tmp_path: Path) -> None:
    spread_out.generative_model_.save(tmp_path / "model")
    loaded = TabularVAE.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.spread_, spread_out.generative_model_.spread_)
    without = quick_table_model(likelihood="gaussian", calibrate=False, random_state=0)
    few = quick_table_model(likelihood="gaussian", random_state=0)
    without.fit(iris()), few.fit(iris()[::8])
    for model in (without, few):
        assert (model.spread_ == 1.0).all()
        assert model.spread is None
