"""Factor analysis with missing cells, against the multivariate normal distribution."""

import numpy as np
import pytest
from scipy import stats

from sklearn_qavi.generative import _factor_analyser
from sklearn_qavi.generative._factor_analyser import (
    FactorAnalyser,
    _maximise,
    fit_factor_analyser,
)


def _model() -> FactorAnalyser:
    rng = np.random.default_rng(0)
    return FactorAnalyser(rng.normal(size=(5, 2)), rng.normal(size=5), rng.uniform(0.2, 1, size=5))


def _covariance(model: FactorAnalyser) -> np.ndarray:
    return model.loadings @ model.loadings.T + np.diag(model.noise)


def _scores(n: int = 40, rate: float = 0.4) -> np.ndarray:
    model, rng = _model(), np.random.default_rng(1)
    scores = rng.multivariate_normal(model.mean, _covariance(model), size=n)
    scores[rng.random(scores.shape) < rate] = np.nan
    return scores


def test_density_of_observed_scores_is_the_normal_distributions() -> None:
    model, scores = _model(), _scores()
    for row, found in zip(scores, model.log_prob(scores), strict=True):
        seen = ~np.isnan(row)
        exact = 0.0
        if seen.any():
            normal = stats.multivariate_normal(
                model.mean[seen], _covariance(model)[np.ix_(seen, seen)]
            )
            exact = normal.logpdf(row[seen])
        assert found == pytest.approx(exact)


def test_codes_are_the_regression_on_observed_scores() -> None:
    model, scores = _model(), _scores()
    mean, covariance = model.infer(scores)
    for row, m, v in zip(scores, mean, covariance, strict=True):
        seen = ~np.isnan(row)
        w = model.loadings[seen]
        gain = w.T @ np.linalg.inv(_covariance(model)[np.ix_(seen, seen)])
        np.testing.assert_allclose(m, gain @ (row - model.mean)[seen], atol=1e-10)
        np.testing.assert_allclose(v, np.eye(2) - gain @ w, atol=1e-10)


def test_residuals_leave_the_score_itself_out() -> None:
    model, scores = _model(), _scores()
    covariance, found = _covariance(model), model.residuals(scores)
    assert (np.isnan(found) == np.isnan(scores)).all()
    for row, residual in zip(scores, found, strict=True):
        for j in np.flatnonzero(~np.isnan(row)):
            rest = ~np.isnan(row)
            rest[j] = False
            gain = covariance[j, rest] @ np.linalg.inv(covariance[np.ix_(rest, rest)])
            expected = model.mean[j] + gain @ (row - model.mean)[rest]
            spread = np.sqrt(covariance[j, j] - gain @ covariance[rest, j])
            assert residual[j] == pytest.approx((row[j] - expected) / spread)


def test_each_round_raises_the_density() -> None:
    scores = _scores(300)
    observed = ~np.isnan(scores)
    model = FactorAnalyser(np.eye(5)[:, :2], np.zeros(5), np.ones(5))
    densities = []
    for _ in range(15):
        densities.append(model.log_prob(scores).sum())
        code, covariance = model.infer(scores)
        filled = np.where(observed, scores, 0.0)
        share, floor = observed.astype(float), np.full(5, 1e-4)
        model = _maximise(code, covariance, filled, share, floor)
    # the prior of the loadings is all that the density itself may give up
    assert np.diff(densities).min() > -1e-2
    assert densities[-1] > densities[0] + 100


def test_a_saturated_model_has_the_covariance_of_the_table() -> None:
    scores = _scores(4000, rate=0.0)
    model = fit_factor_analyser(scores, np.ones(len(scores)), 10)
    assert model.loadings.shape == (5, 10)
    np.testing.assert_allclose(_covariance(model), np.cov(scores.T), atol=0.05)
    scaled = model.loadings / np.sqrt(model.noise)[:, None]
    gram = scaled.T @ scaled
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-8)


def test_regressions_survive_cells_missing_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=4000)
    y = 0.8 * x + 0.6 * rng.normal(size=len(x))
    seen = x <= 0.3  # the mean of these y is far too low
    scores = np.column_stack([x, np.where(seen, y, np.nan)])
    early = fit_factor_analyser(scores, np.ones(len(x)), 2)
    monkeypatch.setattr(_factor_analyser, "_TOL", 1e-8)
    monkeypatch.setattr(_factor_analyser, "_MAX_ITER", 3000)
    model = fit_factor_analyser(scores, np.ones(len(x)), 2)
    # maximum likelihood is the regression on the rows that have both; the prior counts as one row
    slope, constant = np.polyfit(x[seen], y[seen], 1)
    covariance = _covariance(model)
    assert covariance[0, 1] / covariance[0, 0] == pytest.approx(slope, abs=4e-3)
    assert model.mean[1] == pytest.approx(constant + slope * x.mean(), abs=4e-3)
    assert abs(early.mean[1] - model.mean[1]) < 0.2 * abs(y[seen].mean() - model.mean[1])


def test_rows_count_by_their_weight() -> None:
    scores = _scores(200)
    weight = np.random.default_rng(2).integers(0, 3, size=len(scores))
    weighted = fit_factor_analyser(scores, weight.astype(float), 2)
    repeated = fit_factor_analyser(np.repeat(scores, weight, axis=0), np.ones(int(weight.sum())), 2)
    np.testing.assert_allclose(_covariance(weighted), _covariance(repeated), atol=2e-2)


def test_a_copied_column_keeps_some_noise() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 1))
    model = fit_factor_analyser(np.hstack([x, x, np.zeros((100, 1))]), np.ones(100), 3)
    assert np.isfinite(model.loadings).all()
    assert (model.noise > 0).all()
