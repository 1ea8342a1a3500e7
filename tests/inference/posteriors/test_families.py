"""What holds for every family: densities, draws, gradients, start values."""

import math

import pytest
import torch
from torch import Tensor

from sklearn_qavi._random import torch_generator
from sklearn_qavi.inference import (
    POSTERIORS,
    FlowPosterior,
    FullGaussianPosterior,
    GaussianPosterior,
    MixturePosterior,
    Posterior,
    PosteriorFamily,
)
from sklearn_qavi.inference.posteriors import Start

FAMILIES = [
    pytest.param(lambda n: GaussianPosterior(n), id="gaussian"),
    pytest.param(lambda n: FullGaussianPosterior(n), id="full"),
    pytest.param(lambda n: MixturePosterior(n, 3), id="mixture"),
    pytest.param(lambda n: MixturePosterior(n, 3, "implicit"), id="mixture-implicit"),
    pytest.param(lambda n: FlowPosterior(n, 2, 8), id="flow"),
]


def random_parameters(family: PosteriorFamily, n_rows: int, seed: int = 0) -> Tensor:
    generator = torch_generator(seed)
    shape = (n_rows, family.n_parameters)
    return torch.randn(shape, generator=generator, dtype=torch.float64) * 0.3


def uniforms(n: int, n_dims: int, seed: int = 1) -> Tensor:
    u = torch.rand(n, 1, n_dims, generator=torch_generator(seed), dtype=torch.float64)
    return u.clamp(1e-9, 1 - 1e-9)


@pytest.mark.parametrize("make", FAMILIES)
def test_density_integrates_to_one(make) -> None:  # type: ignore[no-untyped-def]
    for latent_dim in (1, 2):
        family = make(latent_dim)
        parameters = random_parameters(family, 1)
        axis = torch.linspace(-12, 12, 401, dtype=torch.float64)
        grid = torch.cartesian_prod(*[axis] * latent_dim).reshape(-1, 1, latent_dim)
        mass = family.log_prob(parameters, grid).exp().sum() * (24 / 400) ** latent_dim
        assert float(mass) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("make", FAMILIES)
def test_draws_have_the_moments_that_the_family_reports(make) -> None:  # type: ignore[no-untyped-def]
    family = make(3)
    parameters = random_parameters(family, 4)
    z = family.rsample(parameters, family.noise_from_uniform(uniforms(100_000, family.n_noise)))
    mean, covariance = family.moments(parameters)
    centred = z - z.mean(0)
    sampled = torch.einsum("sbi,sbj->bij", centred, centred) / len(z)
    torch.testing.assert_close(z.mean(0), mean, atol=0.03, rtol=0.02)
    torch.testing.assert_close(sampled, covariance, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("make", FAMILIES)
def test_a_row_depends_on_its_own_parameters_alone(make) -> None:  # type: ignore[no-untyped-def]
    family = make(3)
    parameters = random_parameters(family, 4).requires_grad_()
    noise = family.noise_from_uniform(uniforms(5, family.n_noise))
    z = family.rsample(parameters, noise)
    (gradient,) = torch.autograd.grad(z[:, 2].sum(), parameters)
    assert gradient[2].abs().sum() > 0
    assert gradient[[0, 1, 3]].abs().sum() == 0


@pytest.mark.parametrize("make", FAMILIES)
def test_kl_is_the_expected_log_ratio(make) -> None:  # type: ignore[no-untyped-def]
    family = make(2)
    parameters = random_parameters(family, 3)
    noise = family.noise_from_uniform(uniforms(50_000, family.n_noise))
    z = family.rsample(parameters, noise)
    log_prior = -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)
    expected = (family.log_prob(parameters, z) - log_prior).mean(0)
    kl = family.kl(parameters, family.draw(parameters, noise))
    torch.testing.assert_close(kl, expected, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("make", FAMILIES)
def test_every_parameter_gets_a_gradient(make) -> None:  # type: ignore[no-untyped-def]
    family = make(3)
    parameters = random_parameters(family, 2).requires_grad_()
    draws = family.draw(parameters, family.noise_from_uniform(uniforms(64, family.n_noise)))
    bound = (draws.weight * (draws.z.sin() + draws.z.prod(-1, keepdim=True)).sum(-1)).sum(0)
    (gradient,) = torch.autograd.grad((bound - family.kl(parameters, draws)).sum(), parameters)
    if isinstance(family, FlowPosterior):
        # masked weights of the autoregressive networks have none by construction
        used = _flow_weights_in_use(family)
        assert (gradient[:, used] != 0).all()
        assert (gradient[:, ~used] == 0).all()
    else:
        assert (gradient != 0).all()


def _flow_weights_in_use(family: FlowPosterior) -> Tensor:
    into, out = family._masks(torch.zeros(1))
    n = family.latent_dim
    direct = torch.ones(n, n).triu(1)
    feeds = out.any(1)
    layer = torch.cat(
        [
            (into * feeds).flatten(),
            feeds.float(),
            out.flatten(),
            direct.flatten(),
            torch.ones(2 * n),
        ]
    )
    return torch.cat([*[layer] * family.n_layers, torch.ones(2 * n)]).bool()


@pytest.mark.parametrize("make", FAMILIES)
def test_start_surrounds_the_rows_own_start(make) -> None:  # type: ignore[no-untyped-def]
    family = make(2)
    codes = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0]])
    # row 0 is explained by the first code alone, row 1 by the second
    log_likelihood = torch.tensor([[0.0, -900.0], [-900.0, 0.0], [-900.0, -900.0]])
    start = Start(codes[:2], torch.full((2, 2), 0.5), codes, log_likelihood)
    mean, _ = Posterior(family, family.initialize(start)).moments()
    torch.testing.assert_close(mean, codes[:2], atol=0.05, rtol=0.0)


def test_flow_density_matches_autograd_jacobian() -> None:
    family = FlowPosterior(3, 2, 8)
    parameters = random_parameters(family, 1)
    noise = torch.randn(3, generator=torch_generator(3), dtype=torch.float64)

    def forward(u: Tensor) -> Tensor:
        return family.rsample(parameters, u.reshape(1, 1, 3)).reshape(3)

    jacobian = torch.autograd.functional.jacobian(forward, noise)
    log_base = -0.5 * (noise.square() + math.log(2 * math.pi)).sum()
    expected = log_base - torch.linalg.slogdet(jacobian).logabsdet
    z = forward(noise).reshape(1, 1, 3)
    torch.testing.assert_close(family.log_prob(parameters, z).squeeze(), expected)
    draws = family.draw(parameters, noise.reshape(1, 1, 3))
    assert draws.log_q is not None
    torch.testing.assert_close(draws.log_q.squeeze(), expected)


def test_flow_starts_at_its_gaussian_start() -> None:
    codes = torch.randn(5, 3, generator=torch_generator(0))
    start = Start(codes[:2], torch.full((2, 3), 0.4), codes, torch.zeros(5, 2))
    gaussian, flow = GaussianPosterior(3), FlowPosterior(3)
    noise = torch.randn(7, 1, 3, generator=torch_generator(1))
    # the order of the dimensions is reversed by every layer, twice is none
    torch.testing.assert_close(
        flow.rsample(flow.initialize(start), noise),
        gaussian.rsample(gaussian.initialize(start), noise),
    )


@pytest.mark.parametrize("name", ["gaussian", "mixture", "flow"])
def test_option_table_makes_the_family_it_names(name: str) -> None:
    options = {"mixture": {"n_components": 3}, "flow": {"n_layers": 1}}.get(name, {})
    family = POSTERIORS[name](**options).family(4)
    expected = {"gaussian": "fullgaussian"}.get(name, name)
    assert type(family).__name__.lower() == f"{expected}posterior"
    assert family.latent_dim == 4
    assert all(getattr(family, option) == value for option, value in options.items())


def test_unknown_gradient_estimator_is_named() -> None:
    with pytest.raises(ValueError, match="gradient_estimator must be one of"):
        MixturePosterior(2, gradient_estimator="score")


def test_posterior_rows_can_be_taken_out() -> None:
    family = MixturePosterior(2, 3)
    posterior = Posterior(family, random_parameters(family, 5))
    z = torch.zeros(1, 5, 2, dtype=torch.float64)
    torch.testing.assert_close(posterior[1:3].log_prob(z[:, :2]), posterior.log_prob(z)[:, 1:3])
    assert len(posterior[1:3]) == 2
    first, again = posterior.sample(4, seed=3), posterior.sample(4, seed=3)
    assert first.equal(again)
    assert not first.equal(posterior.sample(4, seed=4))
