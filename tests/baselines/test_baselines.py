"""The methods QAVI is compared with, on a linear model whose encoder is exact or off on purpose."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from _factories import training, with_missing
from _linear_gaussian import LinearGaussian
from sklearn_qavi import QAVIImputer
from sklearn_qavi.baselines import (
    BASELINES,
    FillZeros,
    MetropolisWithinGibbs,
    PosteriorMatching,
    PseudoGibbs,
    RetunedEncoder,
)
from sklearn_qavi.generative import PretrainedDecoder
from sklearn_qavi.inference import Context, InferenceResult

PATTERNS = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 0, 1], [0, 1, 0, 0, 0]], dtype=bool)
OF_ONE_CODE = [name for name in BASELINES if not name.startswith("hierarchical")]
LONG = {"n_burn_in": 200, "n_draws": 4000, "n_chains": 40, "thin": 2}


@pytest.fixture(scope="module")
def model() -> LinearGaussian:
    return LinearGaussian.orthogonal()


def _decoder(model: LinearGaussian, **wrong: float):
    return PretrainedDecoder(
        model.decoder(), "gaussian", model.n_features, encoder=model.encoder(**wrong)
    ).decoders_[0]


def _infer(method, decoder, x: np.ndarray, observed: np.ndarray, state=None) -> InferenceResult:
    return method.infer(
        decoder,
        state,
        torch.as_tensor(x, dtype=torch.float32),
        torch.as_tensor(observed),
        Context(),
    )


def _distance_from_exact(model, x, result: InferenceResult) -> float:
    """Return the largest error of a row's code, in posterior standard deviations."""
    mean, covariance = (t.double().numpy() for t in result.posterior.moments())
    worst = 0.0
    for i, observed in enumerate(PATTERNS):
        exact_mean, exact_covariance = model.code_posterior(x[i], observed)
        scale = np.sqrt(np.diag(exact_covariance))
        relative = (covariance[i] - exact_covariance) / np.outer(scale, scale)
        worst = max(worst, np.abs((mean[i] - exact_mean) / scale).max(), np.abs(relative).max())
    return worst


def test_pseudo_gibbs_is_exact_with_an_exact_encoder_only(model) -> None:
    x = model.draw_rows(3)
    exact = _infer(PseudoGibbs(**LONG), _decoder(model), x, PATTERNS)
    wrong = _infer(PseudoGibbs(**LONG), _decoder(model, shift=0.2, widen=1.5), x, PATTERNS)
    assert _distance_from_exact(model, x, exact) < 0.2
    assert _distance_from_exact(model, x, wrong) > 0.5
    assert exact.acceptance_rate is None


def test_metropolis_within_gibbs_is_exact_whatever_the_encoder(model) -> None:
    x = model.draw_rows(3)
    method = MetropolisWithinGibbs(**LONG)
    wrong = _infer(method, _decoder(model, shift=0.2, widen=1.5), x, PATTERNS)
    assert _distance_from_exact(model, x, wrong) < 0.2
    assert (wrong.acceptance_rate > 0.2).all()
    assert (wrong.acceptance_rate < 0.8).all()
    exact = _infer(method, _decoder(model), x, PATTERNS)
    assert (exact.acceptance_rate > 0.999).all()  # the proposal is p(z | x) itself
    assert (exact.n_evaluations == 40 * (20 + 200 + 2 * 100)).all()


def test_draws_of_missing_cells_have_the_exact_conditional_moments(model) -> None:
    x = model.draw_rows(3)
    decoder = PretrainedDecoder(model.decoder(), "gaussian", 5, encoder=model.encoder(widen=1.3))
    imputer = QAVIImputer(
        generative_model=decoder, posterior=MetropolisWithinGibbs(**LONG), random_state=0
    ).fit(x)
    draws = imputer.sample(np.where(PATTERNS, x, np.nan), n=4000)
    for i, observed in enumerate(PATTERNS):
        mean, covariance = model.missing_given_observed(x[i], observed)
        hidden = draws[:, i, ~observed]
        np.testing.assert_allclose(hidden.mean(0), mean, atol=0.15)
        np.testing.assert_allclose(np.cov(hidden.T), covariance, atol=0.15)


def test_fill_zeros_is_the_encoder_at_the_filled_row(model) -> None:
    x = model.draw_rows(3)
    mean, _ = _infer(FillZeros(), _decoder(model), x, PATTERNS).posterior.moments()
    filled = torch.as_tensor(np.where(PATTERNS, x, 0.0), dtype=torch.float32)
    torch.testing.assert_close(mean, model.encoder()(filled)[:, :2])


@pytest.mark.parametrize("method", [PosteriorMatching, RetunedEncoder])
def test_partial_encoders_approach_the_exact_posterior_under_their_masks(model, method) -> None:
    train = torch.as_tensor(model.draw_rows(1500, seed=1), dtype=torch.float32)
    decoder = _decoder(model)
    pattern = PATTERNS[:1]
    trained = method(masks=~pattern, **training(rounds=25))
    everything = torch.ones_like(train, dtype=torch.bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        state = trained.learn(decoder, train, everything, seed=0)
    x = model.draw_rows(50, seed=2)
    observed = np.repeat(pattern, 50, axis=0)
    errors = {}
    for name, result in {
        "trained": _infer(trained, decoder, x, observed, pickle.loads(pickle.dumps(state))),
        "zeros": _infer(FillZeros(), decoder, x, observed),
    }.items():
        mean, covariance = (t.double().numpy() for t in result.posterior.moments())
        exact = [model.code_posterior(row, pattern[0]) for row in x]
        scale = np.sqrt(np.diag(exact[0][1]))
        off = np.abs(mean - np.stack([m for m, _ in exact])).mean(0) / scale
        wide = np.sqrt(covariance[:, [0, 1], [0, 1]]).mean(0) / scale
        errors[name] = (off.max(), np.abs(np.log(wide)).max())
    assert errors["trained"][0] < 0.15
    assert errors["trained"][1] < 0.15
    assert errors["zeros"][0] > 3 * errors["trained"][0]


@pytest.mark.filterwarnings("ignore::sklearn_qavi.exceptions.UnreliablePosteriorWarning")
@pytest.mark.parametrize("name", OF_ONE_CODE)
def test_a_row_is_the_same_alone_and_after_pickling(model, name) -> None:
    x = model.draw_rows(80)
    incomplete = with_missing(x, 0.4)
    decoder = PretrainedDecoder(model.decoder(), "gaussian", 5, encoder=model.encoder())
    method = BASELINES[name]()
    if hasattr(method, "max_epochs"):
        method.set_params(**training(rounds=2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        imputer = QAVIImputer(
            generative_model=decoder, posterior=clone(method), random_state=0
        ).fit(x)
    everyone = imputer.transform(incomplete)
    again = pickle.loads(pickle.dumps(imputer)).transform(incomplete[[70, 3]])
    np.testing.assert_array_equal(everyone[[70, 3]], again)
    np.testing.assert_array_equal(everyone[~np.isnan(incomplete)], x[~np.isnan(incomplete)])
    assert np.isnan(imputer.infer(incomplete).bound).all()


@pytest.mark.global_rng
def test_errors_say_what_to_do(model) -> None:
    x = model.draw_rows(30)
    without = PretrainedDecoder(model.decoder(), "gaussian", 5)
    with pytest.raises(ValueError, match="needs the model's encoder"):
        QAVIImputer(generative_model=without, posterior="fill_zeros").fit(x)
    late = QAVIImputer(generative_model=without).fit(x).set_params(posterior="feature")
    with pytest.raises(ValueError, match="needs the model's encoder"):
        late.transform(np.where(x > 1, np.nan, x))
    decoder = PretrainedDecoder(model.decoder(), "gaussian", 5, encoder=model.encoder())
    for masks, message in {
        "random": "masks must be 'generic'",
        1.5: r"float in the range \[0.0, 1.0\]",
        ((True, False),): "expected rows of 5 columns",
    }.items():
        with pytest.raises(ValueError, match=message):
            QAVIImputer(generative_model=decoder, posterior=PosteriorMatching(masks=masks)).fit(x)
    with pytest.raises(ValueError, match="at least 5 rows"):
        QAVIImputer(generative_model=decoder, posterior="retuned_encoder").fit(x[:3])
    with pytest.raises(ValueError, match="'n_chains' parameter of PseudoGibbs must be"):
        QAVIImputer(generative_model=decoder, posterior=PseudoGibbs(n_chains=0)).fit(x)
    late = QAVIImputer(generative_model=decoder, random_state=0).fit(x)
    late.set_params(posterior="posterior_matching")
    with pytest.raises(ValueError, match="call fit again"):
        late.transform(np.where(x > 1, np.nan, x))
