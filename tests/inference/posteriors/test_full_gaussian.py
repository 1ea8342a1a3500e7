"""Full covariances: exact on linear decoders, never a lower bound, the same for a row alone."""

import time

import numpy as np
import pytest
import torch
from torch import Tensor

from _linear_gaussian import LinearGaussian
from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative import PretrainedDecoder
from sklearn_qavi.inference import (
    Adam,
    DecoderTarget,
    FullGaussianPosterior,
    FunctionTarget,
    Gaussian,
    GaussianPosterior,
    Newton,
    fit_posterior,
)

PRECISE = Adam(max_iter=900, n_draws=16, window=32, min_learning_rate=0.002, tol=0.002)


def linear_target(model: LinearGaussian, x: np.ndarray, observed: np.ndarray) -> DecoderTarget:
    member = PretrainedDecoder(model.decoder(), "gaussian", model.n_features).decoders_[0]
    values = torch.as_tensor(x, dtype=torch.float32)
    seen = torch.as_tensor(observed)
    return DecoderTarget(member.decode, member.likelihood, values, seen, model.latent_dim)


def curved(z: Tensor, rows: Tensor) -> Tensor:
    """Return the log likelihood of rows whose codes bend, (..., B)."""
    middle = 0.3 * rows.to(z) - 2.0
    return -2.0 * (z[..., 0] * z[..., 1] - middle).square() - 0.5 * (z[..., 2] - z[..., 0]) ** 2


@pytest.mark.parametrize("optimizer", [None, PRECISE], ids=["newton", "adam"])
def test_posterior_and_evidence_of_a_linear_decoder_are_exact(
    linear_gaussian: LinearGaussian, optimizer: Adam | None
) -> None:
    x = linear_gaussian.draw_rows(30)
    observed = np.random.default_rng(0).random(x.shape) < 0.6
    target = linear_target(linear_gaussian, x, observed)
    optimizer = Newton(tol=1e-5) if optimizer is None else optimizer
    result = fit_posterior(target, FullGaussianPosterior(2), optimizer=optimizer)
    mean, covariance = (t.double().numpy() for t in result.posterior.moments())
    correlations = []
    for i in range(len(x)):
        exact_mean, exact_covariance = linear_gaussian.code_posterior(x[i], observed[i])
        scale = np.sqrt(np.diag(exact_covariance))
        np.testing.assert_array_less(np.abs(mean[i] - exact_mean), 0.02 * scale)
        np.testing.assert_allclose(covariance[i], exact_covariance, rtol=0.05, atol=5e-3)
        evidence = linear_gaussian.log_prob_observed(x[i], observed[i])
        assert float(result.bound[i]) == pytest.approx(evidence, abs=0.01)
        correlations.append(exact_covariance[0, 1] / scale.prod())
    assert np.abs(correlations).max() > 0.3  # a diagonal Gaussian could not


def test_no_bound_is_lower_than_that_of_the_diagonal() -> None:
    target = FunctionTarget(curved, 13, 3)
    diagonal = fit_posterior(target, GaussianPosterior(3))
    full = fit_posterior(target, FullGaussianPosterior(3))
    assert (full.bound >= diagonal.bound).all()
    assert full.bound.mean() > diagonal.bound.mean() + 0.05
    assert full.n_iter.equal(diagonal.n_iter)
    points = 2 * Newton().draws_for(3)
    assert full.n_evaluations.equal(diagonal.n_evaluations + points)


def test_a_row_alone_gets_the_same_bits() -> None:
    many = fit_posterior(FunctionTarget(curved, 70, 3), FullGaussianPosterior(3), batch_size=64)
    few = fit_posterior(FunctionTarget(curved, 5, 3), FullGaussianPosterior(3), batch_size=32)
    assert many.posterior.parameters[:5].equal(few.posterior.parameters)
    assert many.bound[:5].equal(few.bound)


def test_more_steps_than_are_taken_change_nothing() -> None:
    target = FunctionTarget(curved, 13, 3)
    few, many = (
        fit_posterior(target, FullGaussianPosterior(3), optimizer=Newton(max_iter=limit))
        for limit in (60, 90)
    )
    assert few.converged.all()
    assert few.n_iter.max() < 60
    assert few.posterior.parameters.equal(many.posterior.parameters)
    assert few.bound.equal(many.bound)


def test_what_is_no_covariance_leaves_the_scales() -> None:
    family = FullGaussianPosterior(2)
    covariance = torch.tensor([[[1.0, 2.0], [2.0, 1.0]], [[1.0, 0.0], [torch.nan, 1.0]]])
    covariance = torch.cat([covariance, torch.tensor([[[1.0, 0.5], [0.5, 1.0]]])])
    mean, scale = torch.zeros(3, 2), torch.tensor([[0.5, 0.25]]).repeat(3, 1)
    _, found = family.moments(family.with_covariance(mean, scale, covariance))
    diagonal = torch.diag(torch.tensor([0.25, 0.0625]))
    torch.testing.assert_close(found, torch.stack([diagonal, diagonal, covariance[2]]))


def test_without_time_rows_keep_what_they_have() -> None:
    target = FunctionTarget(curved, 40, 3)
    result = fit_posterior(target, FullGaussianPosterior(3), deadline=time.monotonic())
    assert torch.isfinite(result.posterior.parameters).all()
    assert not result.converged.any()


def test_no_rows_are_no_posteriors() -> None:
    result = fit_posterior(FunctionTarget(curved, 0, 3), FullGaussianPosterior(3))
    assert len(result.posterior) == len(result.bound) == 0


def test_the_density_is_that_of_torch() -> None:
    family = FullGaussianPosterior(3)
    generator = torch_generator(0)
    parameters = torch.randn(4, family.n_parameters, generator=generator, dtype=torch.float64)
    mean, covariance = family.moments(parameters)
    z = torch.randn(5, 4, 3, generator=generator, dtype=torch.float64)
    expected = torch.distributions.MultivariateNormal(mean, covariance)
    torch.testing.assert_close(family.log_prob(parameters, z), expected.log_prob(z))
    prior = torch.distributions.MultivariateNormal(mean * 0, torch.eye(3, dtype=torch.float64))
    kl = family.kl(parameters, family.draw(parameters, z))
    torch.testing.assert_close(kl, torch.distributions.kl_divergence(expected, prior))
    again = family.parameters_of(*family.mean_and_root(parameters))
    torch.testing.assert_close(again, parameters)


def test_the_covariance_is_full_where_newton_steps_know_it() -> None:
    assert isinstance(Gaussian().family(10), FullGaussianPosterior)
    assert isinstance(Gaussian(optimizer=Newton()).family(10), FullGaussianPosterior)
    assert isinstance(Gaussian().family(60), GaussianPosterior)
    assert isinstance(Gaussian(optimizer=Adam()).family(10), GaussianPosterior)
    assert isinstance(Gaussian(optimizer="paper").family(10), GaussianPosterior)
    assert isinstance(Gaussian(covariance="diagonal").family(10), GaussianPosterior)
    assert isinstance(Gaussian(covariance="full").family(60), FullGaussianPosterior)
