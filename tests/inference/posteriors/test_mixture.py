"""Both gradient estimators of the mixture against the gradient of a bound by quadrature."""

import math

import pytest
import torch
from torch import Tensor

from sklearn_qavi._random import torch_generator
from sklearn_qavi.inference import FunctionTarget, MixturePosterior, fit_posterior
from sklearn_qavi.inference._objectives import elbo


class WavyBlock:
    """A smooth log likelihood with several bumps, one row."""

    def __call__(self, z: Tensor) -> Tensor:
        first, last = z[..., 0], z[..., -1]
        return -0.3 * (z.square().sum(-1) - 1.5).square() + (1.3 * first - 0.7 * last).sin()

    def shared(self, z: Tensor) -> Tensor:
        raise AssertionError("not needed")


def _parameters(family: MixturePosterior) -> Tensor:
    logits = torch.tensor([[0.2, -0.4]], dtype=torch.float64)
    n = family.latent_dim
    mean = torch.tensor([[-0.8, 0.3, 0.9, -0.5]], dtype=torch.float64)[:, : 2 * n]
    raw_scale = torch.tensor([[-0.2, 0.1, -0.6, 0.2]], dtype=torch.float64)[:, : 2 * n]
    return torch.cat([logits, mean, raw_scale], dim=-1).requires_grad_()


def _bound_by_quadrature(family: MixturePosterior, parameters: Tensor, beta: float) -> Tensor:
    n_points = 4001 if family.latent_dim == 1 else 501
    axis = torch.linspace(-8, 8, n_points, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * family.latent_dim).reshape(-1, 1, family.latent_dim)
    log_q = family.log_prob(parameters, grid)
    log_prior = -0.5 * (grid.square() + math.log(2 * math.pi)).sum(-1)
    value = WavyBlock()(grid) - beta * (log_q - log_prior)
    return (log_q.exp() * value).sum() * (16 / (n_points - 1)) ** family.latent_dim


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize("estimator", ["stratified", "implicit"])
@pytest.mark.parametrize("beta", [1.0, 0.4])
def test_gradient_matches_quadrature(latent_dim: int, estimator: str, beta: float) -> None:
    family = MixturePosterior(latent_dim, 2, estimator)
    parameters = _parameters(family)
    exact = _bound_by_quadrature(family, parameters, beta)
    (exact_gradient,) = torch.autograd.grad(exact, parameters)
    bounds, gradients = [], []
    for repeat in range(60):
        u = torch.rand(
            2000, 1, family.n_noise, generator=torch_generator(repeat), dtype=torch.float64
        )
        noise = family.noise_from_uniform(u.clamp(1e-9, 1 - 1e-9))
        bound = elbo(WavyBlock(), family, parameters, noise, beta)
        bounds.append(bound.detach())
        gradients.append(torch.autograd.grad(bound.sum(), parameters)[0])
    for estimate, truth in [(bounds, exact.detach()), (gradients, exact_gradient)]:
        stacked = torch.stack(estimate)
        error = stacked.std(0) / len(stacked) ** 0.5
        assert ((stacked.mean(0) - truth).abs() < 4.5 * error + 1e-6).all()
        assert (error < 0.02).all()


def test_stratified_weights_have_the_smaller_gradient_variance() -> None:
    """With modes far apart the score-like implicit estimator of the weights is the noisier one."""
    spread = {}
    for estimator in ("stratified", "implicit"):
        family = MixturePosterior(1, 2, estimator)
        parameters = _parameters(family).detach()
        parameters[0, 2:4] = torch.tensor([-3.0, 3.0], dtype=torch.float64)
        parameters.requires_grad_()
        gradients = []
        for repeat in range(100):
            u = torch.rand(16, 1, 2, generator=torch_generator(repeat), dtype=torch.float64)
            bound = elbo(WavyBlock(), family, parameters, family.noise_from_uniform(u))
            gradients.append(torch.autograd.grad(bound.sum(), parameters)[0][0, :2])
        spread[estimator] = torch.stack(gradients).std(0).sum()
    assert spread["stratified"] < spread["implicit"]


def test_components_of_a_row_start_around_that_row() -> None:
    from sklearn_qavi.inference.posteriors import Start

    family = MixturePosterior(1, 4)
    codes = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]])
    log_likelihood = torch.tensor([[0.0, -400.0], [0.0, -400.0], [-400.0, 0.0], [-400.0, 0.0]])
    start = Start(torch.tensor([[-1.5], [1.5]]), torch.full((2, 1), 0.5), codes, log_likelihood)
    _, mean, _ = family.components(family.initialize(start))
    assert (mean[0] < 0).all()
    assert (mean[1] > 0).all()
    # both hypotheses about a row are kept
    assert len(mean[0].unique()) == 2


@pytest.mark.parametrize("latent_dim", [40, 60])
def test_two_hypotheses_get_their_exact_weights_in_few_and_in_many_dimensions(
    latent_dim: int,
) -> None:
    """The first code is at 2 or -2, the others are known well: mixtures are exact."""
    weight, mode, scale = torch.tensor([0.7, 0.3]), torch.tensor([2.0, -2.0]), 0.3
    others = torch.linspace(-1, 1, latent_dim - 1)

    def log_likelihood(z: Tensor, rows: Tensor) -> Tensor:
        first = z[..., :1]
        modes = -0.5 * ((first - mode) / scale).square() - math.log(scale)
        ambiguous = torch.logsumexp(weight.log() + modes, dim=-1) + 0.5 * first[..., 0].square()
        return ambiguous - 2.0 * (z[..., 1:] - others).square().sum(-1)

    target = FunctionTarget(log_likelihood, n_rows=1, latent_dim=latent_dim)
    result = fit_posterior(target, MixturePosterior(latent_dim), seed=0)
    # N(other; z, 1/4) has evidence N(other; 0, 5/4)
    evidence = -0.4 * others.square().sum() - 0.5 * math.log(5.0) * len(others)
    assert float(result.bound) == pytest.approx(float(evidence), abs=0.05)
    found, mean, _ = result.posterior.family.components(result.posterior.parameters)
    assert float(found[mean[..., 0] > 0].sum()) == pytest.approx(0.7, abs=0.03)
    assert bool(result.converged)
