"""On a linear-Gaussian decoder posteriors, bounds and predictions are known exactly."""

import numpy as np
import pytest
import torch
from torch import Tensor

from _linear_gaussian import LinearGaussian
from sklearn_qavi.generative import PretrainedDecoder
from sklearn_qavi.inference import (
    Adam,
    DecoderTarget,
    FlowPosterior,
    FunctionTarget,
    GaussianPosterior,
    MixturePosterior,
    PosteriorFamily,
    fit_posterior,
)
from sklearn_qavi.sampling import PooledPosterior

PRECISE = Adam(max_iter=900, n_draws=16, window=32, min_learning_rate=0.002, tol=0.002)
# flows that climb at 0.1 turn rounding into another path, which ends up to 0.03 nats lower
CAREFUL = PRECISE.with_options(learning_rate=0.05)
PATTERNS = np.array(
    [
        [1, 1, 1, 1, 1],
        [1, 0, 1, 0, 1],
        [0, 1, 0, 0, 0],
        [0, 0, 0, 1, 1],
        [0, 0, 0, 0, 0],
    ],
    dtype=bool,
)


def _target(model: LinearGaussian, x: np.ndarray, observed: np.ndarray) -> DecoderTarget:
    member = PretrainedDecoder(model.decoder(), "gaussian", model.n_features).decoders_[0]
    return DecoderTarget(
        member.decode,
        member.likelihood,
        torch.as_tensor(x, dtype=torch.float32),
        torch.as_tensor(observed),
        model.latent_dim,
    )


def test_gaussian_recovers_a_diagonal_posterior_and_its_bound_is_the_evidence() -> None:
    model = LinearGaussian.orthogonal()
    x = model.draw_rows(20)
    observed = np.ones_like(x, dtype=bool)
    result = fit_posterior(_target(model, x, observed), GaussianPosterior(2), optimizer=PRECISE)
    mean, covariance = (t.double().numpy() for t in result.posterior.moments())
    for i in range(len(x)):
        exact_mean, exact_covariance = model.code_posterior(x[i], observed[i])
        scale = np.sqrt(np.diag(exact_covariance))
        np.testing.assert_array_less(np.abs(mean[i] - exact_mean), 1e-2 * scale)
        np.testing.assert_allclose(np.sqrt(np.diag(covariance[i])), scale, rtol=1e-2)
        evidence = model.log_prob_observed(x[i], observed[i])
        assert float(result.bound[i]) == pytest.approx(evidence, abs=5e-3)


@pytest.mark.parametrize("family", [FlowPosterior(2), MixturePosterior(2, 8)])
def test_expressive_families_recover_correlated_posteriors(
    linear_gaussian: LinearGaussian, family: PosteriorFamily
) -> None:
    x = linear_gaussian.draw_rows(len(PATTERNS))
    flow = isinstance(family, FlowPosterior)
    settings = CAREFUL if flow else PRECISE
    result = fit_posterior(_target(linear_gaussian, x, PATTERNS), family, optimizer=settings)
    mean, covariance = (t.double().numpy() for t in result.posterior.moments())
    for i, observed in enumerate(PATTERNS):
        exact_mean, exact_covariance = linear_gaussian.code_posterior(x[i], observed)
        scale = np.sqrt(np.diag(exact_covariance))
        np.testing.assert_allclose(mean[i], exact_mean, atol=0.1 * scale.max())
        relative = covariance[i] / np.outer(scale, scale)
        np.testing.assert_allclose(relative, exact_covariance / np.outer(scale, scale), atol=0.15)
        evidence = linear_gaussian.log_prob_observed(x[i], observed)
        # a mixture of diagonal Gaussians only comes close to a correlated one
        gap = 0.03 if flow else 0.1
        assert evidence - gap < float(result.bound[i]) < evidence + 0.02


@pytest.mark.parametrize("family", [GaussianPosterior(2), FlowPosterior(2), MixturePosterior(2, 8)])
def test_missing_features_follow_their_exact_conditional(
    linear_gaussian: LinearGaussian, family: PosteriorFamily
) -> None:
    model = linear_gaussian
    member = PretrainedDecoder(model.decoder(), "gaussian", model.n_features).decoders_[0]
    x = model.draw_rows(len(PATTERNS), seed=1)
    settings = CAREFUL if isinstance(family, FlowPosterior) else PRECISE
    result = fit_posterior(_target(model, x, PATTERNS), family, optimizer=settings)
    pooled = PooledPosterior([member], [result], model.n_features)
    mean, draws = pooled.mean(), pooled.keyed_draws(4000, np.arange(len(x)), seed=0)
    for i, observed in enumerate(PATTERNS):
        if observed.all():
            continue
        exact_mean, exact_covariance = model.missing_given_observed(x[i], observed)
        scale = np.sqrt(np.diag(exact_covariance))
        np.testing.assert_allclose(mean[i, ~observed], exact_mean, atol=0.1 * scale.max())
        missing = draws[:, i, ~observed]
        np.testing.assert_allclose(missing.mean(0), exact_mean, atol=0.12 * scale.max())
        # a diagonal Gaussian over codes misses their correlation
        tolerance = 0.25 if isinstance(family, GaussianPosterior) else 0.07
        np.testing.assert_allclose(missing.std(0), scale, rtol=tolerance)


def _two_modes(z: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return the likelihood of x = 1, x ~ N(z^2 + 0.15 z, 0.1^2): modes with unequal mass."""
    code = z[..., 0]
    return -0.5 * ((1.0 - code.square() - 0.15 * code) / 0.1).square() + 0.0 * rows


def test_mixture_finds_both_modes_with_their_weights_and_beats_the_gaussian() -> None:
    grid = torch.linspace(-6, 6, 200_001, dtype=torch.float64).unsqueeze(-1)
    log_joint = _two_modes(grid, torch.zeros(1)) - 0.5 * grid[:, 0].square()
    mass = torch.softmax(log_joint, 0)
    exact_weight = float(mass[grid[:, 0] > 0].sum())
    target = FunctionTarget(_two_modes, n_rows=3, latent_dim=1)
    mixture = fit_posterior(target, MixturePosterior(1, 4), optimizer=PRECISE)
    gaussian = fit_posterior(target, GaussianPosterior(1), optimizer=PRECISE)
    family = mixture.posterior.family
    assert isinstance(family, MixturePosterior)
    weight, mean, _ = family.components(mixture.posterior.parameters)
    on_the_right = (weight * (mean[..., 0] > 0)).sum(1)
    assert torch.allclose(on_the_right, torch.full((3,), exact_weight), atol=0.05)
    assert 0.1 < exact_weight < 0.9
    assert (mixture.bound > gaussian.bound + 0.3).all()
    evidence = float(torch.logsumexp(log_joint, 0) + np.log(12 / 200_000) - 0.5 * np.log(2 * np.pi))
    assert (mixture.bound < evidence + 0.02).all()
    assert (mixture.bound > evidence - 0.05).all()


@pytest.mark.parametrize("noise", [1.0, 0.3])
def test_many_latent_dimensions_reach_the_best_diagonal_gaussian(noise: float) -> None:
    rng = np.random.default_rng(0)
    weight = torch.from_numpy(rng.normal(size=(40, 60)) / 60**0.5).float() / noise
    x = torch.from_numpy(rng.normal(size=(8, 40))).float() / noise

    def log_likelihood(z: Tensor, rows: Tensor) -> Tensor:
        return -0.5 * (x[rows] - z @ weight.T).square().sum(-1)

    def bound(mean: Tensor, variance: Tensor) -> Tensor:
        fit = -0.5 * ((x - mean @ weight.T).square().sum(-1) + variance @ weight.square().sum(0))
        return fit - 0.5 * (mean.square() + variance - 1 - variance.log()).sum(-1)

    precision = torch.eye(60) + weight.T @ weight
    best = bound(
        torch.linalg.solve(precision, (x @ weight).T).T, (1 / precision.diagonal()).expand(8, 60)
    )
    result = fit_posterior(FunctionTarget(log_likelihood, 8, 60), GaussianPosterior(60))
    mean, covariance = result.posterior.moments()
    gap = best - bound(mean, torch.diagonal(covariance, dim1=1, dim2=2))
    assert gap.max() < 0.5  # Newton steps on the diagonal leave 10 nats where the noise is small
    assert (result.n_evaluations < 600).all()
    assert result.converged.all()
