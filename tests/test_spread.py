"""Draws spread around the median of their cell: what moves, what stays, means and densities."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from _factories import iris, quick_imputer, quick_table_model, with_missing
from sklearn_qavi import QAVIImputer
from sklearn_qavi._spread import LEAST_DEVIATION, Center, Spread, center_of, factors_between
from sklearn_qavi.generative import TabularVAE

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NO_ATOMS = np.array([], dtype=np.float32)


def test_the_center_is_the_median_and_the_mean_distance_from_it() -> None:
    center = center_of(np.array([[0.0, 1.0], [1.0, 1.0], [5.0, 1.0]]))
    np.testing.assert_array_equal(center.median, [1.0, 1.0])
    np.testing.assert_allclose(center.deviation, [5.0 / 3.0, LEAST_DEVIATION])


def test_factors_grow_with_the_deviation_between_two_of_them() -> None:
    deviation = np.array([0.01, 0.1, 0.1 * 10**0.5, 1.0, 30.0])
    factor = factors_between(np.array([0.5, 2.0]), np.array([0.1, 1.0]), deviation)
    np.testing.assert_allclose(factor, [0.5, 0.5, 1.0, 2.0, 2.0])
    same = factors_between(np.array([0.5, 0.5]), np.array([0.1, 0.1]), deviation)
    np.testing.assert_allclose(same, 0.5)


def test_atoms_stay_and_others_move_away_from_the_median() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(30, 5, 2)).astype(np.float32).astype(float)
    draws[::3, :, 0] = np.float32(0.1)
    center = Center(rng.normal(size=(5, 2)), np.geomspace(0.1, 1.0, 5)[:, None] * [1.0, 1.0])
    factor, deviation = np.array([[0.5, 1.0], [2.0, 1.0]]), np.array([[0.1, 0.1], [1.0, 1.0]])
    atoms = [np.array([-3.0, 0.1], dtype=np.float32), NO_ATOMS]
    spread = Spread(factor, deviation, np.zeros(2), atoms)
    moved = spread.spread(draws, center)
    np.testing.assert_array_equal(moved[..., 1], draws[..., 1])
    np.testing.assert_array_equal(moved[::3, :, 0], draws[::3, :, 0])
    of_cells, median = np.geomspace(0.5, 2.0, 5), center.median[:, 0]
    expected = median + of_cells * (draws[1::3, :, 0] - median)
    np.testing.assert_allclose(moved[1::3, :, 0], expected)
    back, log_factor = spread.gathered(moved[1], center)
    np.testing.assert_allclose(back, draws[1], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(log_factor, np.log([of_cells, np.ones(5)]).T, atol=1e-12)
    back, log_factor = spread.gathered(moved[0], center)
    np.testing.assert_allclose(back, draws[0], rtol=1e-12)
    assert (log_factor == 0.0).all()


def test_means_are_pulled_towards_medians() -> None:
    center = Center(np.array([[1.0, 1.0]]), np.ones((1, 2)))
    spread = Spread(np.ones((2, 2)), np.ones((2, 2)), np.array([0.25, 0.0]), [NO_ATOMS] * 2)
    np.testing.assert_array_equal(spread.pulled(np.array([[5.0, 5.0]]), center), [[4.0, 5.0]])


@pytest.fixture(scope="module")
def imputer(train_once: Callable[..., Any]) -> QAVIImputer:
    model = quick_table_model(likelihood="gaussian")
    return train_once("spread", quick_imputer(generative_model=model), with_missing(iris()))


@pytest.fixture
def spread_out(imputer: QAVIImputer) -> QAVIImputer:
    model = imputer.generative_model_
    model.spread_ = np.array([[1.5, 1.0, 0.5, 1.0], [1.5, 1.0, 0.9, 1.0]])
    model.deviation_ = np.array([[0.1] * 4, [0.3] * 4])
    model.pull_ = np.array([0.0, 0.0, 0.5, 0.0])
    yield imputer
    model.spread_, model.deviation_, model.pull_ = np.ones((2, 4)), np.ones((2, 4)), np.zeros(4)


def test_draws_are_spread_around_the_median_and_nothing_else_changes(imputer: QAVIImputer) -> None:
    model, X = imputer.generative_model_, with_missing(iris())[::3]
    answers = {}
    for name, factor in (("before", np.ones(4)), ("after", np.array([1.5, 1.0, 0.7, 1.0]))):
        model.spread_ = np.stack([factor, factor])
        answers[name] = (imputer.transform(X), imputer.sample(X, n=100))
    (mean, before), (mean_after, after) = answers["before"], answers["after"]
    np.testing.assert_array_equal(mean, mean_after)
    observed = ~np.isnan(X)
    np.testing.assert_array_equal(after[:, observed], before[:, observed])
    for j, factor in enumerate(model.spread_[0]):
        gaps = ~observed[:, j]
        ratio = after[:, gaps, j].std(axis=0) / before[:, gaps, j].std(axis=0)
        np.testing.assert_allclose(ratio, factor, rtol=1e-6)
        shift = np.abs(np.median(after[:, gaps, j] - before[:, gaps, j], axis=0))
        # the median that is spread around is that of other draws, 96 of them: four errors of both
        error = 4.0 * 1.25 * before[:, gaps, j].std(axis=0) * (100**-0.5 + 96**-0.5)
        assert (shift <= abs(factor - 1.0) * error + 1e-9).all()
    low, high = imputer.predict_interval(X, level=0.9)
    model.spread_ = np.ones((2, 4))
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
    values = (torch.full(X.shape, float(value)) for value in grid)
    density = np.exp([pooled.log_predictive(x, n_codes=64)[:, 0] for x in values])
    step = grid[1] - grid[0]
    np.testing.assert_allclose(density.sum(axis=0) * step, 1.0, atol=1e-3)
    draws = pooled.shared_draws(2000)[..., 0]
    for level in (0.1, 0.5, 0.9):
        below = (density * (grid[:, None] < np.quantile(draws, level, axis=0))).sum(axis=0) * step
        # twice the error of a quantile of 2,000 draws, and of the sum
        np.testing.assert_allclose(below, level, atol=2 * norm.pdf(0) / 2000**0.5 + 0.02)


def test_only_pulled_means_differ(spread_out: QAVIImputer) -> None:
    X = with_missing(iris())
    pulled, missing = spread_out.transform(X), np.isnan(X)
    pooled = spread_out.infer(X)
    spread_out.generative_model_.pull_ = np.zeros(4)
    mean = spread_out.transform(X)
    moved = pulled != mean
    assert not moved[:, [0, 1, 3]].any()
    assert not moved[~missing].any()
    gaps = missing[:, 2]
    assert moved[gaps, 2].mean() > 0.9
    median = spread_out.generative_model_.unstandardize(pooled._center.median)
    np.testing.assert_allclose(pulled[gaps, 2], (mean + median)[gaps, 2] / 2, rtol=1e-5)


def test_rows_in_other_company_have_the_same_answers(spread_out: QAVIImputer) -> None:
    X = with_missing(iris())
    few = slice(5, 12)
    np.testing.assert_array_equal(spread_out.transform(X[few]), spread_out.transform(X)[few])
    drawn = spread_out.sample(X, n=3)[:, few]
    np.testing.assert_array_equal(spread_out.sample(X[few], n=3, row_offset=5), drawn)
    for alone, beside in zip(
        spread_out.predict_interval(X[few]), spread_out.predict_interval(X), strict=True
    ):
        np.testing.assert_array_equal(alone, beside[few])


def test_sure_cells_are_drawn_together_more(spread_out: QAVIImputer) -> None:
    X = with_missing(iris())
    gaps = np.isnan(X)[:, 2]
    pooled = spread_out.infer(X)
    deviation = pooled._center.deviation[gaps, 2]
    after = spread_out.sample(X, n=50)[:, gaps, 2]
    spread_out.generative_model_.spread_ = np.ones((2, 4))
    before = spread_out.sample(X, n=50)[:, gaps, 2]
    factor = factors_between(np.array([0.5, 0.9]), np.array([0.1, 0.3]), deviation)
    assert np.ptp(factor) > 0.1
    np.testing.assert_allclose(after.std(axis=0) / before.std(axis=0), factor, rtol=1e-5)


def test_what_draws_are_spread_around_does_not_depend_on_parts(
    spread_out: QAVIImputer, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = with_missing(iris())
    whole = spread_out.infer(X)._center
    monkeypatch.setattr("sklearn_qavi.sampling._pooled._ROWS_OF_CENTER", 64)
    parts = spread_out.infer(X)._center
    np.testing.assert_allclose(parts.median, whole.median, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(parts.deviation, whole.deviation, rtol=1e-6)


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
    for name in ("spread_", "deviation_", "pull_"):
        kept = getattr(spread_out.generative_model_, name)
        np.testing.assert_array_equal(getattr(loaded, name), kept)


def test_it_can_be_switched_off_and_needs_rows_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sklearn_qavi.generative._table_training.learn_factors",
        lambda *args: (np.full((2, 4), 1.5), np.ones((2, 4))),
    )
    options = {"likelihood": "gaussian", "random_state": 0, "max_steps": 2}
    assert (quick_table_model(**options).fit(iris()).spread_ == 1.5).all()
    without = quick_table_model(calibrate=False, **options)
    few = quick_table_model(**options)
    without.fit(iris()), few.fit(iris()[::8])
    for model in (without, few):
        assert (model.spread_ == 1.0).all()
        assert model.spread is None
