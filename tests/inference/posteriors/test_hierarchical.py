"""HierarchicalPosterior: exact on a linear chain, its two ends, density, divergence, gradients."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from _linear_chain import LinearChain
from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative import make_image_likelihood
from sklearn_qavi.generative._hierarchical import HierarchicalArchitecture, HierarchicalNetwork
from sklearn_qavi.inference import (
    Adam,
    Context,
    DecoderTarget,
    Hierarchical,
    HierarchicalPosterior,
    InferenceResult,
    fit_posterior,
)
from sklearn_qavi.inference._hierarchical import FilledImageStart
from sklearn_qavi.inference._objectives import hierarchical_bound


def small_network() -> HierarchicalNetwork:
    """Return a network of three layers on images of 4 x 4 pixels, with weights that matter."""
    shape = (1, 4, 4)
    architecture = HierarchicalArchitecture(
        shape, "4x1,4d2,2d2,1x1", "1x1,2m1,4m2", width=6, latent_channels=1, bottleneck=0.5
    )
    generator = torch_generator(0)
    network = HierarchicalNetwork(
        make_image_likelihood("gaussian", shape, scale="decoder"), architecture, generator
    )
    with torch.no_grad():  # priors start at zero
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network.double().eval().requires_grad_(False)


def rows(n: int, seed: int = 1) -> Tensor:
    return torch.rand(n, 16, generator=torch_generator(seed), dtype=torch.float64)


def normals(*shape: int, seed: int = 2) -> Tensor:
    return torch.randn(shape, generator=torch_generator(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def network() -> HierarchicalNetwork:
    return small_network()


@pytest.fixture(scope="module", params=["position", "layer"])
def family(network: HierarchicalNetwork, request: pytest.FixtureRequest) -> HierarchicalPosterior:
    return HierarchicalPosterior(network, weights=request.param)


@pytest.fixture(scope="module")
def parameters(network: HierarchicalNetwork, family: HierarchicalPosterior) -> Tensor:
    """Return parameters of two rows, neither the encoder's nor the prior's."""
    packed = family.pack(network.features(rows(2)), 0.7, 0.4)
    return packed + 0.3 * normals(*packed.shape, seed=9)


def infer_chain(
    chain: LinearChain, x: Tensor, observed: Tensor, weights: str = "position"
) -> InferenceResult:
    """Return the posteriors of rows of the chain, fitted with care."""
    careful = Adam(max_iter=800, n_draws=8, window=16, tol=0.0, min_learning_rate=0.003, decay=0.7)
    method = Hierarchical(optimizer=careful, fill="mean", weights=weights)
    return method.infer(chain, None, x, observed, Context())


class TestExact:
    @pytest.mark.parametrize("weights", ["position", "layer"])
    @pytest.mark.parametrize("n_hidden", [0, 3])
    def test_bound_reaches_the_evidence_of_a_linear_model(
        self, n_hidden: int, weights: str
    ) -> None:
        chain = LinearChain()
        mean, covariance = chain.moments()
        x = np.random.default_rng(n_hidden).multivariate_normal(mean, covariance, size=2)
        observed = np.ones(6, dtype=bool)
        observed[:n_hidden] = False
        exact = multivariate_normal(mean[observed], covariance[np.ix_(observed, observed)]).logpdf(
            x[:, observed]
        )
        values, mask = torch.from_numpy(x), torch.from_numpy(observed).expand(2, -1)
        result = infer_chain(chain, values, mask, weights)
        family, noise = HierarchicalPosterior(chain, weights=weights), normals(40_000, 2, 3)
        target = DecoderTarget(chain.decode, chain.likelihood, values, mask, 3)
        bound = hierarchical_bound(
            target.block(torch.arange(2)), family, result.posterior.parameters, noise
        )
        np.testing.assert_allclose(bound, exact, atol=0.03)  # Monte Carlo error is about 0.01
        np.testing.assert_allclose(result.bound, exact, atol=0.3)  # by few draws

    def test_draws_of_missing_cells_have_the_exact_moments(self) -> None:
        chain = LinearChain()
        mean, covariance = chain.moments()
        x = torch.from_numpy(np.random.default_rng(8).multivariate_normal(mean, covariance, 1))
        mask = torch.tensor([[True, False, True, False, False, True]])
        result = infer_chain(chain, x, mask)
        location = result.posterior.observation(normals(20_000, 1, 3), chain.decode)[:, 0, :6]
        seen, hidden = mask[0].numpy(), ~mask[0].numpy()
        gain = covariance[np.ix_(hidden, seen)] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
        expected = mean[hidden] + gain @ (x[0].numpy()[seen] - mean[seen])
        left = covariance[np.ix_(hidden, hidden)] - gain @ covariance[np.ix_(seen, hidden)]
        spread = np.diag(left) - chain.noise**2  # of the cells' means
        np.testing.assert_allclose(location.mean(0).numpy()[hidden], expected, atol=0.02)
        np.testing.assert_allclose(location.var(0).numpy()[hidden], spread, rtol=0.1)


class TestEnds:
    def test_without_weight_it_is_the_prior(
        self, network: HierarchicalNetwork, family: HierarchicalPosterior
    ) -> None:
        parameters = family.pack(network.features(rows(2)), 0.0, 0.0)
        noise = normals(5, 2, network.latent_dim)
        params, codes, kl = family.descend(parameters, noise)
        np.testing.assert_allclose(codes, noise, atol=1e-12)
        np.testing.assert_allclose(kl, 0.0, atol=1e-12)
        np.testing.assert_allclose(params, network.decode(noise), atol=1e-10)
        expected = torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum(-1)
        np.testing.assert_allclose(family.log_prob(parameters, noise), expected)

    def test_with_all_weight_it_is_the_encoders_posterior_layer_by_layer(
        self, network: HierarchicalNetwork, family: HierarchicalPosterior
    ) -> None:
        x = rows(2)
        noise = normals(1, 2, network.latent_dim)
        params, _, kl = family.descend(family.pack(network.features(x), 1.0, 1.0), noise)
        expected_params, expected_kl = network.encoder_posterior(x, noise[0])
        np.testing.assert_allclose(params[0], expected_params, atol=1e-10)
        np.testing.assert_allclose(kl[0], expected_kl, rtol=1e-9)
        assert (kl > 1e-3).all()  # so that the comparison says something

    def test_each_position_has_weights_of_its_own(self, network: HierarchicalNetwork) -> None:
        family, x = HierarchicalPosterior(network), rows(2)
        left = [torch.zeros(2, 1, r, r, dtype=torch.float64) for r in (1, 2, 4)]
        left[2][..., :2] = 1.0
        parameters = family.pack(network.features(x), left, left)
        noise = normals(3, 2, network.latent_dim)
        _, codes, kl = family.descend(parameters, noise)
        finest = codes[..., -16:].unflatten(-1, (4, 4))
        plain = noise[..., -16:].unflatten(-1, (4, 4))
        # the prior to the right and above, the encoder's posterior to the left
        np.testing.assert_allclose(codes[..., :-16], noise[..., :-16], atol=1e-12)
        np.testing.assert_allclose(finest[..., 2:], plain[..., 2:], atol=1e-12)
        np.testing.assert_allclose(kl[..., :2], 0.0, atol=1e-12)
        everywhere = [*left[:2], torch.ones_like(left[2])]
        _, others, _ = family.descend(
            family.pack(network.features(x), everywhere, everywhere), noise
        )
        expected = others[..., -16:].unflatten(-1, (4, 4))[..., :2]
        np.testing.assert_allclose(finest[..., :2], expected, atol=1e-12)
        assert (expected - plain[..., :2]).abs().min() > 1e-4


class TestDensity:
    def test_log_prob_follows_from_the_map_of_the_noise(
        self, network: HierarchicalNetwork, family: HierarchicalPosterior, parameters: Tensor
    ) -> None:
        noise = normals(1, 1, network.latent_dim)
        one = parameters[:1]

        def codes(noise: Tensor) -> Tensor:
            return family.rsample(one, noise.view(1, 1, -1)).view(-1)

        jacobian = torch.autograd.functional.jacobian(codes, noise.view(-1))
        expected = torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum()
        expected = expected - torch.linalg.slogdet(jacobian).logabsdet
        z = family.rsample(one, noise)
        np.testing.assert_allclose(family.log_prob(one, z).item(), expected.item(), rtol=1e-8)

    def test_decoded_is_one_walk_for_codes_parameters_and_densities(
        self, network: HierarchicalNetwork, family: HierarchicalPosterior, parameters: Tensor
    ) -> None:
        noise, walks = normals(3, 2, network.latent_dim), []
        hook = network.decoder.register_forward_pre_hook(lambda *_: walks.append(1))
        with torch.no_grad():
            decoded = family.decoded(parameters, noise, network.decode)
        hook.remove()
        assert len(walks) == 1
        params, codes, _ = family.descend(parameters, noise)
        np.testing.assert_allclose(decoded.params, params, atol=1e-12)
        log_prior = torch.distributions.Normal(0.0, 1.0).log_prob(codes).sum(-1)
        expected = log_prior - family.log_prob(parameters, codes)
        np.testing.assert_allclose(decoded.log_ratio, expected, atol=1e-8)

    def test_codes_decode_to_what_their_draws_do(
        self, network: HierarchicalNetwork, family: HierarchicalPosterior, parameters: Tensor
    ) -> None:
        params, codes, _ = family.descend(parameters, normals(3, 1, network.latent_dim))
        np.testing.assert_allclose(params, network.decode(codes), atol=1e-9)

    def test_divergence_is_the_mean_log_ratio(
        self, network: HierarchicalNetwork, family: HierarchicalPosterior, parameters: Tensor
    ) -> None:
        _, codes, kl = family.descend(parameters, normals(4000, 2, network.latent_dim))
        log_prior = torch.distributions.Normal(0.0, 1.0).log_prob(codes).sum(-1)
        ratio = family.log_prob(parameters, codes) - log_prior
        difference = ratio - kl.sum(-1)
        error = difference.std(0) / 4000**0.5
        assert (difference.mean(0).abs() < 4 * error).all()


class TestGradients:
    def test_warm_up_climbs_the_balanced_bound_and_reports_the_true_one(
        self, network: HierarchicalNetwork, family: HierarchicalPosterior, parameters: Tensor
    ) -> None:
        x, noise = rows(2), normals(4, 1, network.latent_dim)
        observed = torch.ones_like(x, dtype=torch.bool)
        observed[:, :7] = False
        block = DecoderTarget(
            network.decode, network.likelihood, x, observed, network.latent_dim
        ).block(torch.arange(2))
        leaf = parameters.clone().requires_grad_()
        warm = torch.tensor([True, False])
        value = hierarchical_bound(block, family, leaf, noise, 0.8, warm=warm)
        plain = hierarchical_bound(block, family, parameters, noise, 0.8)
        np.testing.assert_allclose(value.detach(), plain)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)

        weights = torch.tensor([[1.0, 1 / 4, 1 / 16], [1.0, 1.0, 1.0]], dtype=torch.float64)
        direction = normals(*parameters.shape, seed=7)
        direction /= direction.norm(dim=1, keepdim=True)

        def climbed(at: Tensor) -> Tensor:
            params, _, kl = family.descend(at, noise)
            return (block.of_decoded(params) - 0.8 * (weights * kl).sum(-1)).mean(0)

        h = 1e-5
        slope = (climbed(parameters + h * direction) - climbed(parameters - h * direction)) / (
            2 * h
        )
        np.testing.assert_allclose((gradient * direction).sum(1), slope, rtol=1e-5)

    @pytest.mark.parametrize(
        ("draws_at_a_time", "checkpointing"), [(None, True), (3, False), (1, True)]
    )
    def test_memory_options_change_nothing(
        self, network: HierarchicalNetwork, draws_at_a_time: int | None, checkpointing: bool
    ) -> None:
        x = rows(2)
        observed = torch.ones_like(x, dtype=torch.bool)
        observed[:, 5:] = False
        settings = HierarchicalPosterior.default_optimizer(3).with_options(max_iter=4, window=2)
        results = []
        for family in (
            HierarchicalPosterior(network),
            HierarchicalPosterior(network, draws_at_a_time, checkpointing=checkpointing),
        ):
            target = DecoderTarget(
                network.decode, network.likelihood, x, observed, network.latent_dim
            )
            results.append(
                fit_posterior(
                    target,
                    family,
                    optimizer=settings,
                    objective=hierarchical_bound,
                    starter=FilledImageStart(family, x, observed, "blur", 0.9, 0.1),
                )
            )
        np.testing.assert_allclose(
            results[0].posterior.parameters, results[1].posterior.parameters, atol=1e-8
        )
        np.testing.assert_allclose(results[0].bound, results[1].bound, rtol=1e-9)
