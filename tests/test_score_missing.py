"""Scores of hidden cells against the exact densities of a linear-Gaussian model."""

import numpy as np
import pytest
from sklearn.base import clone

from _linear_gaussian import LinearGaussian
from sklearn_qavi import QAVIImputer
from sklearn_qavi.exceptions import InferenceConvergenceWarning
from sklearn_qavi.generative import PretrainedDecoder
from sklearn_qavi.inference import Gaussian
from sklearn_qavi.metrics import conditional, iwae, predictive


@pytest.fixture(scope="module")
def model() -> LinearGaussian:
    return LinearGaussian.orthogonal()


@pytest.fixture(scope="module")
def rows(model: LinearGaussian) -> tuple[np.ndarray, np.ndarray]:
    missing = np.tile([[False, True, False, True, False], [True] * 5], (4, 1))
    return model.draw_rows(len(missing), seed=3), missing


def _imputer(model: LinearGaussian, x: np.ndarray, **params) -> QAVIImputer:
    decoder = PretrainedDecoder(
        model.decoder(), "gaussian", model.n_features, encoder=model.encoder()
    )
    return QAVIImputer(generative_model=decoder, random_state=0, **params).fit(x)


@pytest.mark.parametrize("posterior", ["gaussian", "mixture", "flow", "feature"])
def test_scores_estimate_the_exact_log_densities(model, rows, posterior) -> None:
    x, missing = rows
    scores = _imputer(model, x, posterior=posterior).score_missing(x, missing, n_draws=8192)
    for i, hidden in enumerate(missing):
        evidence = model.log_prob_observed(x[i], ~hidden)
        everything = model.log_prob_observed(x[i], np.ones(5, dtype=bool))
        if posterior == "feature" and hidden.all():
            continue  # the encodings of 64 draws leave gaps in the prior
        # equation 12 estimates log p(x_M), whatever was observed
        assert scores["iwae"][i] == pytest.approx(model.log_prob_observed(x[i], hidden), abs=0.25)
        assert scores["conditional"][i] == pytest.approx(everything - evidence, abs=0.2)
        if posterior in ("mixture", "flow"):  # the others cannot hold the correlation
            assert scores["predictive"][i] == pytest.approx(everything - evidence, abs=0.25)


def test_metrics_are_the_mean_over_scored_rows(model, rows) -> None:
    x, missing = rows
    imputer = _imputer(model, x)
    missing = missing.copy()
    missing[0] = False
    scores = imputer.score_missing(x, missing, n_draws=200)
    for metric in (iwae, predictive, conditional):
        wanted = np.nanmean(scores[metric.__name__])
        assert metric(imputer, x, missing, n_draws=200) == pytest.approx(wanted)


def test_scores_do_not_depend_on_the_other_rows(model, rows) -> None:
    x, missing = rows
    imputer = _imputer(model, x)
    everyone = imputer.score_missing(x, missing, n_draws=300)
    some = imputer.score_missing(x[[5, 2]], missing[[5, 2]], n_draws=300)
    for name, values in everyone.items():
        np.testing.assert_array_equal(values[[5, 2]], some[name])


def test_smallest_error_is_that_of_the_best_of_the_decoded_means(model, rows) -> None:
    x, missing = rows
    scores = _imputer(model, x).score_missing(x, missing, n_draws=4096)["minimum_nrmse"]
    few = _imputer(model, x).score_missing(x, missing, n_draws=16)["minimum_nrmse"]
    assert (scores <= few).all()
    assert (scores < few).any()
    # two codes move two missing cells anywhere, five only in a plane
    assert scores[0::2].max() < 0.1
    plane = np.eye(5) - model.weight @ np.linalg.pinv(model.weight)
    away = np.sqrt(((x - model.bias) @ plane.T) ** 2).reshape(len(x), 5)
    rms = np.sqrt((away**2).mean(axis=1))
    assert (scores[1::2] >= rms[1::2] - 1e-5).all()
    np.testing.assert_allclose(scores[1::2], rms[1::2], atol=0.1)


def test_rows_without_hidden_cells_are_nan_and_bad_masks_are_errors(model, rows) -> None:
    x, missing = rows
    imputer = _imputer(model, x)
    missing = missing.copy()
    missing[1] = False
    scores = imputer.score_missing(x, missing, n_draws=10)
    assert np.isnan(scores["iwae"][1])
    assert np.isfinite(np.delete(scores["iwae"], 1)).all()
    with pytest.raises(ValueError, match="has shape"):
        imputer.score_missing(x, missing[:, :2])
    with pytest.raises(ValueError, match="hides no cell"):
        imputer.score_missing(x, np.zeros_like(missing))
    incomplete = x.copy()
    incomplete[0, 1] = np.nan
    with pytest.raises(ValueError, match="have no value"):
        imputer.score_missing(incomplete, missing)


def test_importance_resampling_makes_a_gaussian_exact(model) -> None:
    model = LinearGaussian.random(4, 2, seed=4)  # its posterior is correlated
    x = model.draw_rows(6)
    observed = np.tile([True, True, False, False], (6, 1))
    incomplete = np.where(observed, x, np.nan)
    plain = QAVIImputer(
        generative_model=PretrainedDecoder(model.decoder(), "gaussian", 4),
        posterior=Gaussian(covariance="diagonal"),
        random_state=0,
    ).fit(x)
    corrected = clone(plain).set_params(importance_resampling=True).fit(x)
    exact = model.missing_given_observed(x[0], observed[0])[1]
    errors = []
    for imputer in (plain, corrected):
        draws = imputer.sample(incomplete, n=3000)[:, :, 2:]
        covariance = np.mean([np.cov(draws[:, i].T) for i in range(6)], axis=0)
        errors.append(np.abs(covariance - exact).max())
    assert errors[1] < 0.5 * errors[0]
    pooled = corrected.infer(incomplete)
    assert (pooled.effective_sample_size > 100).all()
    assert (pooled.pareto_k < 0.7).all()


@pytest.mark.parametrize("posterior", ["gaussian", "pseudo_gibbs"])
def test_a_list_of_sizes_gives_the_scores_of_each(model, rows, posterior) -> None:
    x, missing = rows
    imputer = _imputer(model, x, posterior=posterior)
    sizes = [300, 1, 40, 300]
    curve = imputer.score_missing(x, missing, n_draws=sizes)
    for k, n in enumerate(sizes):
        alone = imputer.score_missing(x, missing, n_draws=n)
        for name, values in curve.items():
            assert values.shape == (4, len(x))
            np.testing.assert_allclose(values[k], alone[name], rtol=1e-9)


def test_details_are_those_of_the_inference(model, rows) -> None:
    x, missing = rows
    missing = missing.copy()
    missing[2] = False
    imputer = _imputer(model, x, max_iter=2, tol=0.0)
    with pytest.warns(InferenceConvergenceWarning):
        scores, details = imputer.score_missing(x, missing, n_draws=5, return_details=True)
    with pytest.warns(InferenceConvergenceWarning):
        pooled = imputer.infer(np.where(missing, np.nan, x))
    np.testing.assert_array_equal(details["n_cells"], missing.sum(axis=1))
    scored = missing.any(axis=1)
    np.testing.assert_array_equal(details["n_evaluations"][scored], pooled.n_evaluations[scored])
    assert np.isnan(details["n_evaluations"][2])
    np.testing.assert_array_equal(details["converged"], ~scored)
    assert 0.0 < details["seconds"] < 60.0
    assert np.isfinite(scores["iwae"][scored]).all()


@pytest.mark.parametrize("n_draws", [0, [], [3, -1], 2.5, [[1, 2]], True])
def test_numbers_of_draws_are_checked(model, rows, n_draws) -> None:
    x, missing = rows
    with pytest.raises(ValueError, match="n_draws must be a whole number"):
        _imputer(model, x).score_missing(x, missing, n_draws=n_draws)
