"""The posterior over missing features: exact where encoder and decoder are."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from _factories import quick_table_model, with_missing
from _linear_gaussian import LinearGaussian
from sklearn_qavi import QAVIImputer
from sklearn_qavi.generative import PretrainedDecoder, TabularVAE, make_image_likelihood
from sklearn_qavi.generative._likelihoods import ColumnLikelihoods
from sklearn_qavi.inference import Adam, Context, Feature, FeaturePosterior, InferenceResult

PRECISE = Adam(
    max_iter=900, n_draws=16, window=32, learning_rate=0.1, min_learning_rate=0.002, tol=0.002
)
PATTERNS = np.array(
    [[1, 1, 1, 1, 0], [1, 0, 1, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]], dtype=bool
)


def _infer(
    model: LinearGaussian, x: np.ndarray, *, gamma: float = 1.0, beta: float = 1.0
) -> InferenceResult:
    decoder = PretrainedDecoder(
        model.decoder(), "gaussian", model.n_features, encoder=model.encoder()
    ).decoders_[0]
    return Feature(optimizer=PRECISE, gamma=gamma).infer(
        decoder,
        None,
        torch.as_tensor(x, dtype=torch.float32),
        torch.as_tensor(PATTERNS),
        Context(beta=beta),
    )


def _location_and_scale(result: InferenceResult, n: int) -> tuple[np.ndarray, np.ndarray]:
    location, raw = result.posterior.parameters.double().split(n, dim=-1)
    return location.numpy(), (torch.nn.functional.softplus(raw) + 1e-3).numpy()


def test_it_is_the_best_independent_approximation_and_its_bound_says_so() -> None:
    model = LinearGaussian.orthogonal()
    x = model.draw_rows(len(PATTERNS))
    result = _infer(model, x)
    location, scale = _location_and_scale(result, 5)
    for i, observed in enumerate(PATTERNS):
        mean, covariance = model.missing_given_observed(x[i], observed)
        precision = np.linalg.inv(covariance)
        best = 1 / np.sqrt(np.diag(precision))
        np.testing.assert_allclose(location[i, ~observed], mean, atol=0.03)
        np.testing.assert_allclose(scale[i, ~observed], best, rtol=0.04)
        # KL(q || p) of a Gaussian with the right mean and the precision's diagonal
        divergence = -0.5 * (np.linalg.slogdet(precision)[1] + 2 * np.log(best).sum())
        evidence = model.log_prob_observed(x[i], observed)
        assert float(result.bound[i]) == pytest.approx(evidence - divergence, abs=0.06)


def test_gamma_widens_and_beta_pulls_towards_the_prior() -> None:
    model = LinearGaussian.orthogonal()
    x = model.draw_rows(len(PATTERNS), seed=1)
    plain, wide, pulled = (_infer(model, x, **w) for w in ({}, {"gamma": 2.0}, {"beta": 20.0}))
    missing = ~PATTERNS
    assert (_location_and_scale(wide, 5)[1] > 1.2 * _location_and_scale(plain, 5)[1])[missing].all()
    codes = [r.code_posterior.moments()[0].abs().mean() for r in (plain, pulled)]
    assert codes[1] < codes[0]


def test_its_distribution_of_the_code_averages_the_encoder_over_the_features() -> None:
    model = LinearGaussian.orthogonal()
    x = model.draw_rows(len(PATTERNS))
    mean, covariance = _infer(model, x).code_posterior.moments()
    exact_mean, exact_covariance = model.code_posterior(x[0], PATTERNS[0])  # one missing: exact
    np.testing.assert_allclose(mean[0], exact_mean, atol=0.03)
    np.testing.assert_allclose(covariance[0], exact_covariance, atol=0.02)


def test_gradient_of_columns_with_atoms_is_that_of_the_exact_expectation() -> None:
    values = np.random.default_rng(0).normal(size=(400, 2))
    values[:150, 0] = 0.0
    values[:, 1] = values[:, 1] > 0
    likelihood = ColumnLikelihoods(["histogram", "bernoulli"], {"histogram": {"n_bins": 6}})
    likelihood.fit_columns(values)
    family = FeaturePosterior(1, 2, torch.nn.Identity(), likelihood)
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(1, likelihood.n_outputs, generator=generator).requires_grad_()
    missing = torch.ones(1, 2, dtype=torch.bool)

    # E[h] for h = (3 first + second)^2 without sampling: sums over bins, uniform within each
    histogram, bernoulli = likelihood.groups[1], likelihood.groups[0]
    second = torch.sigmoid(parameters[:, :1])
    p = torch.softmax(histogram._logits(parameters[:, 1:]), dim=-1)[0, 0]
    middle = (histogram.lower + histogram.width / 2)[0]
    square = middle.square() + histogram.width[0].square() / 12
    exact = 9 * (p * square).sum() + 6 * (p * middle).sum() * second + second
    (exact_gradient,) = torch.autograd.grad(exact.sum(), parameters)

    u = torch.rand(200_000, 1, family.n_noise, generator=generator)
    drawn = family.rsample(parameters, u)
    h = (3 * drawn[..., 0] + drawn[..., 1]).square()
    weight = family.draw_weight(parameters, drawn, missing)
    (gradient,) = torch.autograd.grad((weight * h).sum(), parameters)
    assert bernoulli.n_columns == 1
    torch.testing.assert_close(gradient, exact_gradient, atol=0.06, rtol=0.03)


def test_entropies_are_the_mean_surprise_of_draws() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 4))
    values[:100, 3] = 1.0
    values[:, 2] = values[:, 2] > 0
    names = ["gaussian", "student_t", "bernoulli", "histogram"]
    likelihood = ColumnLikelihoods(names, {"histogram": {"n_bins": 8}}).fit_columns(values)
    generator = torch.Generator().manual_seed(0)
    params = torch.randn(3, likelihood.n_outputs, generator=generator)
    u = torch.rand(100_000, 3, 4, 2, generator=generator).clamp(1e-6, 1 - 1e-6)
    draws = likelihood.sample(params, u)
    surprise = -likelihood.log_prob(params, likelihood.prepare(draws)).mean(0)
    torch.testing.assert_close(likelihood.entropy(params), surprise, atol=0.02, rtol=0.01)


@pytest.fixture(scope="module")
def mixed_model() -> tuple[TabularVAE, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4)) + rng.normal(size=(300, 1))
    X[:, 0] = np.where(X[:, 0] < 0, 0.0, X[:, 0])  # half of it is an atom
    X[:, 3] = X[:, 3] > 0
    families = ["histogram", "student_t", "gaussian", "bernoulli"]
    model = quick_table_model(likelihood=families, n_decoders=1, latent_dim=2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X), X


def test_it_serves_tables_with_every_likelihood(mixed_model) -> None:
    model, X = mixed_model
    incomplete = with_missing(X[:80], 0.4, seed=1)
    imputer = QAVIImputer(generative_model=model, posterior="feature", random_state=0).fit(X)
    completed = imputer.transform(incomplete)
    known = ~np.isnan(incomplete)
    np.testing.assert_array_equal(completed[known], incomplete[known])
    np.testing.assert_array_equal(imputer.transform(incomplete[[61, 5]]), completed[[61, 5]])
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(imputer)).set_params(batch_size=32).transform(incomplete),
        completed,
    )
    draws = imputer.sample(incomplete, n=30)
    hidden = np.isnan(incomplete[:, 0])
    assert 0.1 < (draws[:, hidden, 0] == 0.0).mean() < 0.9  # the atom, exactly
    assert set(np.unique(draws[:, np.isnan(incomplete[:, 3]), 3])) == {0.0, 1.0}


def test_more_entropy_means_wider_intervals(mixed_model) -> None:
    model, X = mixed_model
    incomplete = X[:40].copy()
    incomplete[:, 1] = np.nan
    widths = []
    for gamma in (0.5, 3.0):
        imputer = QAVIImputer(
            generative_model=model, posterior=Feature(gamma=gamma), random_state=0
        ).fit(X)
        lower, upper = imputer.predict_interval(incomplete)
        widths.append((upper - lower)[:, 1].mean())
    assert widths[1] > 1.2 * widths[0]


def test_an_observation_model_without_an_entropy_is_told() -> None:
    likelihood = make_image_likelihood("discretized_normal", (1, 1, 3), scale="decoder")
    family = FeaturePosterior(2, 3, torch.zeros_like, likelihood)
    missing = torch.ones(4, 3, dtype=torch.bool)
    with pytest.raises(
        ValueError, match=r"entropy .* has no closed form\. Choose a posterior over"
    ):
        family.entropy(torch.zeros(4, 6), missing)
