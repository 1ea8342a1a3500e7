"""Newton steps on targets whose best Gaussian is known."""

import numpy as np
import pytest
import torch
from torch import Tensor

from _linear_gaussian import LinearGaussian
from sklearn_qavi._plan import Plan
from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative import PretrainedDecoder
from sklearn_qavi.inference import (
    Adam,
    DecoderTarget,
    FlowPosterior,
    FunctionTarget,
    GaussianPosterior,
    MixturePosterior,
    Newton,
    _newton,
    fit_posterior,
)
from sklearn_qavi.inference._engine import _fit_gaussian, _Problem
from sklearn_qavi.inference._newton import _decomposed, absolute_by_products
from sklearn_qavi.inference._objectives import elbo


def _target(model: LinearGaussian, x: np.ndarray, observed: np.ndarray) -> DecoderTarget:
    member = PretrainedDecoder(model.decoder(), "gaussian", model.n_features).decoders_[0]
    x, observed = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(observed)
    return DecoderTarget(member.decode, member.likelihood, x, observed, model.latent_dim)


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
def test_a_quadratic_target_is_solved_exactly(linear_gaussian: LinearGaussian, beta: float) -> None:
    x = linear_gaussian.draw_rows(40)
    observed = np.random.default_rng(0).random(x.shape) < 0.6
    target = _target(linear_gaussian, x, observed)
    gaussian = GaussianPosterior(2)
    result = fit_posterior(target, gaussian, optimizer=Newton(tol=1e-5), beta=beta)
    problem = _Problem(target, gaussian, Newton(), elbo, beta, 0, None, False, None)
    warm = _fit_gaussian(problem.of_gaussians(), 128)
    assert result.converged.all()
    assert result.n_iter.max() <= 24
    mean, covariance = (t.double().numpy() for t in result.posterior.moments())
    for i in range(len(x)):
        # tempering by beta is the exact posterior under noise that is sqrt(beta) as large
        exact_mean, exact_covariance = linear_gaussian.code_posterior(x[i], observed[i])
        precision = beta * np.eye(2) + np.linalg.inv(exact_covariance) - np.eye(2)
        exact_mean = np.linalg.solve(precision, np.linalg.solve(exact_covariance, exact_mean))
        # the best diagonal Gaussian has the diagonal of the precision
        scale = np.sqrt(beta / np.diag(precision))
        np.testing.assert_array_less(np.abs(mean[i] - exact_mean), 0.02 * scale)
        np.testing.assert_allclose(np.sqrt(np.diag(covariance[i])), scale, rtol=0.02)
        whole = warm.out_covariance[i].double().numpy()
        np.testing.assert_allclose(whole, beta * np.linalg.inv(precision), rtol=0.05, atol=5e-3)


def test_a_flow_starts_with_the_whole_covariance(linear_gaussian: LinearGaussian) -> None:
    x = linear_gaussian.draw_rows(10)
    observed = np.ones_like(x, dtype=bool)
    target = _target(linear_gaussian, x, observed)
    # learning rate 0: the answer is the start
    settings = Adam(learning_rate=1e-9, max_iter=12, n_draws=8)
    for n_layers in (1, 2, 3):
        result = fit_posterior(target, FlowPosterior(2, n_layers), optimizer=settings)
        _, covariance = (t.double().numpy() for t in result.posterior.moments())
        for i in range(len(x)):
            _, exact = linear_gaussian.code_posterior(x[i], observed[i])
            np.testing.assert_allclose(covariance[i], exact, rtol=0.05, atol=0.01)


@pytest.mark.parametrize("width", [0.1, 0.3])
@pytest.mark.parametrize("latent_dim", [1, 2])
def test_between_two_modes_it_takes_one(width: float, latent_dim: int) -> None:
    def log_likelihood(z: Tensor, rows: Tensor) -> Tensor:
        return -0.5 * ((1.0 - z[..., 0].square()) / width).square()

    target = FunctionTarget(log_likelihood, 2, latent_dim)
    mean, _ = fit_posterior(target, GaussianPosterior(latent_dim)).posterior.moments()
    torch.testing.assert_close(mean[:, 0].abs(), torch.ones(2), atol=0.1, rtol=0)


def _rough(x: Tensor) -> FunctionTarget:
    weight = 2.0 * torch.randn(6, 3, generator=torch_generator(0))

    def log_likelihood(z: Tensor, rows: Tensor) -> Tensor:
        return -8.0 * (x[rows] - torch.tanh(z.unsqueeze(-2) * weight).sum(-1)).square().sum(-1)

    return FunctionTarget(log_likelihood, len(x), 3)


def test_convergence_means_that_little_is_left_to_gain() -> None:
    target = _rough(torch.randn(60, 6, generator=torch_generator(1)))
    loose, tight = (
        fit_posterior(target, GaussianPosterior(3), optimizer=Newton(**options))
        for options in ({"tol": 0.01}, {"tol": 1e-4, "max_iter": 200, "n_draws": 64})
    )
    assert loose.converged.all()
    gap = _fresh_bound(target, tight.posterior.parameters) - _fresh_bound(
        target, loose.posterior.parameters
    )
    assert float(gap.mean()) < 0.03


def test_slots_without_a_row_outlast_the_noise() -> None:
    """The last rows of a table keep slots in step whose own rows left long ago."""
    result = fit_posterior(
        _rough(torch.randn(33, 6, generator=torch_generator(1))),
        GaussianPosterior(3),
        optimizer=Newton(max_iter=8, tol=0.0),
        batch_size=32,
    )
    assert result.n_iter.tolist() == [8] * 33


def _fresh_bound(target: FunctionTarget, parameters: Tensor) -> Tensor:
    from sklearn_qavi.inference._objectives import elbo

    noise = torch.randn(4000, 1, 3, generator=torch_generator(9))
    block = target.block(torch.arange(len(parameters)))
    return elbo(block, GaussianPosterior(3), parameters, noise)


def test_few_draws_and_many_dimensions_keep_the_diagonal_only() -> None:
    sharpness = torch.linspace(1.0, 30.0, 60)

    def log_likelihood(z: Tensor, rows: Tensor) -> Tensor:
        return -0.5 * (sharpness * (z - 0.5).square()).sum(-1)

    target = FunctionTarget(log_likelihood, 3, 60)
    result = fit_posterior(target, GaussianPosterior(60), optimizer=Newton())
    mean, covariance = result.posterior.moments()
    exact = sharpness / (1 + sharpness) * 0.5
    torch.testing.assert_close(mean[0], exact, atol=0.02, rtol=0)
    torch.testing.assert_close(
        covariance[0].diagonal().rsqrt(), (1 + sharpness).sqrt(), rtol=0.05, atol=0
    )


def test_beta_zero_ends_at_the_mode() -> None:
    target = FunctionTarget(lambda z, rows: -2.0 * (z - 1.0).square().sum(-1), 4, 2)
    mean, covariance = fit_posterior(target, GaussianPosterior(2), beta=0.0).posterior.moments()
    torch.testing.assert_close(mean, torch.ones(4, 2), atol=1e-2, rtol=0)
    assert covariance.max() < 1e-4


def test_newton_steps_are_refused_for_another_family() -> None:
    target = FunctionTarget(lambda z, rows: z.sum(-1), 1, 2)
    with pytest.raises(ValueError, match="GaussianPosterior, got a MixturePosterior"):
        fit_posterior(target, MixturePosterior(2), optimizer=Newton())


def test_dimensions_that_are_next_to_unused_do_not_stop_the_steps() -> None:
    """Their tiny curvature keeps LAPACK from converging in single precision."""
    first = [113.077606, -2.5898993, 8.72062683, -3.49658346, 0.360673249, 2.95171571, 1.68871474]
    first += [-4.35307217, 1.79697788, 5.06966639]
    second = [2.61994487, -4.41089726, 1.7685738, -0.182428803, -1.49297974, -0.854152869]
    second += [2.20178626, -0.908912157, -2.56424007]
    matrix = torch.zeros(1, 10, 10)
    matrix[0, 0, :] = matrix[0, :, 0] = torch.tensor(first)
    matrix[0, 1, 1:] = matrix[0, 1:, 1] = torch.tensor([float(f"{v}e-31") for v in second])
    values, vectors = _decomposed(matrix)
    again = ((vectors * values.unsqueeze(1)) @ vectors.mT)[:, :10, :10]
    torch.testing.assert_close(again, matrix, rtol=0, atol=1e-4)


@pytest.mark.parametrize("smallest", [1.0, 1e-3, 1e-6])
def test_absolute_values_by_products_are_those_of_a_decomposition(smallest: float) -> None:
    generator = torch_generator(0)
    vectors, _ = torch.linalg.qr(torch.randn(40, 10, 10, generator=generator))
    sizes = torch.logspace(0.0, float(np.log10(smallest)), 10)
    values = 100.0 * sizes * torch.randn(40, 10, generator=generator)
    matrix = (vectors * values.unsqueeze(1)) @ vectors.mT
    expected = (vectors * values.abs().unsqueeze(1)) @ vectors.mT
    absolute = absolute_by_products(0.5 * (matrix + matrix.mT))
    # twenty products of ten numbers each in single precision, relative to the largest eigenvalue
    error = (absolute - expected).abs().amax((1, 2)) / values.abs().amax(1)
    assert error.max() < 1e-5
    assert absolute_by_products(torch.zeros(2, 3, 3)).equal(torch.zeros(2, 3, 3))


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_steps_without_a_decomposition_end_at_the_same_bound(
    beta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = torch.randn(6, 4, generator=torch_generator(0))
    x = torch.randn(60, 6, generator=torch_generator(1))

    def log_likelihood(z: Tensor, rows: Tensor) -> Tensor:  # bends both ways
        return -4.0 * (x[rows] - torch.tanh(z @ weight.T)).square().sum(-1)

    target = FunctionTarget(log_likelihood, 60, 4)
    by_values = fit_posterior(target, GaussianPosterior(4), beta=beta)
    monkeypatch.setattr(_newton, "plan_for", lambda device: Plan(2**30, 4, True))
    monkeypatch.setattr(
        _newton, "_decomposed", lambda c: pytest.fail("No decomposition is needed.")
    )
    by_products = fit_posterior(target, GaussianPosterior(4), beta=beta)
    assert by_products.converged.all()
    assert abs(float((by_products.bound - by_values.bound).mean())) < 0.005
    # another path may end at another mode, hardly ever
    assert ((by_products.bound - by_values.bound).abs() < 0.02).float().mean() > 0.9
