"""Observation models of images: quadrature, sums over levels, draws, extremes, missing channels."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative import IMAGE_LIKELIHOODS, ImageLikelihood, make_image_likelihood
from sklearn_qavi.generative._likelihoods import ContinuousBernoulliLikelihood
from sklearn_qavi.generative._likelihoods._logistic_mixture import (
    LogisticMixtureLikelihood,
    _points,
)

LEVELS = torch.arange(256, dtype=torch.float64) / 255
LOGITS = torch.tensor([0.0, 1e-5, -1e-3, 0.02, -0.99, 1.01, 8.0, -60.0, 400.0], dtype=torch.float64)


def _likelihood(name: str, shape: tuple[int, int, int] = (1, 1, 9), **options: object) -> Tensor:
    return make_image_likelihood(name, shape, **options).double().requires_grad_(False)


def _scaled(name: str, location: list[float], scale: float) -> tuple[ImageLikelihood, Tensor]:
    """Return a likelihood whose decoder gives the scale, and parameters (1, P)."""
    likelihood = _likelihood(name, (1, 1, len(location)), scale="decoder")
    wanted = torch.tensor(scale - likelihood.family.min_scale, dtype=torch.float64)
    raw = torch.log(torch.expm1(wanted))
    params = torch.cat([torch.tensor(location, dtype=torch.float64), raw.expand(len(location))])
    return likelihood, params.unsqueeze(0)


def _masses(likelihood: ImageLikelihood, params: Tensor) -> Tensor:
    """Return the masses (256, D) of the levels, the same level in all cells."""
    x = LEVELS.to(params).unsqueeze(1).expand(-1, likelihood.n_cells)
    return likelihood.log_prob(params, likelihood.prepare(x)).exp()


def _quadrature() -> tuple[Tensor, Tensor]:
    """Return points and weights of Gauss and Legendre on 200 pieces of [0, 1]."""
    node, weight = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(20))
    edge = 0.5 - 0.5 * torch.cos(torch.linspace(0, torch.pi, 201, dtype=torch.float64))
    half = (edge.diff() / 2).unsqueeze(1)
    return ((edge[:-1, None] + half) + half * node).flatten(), (half * weight).flatten()


class TestContinuousBernoulli:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_torchs_density_is_torchs(self, dtype: torch.dtype) -> None:
        likelihood = ContinuousBernoulliLikelihood(1, density="torch").to(dtype)
        params = torch.tensor([0.0, 0.4, -3.0, 12.0, -20.0, 45.0, 300.0], dtype=dtype).view(
            -1, 1, 1
        )
        theirs = torch.distributions.ContinuousBernoulli(logits=params)
        x = torch.linspace(0.0, 1.0, 9, dtype=dtype).view(-1, 1)
        log_prob = likelihood.log_prob(params, likelihood.prepare(x))
        # theirs takes 1 - lambda from lambda: at 12, an error of 2e-3 of its logarithm in floats
        close = {"rtol": 0.0, "atol": 2e-3 if dtype == torch.float32 else 1e-9}
        torch.testing.assert_close(log_prob, theirs.log_prob(x), **close)
        torch.testing.assert_close(likelihood.mean(params), theirs.mean, rtol=1e-4, atol=1e-4)
        u = torch.full((7, 1, 1, 2), 0.3, dtype=dtype)
        drawn = likelihood.sample(params, u)
        torch.testing.assert_close(drawn, theirs.icdf(u[..., 0]), rtol=1e-4, atol=1e-4)

    def test_torchs_density_falls_short_beyond_a_floats_precision(self) -> None:
        x, weight = _quadrature()
        prepared = ContinuousBernoulliLikelihood(1).prepare(x.float().unsqueeze(1))
        totals = {}
        for density in ("exact", "torch"):
            likelihood = ContinuousBernoulliLikelihood(1, density=density)
            log_prob = likelihood.log_prob(torch.tensor([45.0]), prepared).double()
            totals[density] = float((weight.unsqueeze(1) * log_prob.exp()).sum())
        assert totals["exact"] == pytest.approx(1.0, abs=1e-5)
        # log(45 / 15.94), the nats that a cell is given too little
        assert math.log(totals["torch"]) == pytest.approx(math.log(15.9424 / 45.0), abs=1e-4)
        with pytest.raises(ValueError, match="density must be 'exact' or 'torch'"):
            ContinuousBernoulliLikelihood(1, density="clamped")

    def test_density_integrates_to_one_and_gives_mean_and_entropy(self) -> None:
        likelihood = _likelihood("continuous_bernoulli", max_logit=500.0)
        params = LOGITS.unsqueeze(0)
        x, weight = _quadrature()
        log_p = likelihood.log_prob(params, likelihood.prepare(x.unsqueeze(1).expand(-1, 9)))
        weight = weight.unsqueeze(1)
        close = {"atol": 1e-9, "rtol": 0}
        total = (weight * log_p.exp()).sum(0)
        torch.testing.assert_close(total, torch.ones_like(total), **close)
        mean = (weight * log_p.exp() * x.unsqueeze(1)).sum(0)
        torch.testing.assert_close(mean, likelihood.mean(params)[0], **close)
        entropy = -(weight * log_p.exp() * log_p).sum(0)
        torch.testing.assert_close(entropy, likelihood.entropy(params)[0], atol=1e-8, rtol=0)

    def test_draws_invert_the_distribution_function(self) -> None:
        likelihood = _likelihood("continuous_bernoulli", max_logit=500.0)
        u = torch.linspace(0.001, 0.999, 50, dtype=torch.float64)
        uniform = u.view(-1, 1, 1).expand(-1, 9, 2)
        x = likelihood.sample(LOGITS.expand(50, -1), uniform)
        # F(x) = expm1(a x) / expm1(a), from the other end where that overflows
        a = -LOGITS.abs()
        y = torch.where(LOGITS > 0, 1 - x, x)
        reached = torch.where(a == 0, y, torch.expm1(a * y) / torch.expm1(a))
        wanted = torch.where(LOGITS > 0, 1 - u.unsqueeze(1), u.unsqueeze(1))
        torch.testing.assert_close(reached, wanted, atol=1e-6, rtol=0)

    def test_draws_carry_the_gradient_of_the_mean(self) -> None:
        likelihood = ContinuousBernoulliLikelihood(1)
        for logit in (0.0, 1e-4, 0.9, -5.0):
            a = torch.tensor([logit], dtype=torch.float64, requires_grad=True)
            u = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
            drawn = likelihood.sample(a.expand(4000, 1), u.view(-1, 1, 1).expand(-1, 1, 2)).mean()
            (by_draws,) = torch.autograd.grad(drawn, a)
            (exact,) = torch.autograd.grad(likelihood.mean(a).sum(), a)
            assert float(by_draws) == pytest.approx(float(exact), abs=1e-5)

    def test_large_logits_grow_as_logarithms_and_keep_a_gradient(self) -> None:
        likelihood = ContinuousBernoulliLikelihood(1, max_logit=50.0)
        free = ContinuousBernoulliLikelihood(1, max_logit=1e9)
        logit = torch.tensor([[-70.0], [49.0], [51.0]], dtype=torch.float64, requires_grad=True)
        x = torch.full((3, 1), 0.2, dtype=torch.float64)
        limited = torch.tensor([[-50 - math.log(21.0)], [49.0], [50 + math.log(2.0)]]).double()
        value = likelihood.log_prob(logit, likelihood.prepare(x))
        expected = free.log_prob(limited, free.prepare(x))
        torch.testing.assert_close(value, expected, atol=1e-5, rtol=0)
        (gradient,) = torch.autograd.grad(value.sum(), logit)
        assert bool((gradient.abs() > 1e-4).all())

    def test_single_precision_is_smooth_around_even_odds(self) -> None:
        likelihood = ContinuousBernoulliLikelihood(1)
        logit = torch.linspace(-2, 2, 20_001).unsqueeze(1).requires_grad_()
        x = torch.tensor([[0.3]])
        value = likelihood.log_prob(logit, likelihood.prepare(x))
        exact = likelihood.log_prob(logit.double(), likelihood.prepare(x.double()))
        torch.testing.assert_close(value.double(), exact, atol=3e-7, rtol=0)
        for function in (value, likelihood.mean(logit)):
            (gradient,) = torch.autograd.grad(function.sum(), logit, retain_graph=True)
            assert float(gradient.diff(dim=0).abs().max()) < 1e-4


@pytest.mark.parametrize("scale", [0.0006, 0.004, 0.1, 3.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_discretized_normal_sums_to_one(scale: float, dtype: torch.dtype) -> None:
    likelihood, params = _scaled("discretized_normal", [-2.0, 0.0, 0.3, 0.5, 1.0, 1.7], scale)
    likelihood.to(dtype)
    total = _masses(likelihood, params.to(dtype)).sum(0)
    # the two levels at an edge round it apart by eps, which counts by the density there: by
    # 0.4 / scale at the one edge in a narrow normal, by 255 in all at the edges of a wide one
    tolerance = torch.finfo(dtype).eps * (0.4 / scale + 255)
    torch.testing.assert_close(total, torch.ones_like(total), atol=tolerance, rtol=0)


def test_discretized_normal_has_the_masses_of_the_normal() -> None:
    likelihood, params = _scaled("discretized_normal", [0.2, 0.9, -0.01], 0.05)
    edges = (LEVELS[:-1] + LEVELS[1:]).unsqueeze(1) / 2
    below = torch.special.ndtr((edges - params[0, :3]) / 0.05)
    ends = torch.zeros(1, 3, dtype=torch.float64)
    expected = torch.cat([ends, below, ends + 1]).diff(dim=0)
    torch.testing.assert_close(_masses(likelihood, params), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("scale", [0.002, 0.02, 0.5])
def test_discretized_mean_is_that_of_the_masses(scale: float) -> None:
    likelihood, params = _scaled("discretized_normal", [-0.1, 0.0, 0.301, 0.5, 1.0, 1.1], scale)
    mean = (_masses(likelihood, params) * LEVELS.unsqueeze(1)).sum(0)
    tolerance = 1e-4 if scale > 0.01 else 0.5 / 255
    torch.testing.assert_close(likelihood.mean(params)[0], mean, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", ["discretized_normal", "gaussian"])
def test_learned_scales_are_those_of_channels_or_cells(name: str) -> None:
    shape = (3, 2, 2)
    x = torch.rand(5, 12, generator=torch_generator(0), dtype=torch.float64)
    by_decoder = _likelihood(name, shape, scale="decoder")
    for scale, n_scales in [("channel", 3), ("pixel", 12)]:
        likelihood = _likelihood(name, shape, scale=scale)
        raw = torch.randn(n_scales, generator=torch_generator(1), dtype=torch.float64)
        likelihood.family.raw_scale.copy_(raw)
        params = torch.rand(1, 12, generator=torch_generator(2), dtype=torch.float64)
        given = torch.cat([params, raw.repeat_interleave(12 // n_scales).unsqueeze(0)], dim=1)
        torch.testing.assert_close(
            likelihood.log_prob(params, likelihood.prepare(x)),
            by_decoder.log_prob(given, by_decoder.prepare(x)),
        )


def test_learned_scales_get_a_gradient() -> None:
    likelihood = make_image_likelihood("discretized_normal", (2, 1, 3), scale="channel")
    value = likelihood.log_prob(torch.zeros(1, 6), likelihood.prepare(torch.full((1, 6), 0.4)))
    value.sum().backward()
    assert bool((likelihood.family.raw_scale.grad.abs() > 0).all())


EXTREME = [
    ("bernoulli", {}),
    ("continuous_bernoulli", {}),
    ("gaussian", {"scale": "decoder"}),
    ("discretized_normal", {"scale": "decoder"}),
    ("discretized_normal", {"scale": "channel"}),
    ("logistic_mixture", {}),
    ("logistic_mixture", {"n_bits": 5}),
]


@pytest.mark.parametrize(("name", "options"), EXTREME)
@pytest.mark.parametrize("size", [0.0, 1e-6, 1.0, 30.0, 1e4])
def test_values_and_gradients_are_finite_at_the_extremes(
    name: str, options: dict[str, object], size: float
) -> None:
    likelihood = make_image_likelihood(name, (3, 1, 4), **options)
    sign = torch.randint(0, 2, (20, likelihood.n_outputs), generator=torch_generator(0)) * 2.0 - 1
    params = (size * sign).requires_grad_()
    x = torch.tensor([0.0, 1.0, 0.5, 1 / 255]).repeat(3).expand(20, -1)
    value = likelihood.log_prob(params, likelihood.prepare(x))
    (gradient,) = torch.autograd.grad(value.sum(), params)
    u = torch.rand(20, 12, 2, generator=torch_generator(1)).clamp(1e-7, 1 - 1e-7)
    for result in (value, gradient, likelihood.mean(params), likelihood.sample(params, u)):
        assert torch.isfinite(result).all()


def test_far_tails_pull_with_the_gradient_of_the_normal() -> None:
    """Ten thousand scales away the masses are far below anything a float holds."""
    likelihood, params = _scaled("discretized_normal", [30.0], 0.003)
    params = params.float().requires_grad_()
    likelihood.float()
    value = likelihood.log_prob(params, likelihood.prepare(torch.tensor([[0.5]])))
    (gradient,) = torch.autograd.grad(value.sum(), params)
    nearest = 0.5 + 1.0 / 255  # the upper edge of the level
    assert float(gradient[0, 0]) == pytest.approx(-(30.0 - nearest) / 0.003**2, rel=1e-3)


@pytest.mark.parametrize("name", sorted(IMAGE_LIKELIHOODS))
def test_draws_have_the_mean_of_the_model(name: str) -> None:
    likelihood = _likelihood(name, (3, 1, 2))
    params = 0.5 * torch.randn(
        1, likelihood.n_outputs, generator=torch_generator(3), dtype=torch.float64
    )
    u = torch.rand(60_000, 6, 2, generator=torch_generator(5), dtype=torch.float64)
    draws = likelihood.sample(params.expand(len(u), -1), u)
    torch.testing.assert_close(draws.mean(0), likelihood.mean(params)[0], atol=0.01, rtol=0)


@pytest.mark.parametrize("name", sorted(IMAGE_LIKELIHOODS))
def test_what_inference_asks_of_columns_is_there(name: str) -> None:
    likelihood = make_image_likelihood(name, (2, 3, 4))
    assert likelihood.categorical_columns == []
    assert likelihood.n_categories == [None] * 24
    assert likelihood.families == [name] * 24
    assert likelihood.reparameterised.shape == (24,)
    assert likelihood.n_outputs % 12 == 0  # whole maps
    params = torch.zeros(5, 2, likelihood.n_outputs)
    assert likelihood.probabilities(params).shape == (5, 2, 0)
    assert likelihood.of_categories(likelihood.probabilities(params)) == {}


def test_names_and_options_are_checked() -> None:
    with pytest.raises(ValueError, match="must be one of"):
        make_image_likelihood("student_t", (1, 2, 2))
    with pytest.raises(ValueError, match="scale must be one of"):
        make_image_likelihood("gaussian", (1, 2, 2), scale="row")
    with pytest.raises(ValueError, match="not the options of likelihood='bernoulli'"):
        make_image_likelihood("bernoulli", (1, 2, 2), scale="pixel")
    with pytest.raises(ValueError, match="for 3 columns, but an image"):
        ImageLikelihood((1, 2, 2), ContinuousBernoulliLikelihood(3))


def _mixture(n_channels: int, n_pixels: int = 1) -> tuple[LogisticMixtureLikelihood, Tensor]:
    """Return a mixture and parameters (1, P) with scales of about five levels."""
    likelihood = _likelihood("logistic_mixture", (n_channels, 1, n_pixels), n_components=2)
    maps = torch.randn(likelihood.n_maps, n_pixels, generator=torch_generator(0)).double()
    maps[2 : 2 + 2 * n_channels] *= 0.5
    maps[2 + 2 * n_channels : 2 + 4 * n_channels] -= 3.0
    return likelihood, maps.flatten().unsqueeze(0)


def _all_colours(step: int) -> Tensor:
    """Return all values of two channels, (n * n, 2)."""
    return torch.cartesian_prod(LEVELS[::step], LEVELS[::step])


class TestLogisticMixture:
    def test_masses_of_two_channels_sum_to_one_together(self) -> None:
        likelihood, params = _mixture(2)
        log_p = likelihood.log_prob(params, likelihood.prepare(_all_colours(1)))
        assert float(log_p.sum(-1).exp().sum()) == pytest.approx(1.0, abs=1e-9)
        # and by the chain rule one by one
        assert float(log_p[::256, 0].exp().sum()) == pytest.approx(1.0, abs=1e-9)

    def test_means_are_those_of_the_masses(self) -> None:
        likelihood, params = _mixture(2)
        colours = _all_colours(1)
        mass = likelihood.log_prob(params, likelihood.prepare(colours)).sum(-1).exp()
        expected = (mass.unsqueeze(1) * colours).sum(0)
        torch.testing.assert_close(likelihood.mean(params)[0], expected, atol=2e-3, rtol=0)

    @pytest.mark.parametrize("n_channels", [3, 4])
    def test_means_of_later_channels_are_averages_over_the_earlier_ones(
        self, n_channels: int
    ) -> None:
        likelihood, params = _mixture(n_channels, n_pixels=20)
        u = torch.rand(10_000, 20 * n_channels, 2, generator=torch_generator(0)).double()
        draws = likelihood.sample(params, u)
        expected, error = draws.mean(0), draws.std(0) / len(draws) ** 0.5
        off = (likelihood.mean(params)[0] - expected).abs()
        # for rounding half a level, and as much again for few points in three dimensions
        tolerance = 2e-3 if n_channels == 3 else 4e-3
        assert bool((off < tolerance + 4 * error).all())

    def test_points_of_two_channels_are_a_lattice(self) -> None:
        points = 13 * _points(13, 2) - 0.5
        i = torch.arange(13.0).double()
        torch.testing.assert_close(points, torch.stack([i, 8 * i % 13]))

    @pytest.mark.parametrize("n_dims", [0, 1, 3, 5])
    def test_points_have_even_coordinates_of_their_own(self, n_dims: int) -> None:
        points = _points(13, n_dims)
        middles = ((torch.arange(13) + 0.5) / 13).double()
        torch.testing.assert_close(points.sort(-1).values, middles.expand(n_dims, -1))
        assert len(points.unique(dim=0)) == n_dims

    @pytest.mark.parametrize("pattern", list(product([True, False], repeat=3))[:-1])
    def test_observed_channels_sum_to_one_whatever_is_missing(self, pattern: list[bool]) -> None:
        likelihood, params = _mixture(3)
        seen = [c for c in range(3) if pattern[c]]
        x = torch.full((256 if len(seen) < 3 else 1, 3), 0.4, dtype=torch.float64)
        others = seen[:-1]
        observed = torch.tensor(pattern).expand(len(x), -1)
        if len(seen) == 3:
            by_cell = likelihood.log_prob(params, likelihood.prepare(x)).sum(-1)
            together = likelihood.log_prob_observed(params, likelihood.prepare(x), observed)
            torch.testing.assert_close(together, by_cell)
            return
        x[:, seen[-1]] = LEVELS
        last = likelihood.log_prob_observed(params, likelihood.prepare(x), observed).exp().sum()
        expected = 1.0
        if others:  # what the last one sums to is the mass of the others
            fewer = torch.zeros(1, 3, dtype=torch.bool)
            fewer[:, others] = True
            prepared = likelihood.prepare(x[:1])
            expected = float(likelihood.log_prob_observed(params, prepared, fewer).exp())
        # a missing channel is summed exactly unless two of them are
        assert float(last) == pytest.approx(expected, rel=1e-9)

    def test_a_missing_first_channel_is_summed_over_its_levels(self) -> None:
        likelihood, params = _mixture(2)
        colours = _all_colours(1)
        joint = likelihood.log_prob(params, likelihood.prepare(colours)).sum(-1).exp()
        expected = joint.view(256, 256).sum(0)
        observed = torch.tensor([[False, True]]).expand(256, -1)
        marginal = likelihood.log_prob_observed(
            params, likelihood.prepare(colours[:256]), observed
        ).exp()
        torch.testing.assert_close(marginal, expected, atol=1e-12, rtol=1e-9)

    def test_draws_and_means_given_a_channel_follow_the_conditional(self) -> None:
        likelihood, params = _mixture(2)
        colours = _all_colours(1)
        joint = likelihood.log_prob(params, likelihood.prepare(colours)).sum(-1).exp()
        joint = joint.view(256, 256)
        level = 140
        x = torch.full((1, 2), level / 255, dtype=torch.float64)
        u = torch.rand(20_000, 1, 2, 2, generator=torch_generator(0), dtype=torch.float64)
        for channel, mass in [(0, joint[:, level]), (1, joint[level])]:
            mass = mass / mass.sum()
            observed = torch.tensor([[channel != 0, channel != 1]])
            many = params.expand(20_000, 1, -1)
            drawn = likelihood.sample_given(many, u, x, observed)[:, 0, channel]
            mean = (mass * LEVELS).sum()
            assert float(drawn.mean()) == pytest.approx(float(mean), abs=0.004)
            share = torch.bincount((drawn * 255).round().long(), minlength=256) / len(drawn)
            assert float((share.cumsum(0) - mass.cumsum(0)).abs().max()) < 0.02
            given = likelihood.mean_given(params.unsqueeze(0), x, observed)
            assert float(given[0, 0, channel]) == pytest.approx(float(mean), abs=1e-9)

    def test_five_bits_are_thirty_two_levels_of_eight_bytes(self) -> None:
        _, params = _mixture(2)
        coarse = _likelihood("logistic_mixture", (2, 1, 1), n_components=2, n_bits=5)
        first_bytes = LEVELS[::8]
        colours = torch.cartesian_prod(first_bytes, first_bytes)
        mass = coarse.log_prob(params, coarse.prepare(colours)).sum(-1).exp()
        assert float(mass.sum()) == pytest.approx(1.0, abs=1e-9)
        # every byte of a level has the level's mass
        last_bytes = torch.cartesian_prod(LEVELS[7::8], LEVELS[7::8])
        same = coarse.log_prob(params, coarse.prepare(last_bytes)).sum(-1).exp()
        torch.testing.assert_close(same, mass)
        # a missing first channel is summed over the levels
        observed = torch.tensor([[False, True]]).expand(32, -1)
        marginal = coarse.log_prob_observed(params, coarse.prepare(colours[:32]), observed).exp()
        torch.testing.assert_close(marginal, mass.view(32, 32).sum(0), atol=1e-12, rtol=1e-9)
        # draws and means stand in the middles of levels
        middles = first_bytes + 3.5 / 255
        u = torch.rand(4000, 2, 2, generator=torch_generator(0), dtype=torch.float64)
        drawn = coarse.sample(params.expand(4000, -1), u)
        assert set(drawn.flatten().mul(255).round(decimals=3).tolist()) <= set(
            middles.mul(255).round(decimals=3).tolist()
        )
        expected = (mass.unsqueeze(1) * torch.cartesian_prod(middles, middles)).sum(0)
        torch.testing.assert_close(drawn.mean(0), expected, atol=0.01, rtol=0)
        torch.testing.assert_close(coarse.mean(params)[0], expected, atol=0.01, rtol=0)
        options = {"n_components": 2, "n_bits": 5, "masses": "exact"}
        assert coarse.options == {"logistic_mixture": options}
        with pytest.raises(ValueError, match="1 to 8 bits"):
            make_image_likelihood("logistic_mixture", (1, 2, 2), n_bits=9)

    def test_gradients_pass_through_missing_channels(self) -> None:
        likelihood, params = _mixture(3, 2)
        x = torch.rand(2, 6, generator=torch_generator(1), dtype=torch.float64)
        observed = torch.tensor([[0, 1, 1, 1, 0, 1], [1, 0, 0, 0, 1, 1]]).bool()
        prepared = likelihood.prepare(x)

        def total(p: Tensor) -> Tensor:
            return likelihood.log_prob_observed(p, prepared, observed).sum()

        p = params.expand(3, 2, -1).clone().requires_grad_()
        (gradient,) = torch.autograd.grad(total(p), p)
        direction = torch.randn(p.shape, generator=torch_generator(2), dtype=torch.float64)
        with torch.no_grad():
            numeric = (total(p + 1e-5 * direction) - total(p - 1e-5 * direction)) / 2e-5
        assert float((gradient * direction).sum()) == pytest.approx(float(numeric), rel=1e-5)

    def test_pixels_do_not_see_each_other(self) -> None:
        likelihood, params = _mixture(3, 2)
        x = torch.rand(1, 6, generator=torch_generator(1), dtype=torch.float64)
        log_p = likelihood.log_prob(params, likelihood.prepare(x))
        x[:, 1::2] = 0.7
        changed = likelihood.log_prob(params, likelihood.prepare(x))
        torch.testing.assert_close(changed[:, ::2], log_p[:, ::2])
        assert not torch.allclose(changed[:, 1::2], log_p[:, 1::2])

    @pytest.mark.parametrize("pattern", [(0, 1, 1), (1, 0, 1)])
    @pytest.mark.parametrize("scale", [-6.5, -3.0, 2.0])
    def test_sums_over_a_missing_channel_and_their_gradient_are_exact(
        self, pattern: tuple[int, ...], scale: float
    ) -> None:
        likelihood, params = _mixture(3)
        params[:, 8:14] += scale + 3.0
        seen = [c for c in range(3) if pattern[c]]
        ends_and_middles = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
        x = torch.full((9, 3), 0.5, dtype=torch.float64)
        x[:, seen] = torch.cartesian_prod(ends_and_middles, ends_and_middles)
        observed = torch.tensor(pattern, dtype=torch.bool).expand(9, -1)
        params = params.expand(9, -1).clone().requires_grad_()
        summed = likelihood.log_prob_observed(params, likelihood.prepare(x), observed)
        filled = x.expand(256, 9, 3).clone()
        filled[..., pattern.index(0)] = LEVELS.unsqueeze(1)
        (values,) = likelihood.prepare(filled.flatten(0, 1))
        by_level = likelihood.log_prob(params, (values.unflatten(0, (256, 9)),)).sum(-1)
        expected = by_level.logsumexp(0)
        # the softplus behind it is cut off where it is within 2e-9 of a straight line
        torch.testing.assert_close(summed, expected, rtol=1e-9, atol=1e-8)
        gradients = [torch.autograd.grad(t.sum(), params)[0] for t in (summed, expected)]
        torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)

    def test_a_pixel_does_not_depend_on_the_others_to_the_last_bit(self) -> None:
        likelihood = make_image_likelihood("logistic_mixture", (3, 4, 4), n_components=2)
        generator = torch_generator(0)

        def draw() -> tuple[Tensor, Tensor, Tensor]:
            params = torch.randn(2, 32, likelihood.n_outputs, generator=generator)
            x, u = torch.rand(2, 32, 48, generator=generator)
            return params, x, u < 0.7

        first = draw()
        answers = []
        for place in (0, 5, 31):
            params, x, observed = draw()
            params[:, place], x[place], observed[place] = first[0][:, 0], first[1][0], first[2][0]
            params.requires_grad_()
            value = likelihood.log_prob_observed(params, likelihood.prepare(x), observed)
            (gradient,) = torch.autograd.grad(value.sum(), params)
            answers.append(torch.cat([value[:, place, None], gradient[:, place]], dim=1))
        assert torch.equal(answers[0], answers[1])
        assert torch.equal(answers[0], answers[2])

    @pytest.mark.parametrize("log_scale", [-9.0, -3.0])
    def test_three_missing_channels_leave_a_distribution(self, log_scale: float) -> None:
        likelihood = _likelihood("logistic_mixture", (4, 1, 1), n_components=2).float()
        params = torch.randn(1, likelihood.n_outputs, generator=torch_generator(0))
        params[:, 10:18] = log_scale
        x = torch.full((256, 4), 0.4)
        x[:, 3] = LEVELS
        observed = torch.tensor([False, False, False, True]).expand(256, -1)
        log_mass = likelihood.log_prob_observed(params, likelihood.prepare(x), observed)
        assert log_mass.dtype == torch.float32
        assert float(log_mass.exp().sum()) == pytest.approx(1.0, abs=1e-4)


class TestPublishedMasses:
    """Those of 5 bits: 1/31 to each side of a level, and no tail above the last."""

    def test_they_are_those_of_the_description(self) -> None:
        likelihood = _likelihood(
            "logistic_mixture", (1, 1, 1), n_components=2, n_bits=5, masses="published"
        )
        logits, centres, scales = (0.3, -0.6), (-0.4, 0.8), (0.05, 0.2)
        params = torch.tensor([[*logits, *centres, *map(math.log, scales)]], dtype=torch.float64)
        level = torch.arange(32, dtype=torch.float64) * 8
        y = (level - 127.5) / 127.5
        expected = torch.zeros(32, dtype=torch.float64)
        shares = torch.tensor(logits, dtype=torch.float64).softmax(0)
        for share, centre, scale in zip(shares, centres, scales, strict=True):
            upper = torch.sigmoid((y + 1 / 31 - centre) / scale)
            lower = torch.sigmoid((y - 1 / 31 - centre) / scale)
            expected += share * torch.where(level == 0, upper, upper - lower)
        x = (level / 255).unsqueeze(1)
        masses = likelihood.log_prob(params, likelihood.prepare(x)).exp()[:, 0]
        torch.testing.assert_close(masses, expected)
        exact = _likelihood("logistic_mixture", (1, 1, 1), n_components=2, n_bits=5)
        total = exact.log_prob(params, exact.prepare(x)).exp().sum()
        assert float(total) == pytest.approx(1.0)
        assert float(masses.sum()) < 0.98  # what lies above the last level

    def test_with_8_bits_there_is_no_difference(self) -> None:
        params = torch.randn(1, 6, generator=torch_generator(0), dtype=torch.float64)
        both = [
            _masses(_likelihood("logistic_mixture", (1, 1, 1), n_components=2, masses=m), params)
            for m in ("exact", "published")
        ]
        torch.testing.assert_close(both[0], both[1])

    def test_pixels_observed_in_part_keep_masses_that_can_be_summed(self) -> None:
        params = torch.randn(1, 10, generator=torch_generator(0), dtype=torch.float64)
        x = torch.tensor([[0.2, 0.7, 0.4]], dtype=torch.float64)
        seen = torch.tensor([[False, True, True]])
        both = []
        for masses in ("exact", "published"):
            options = {"n_components": 1, "n_bits": 5, "masses": masses}
            likelihood = _likelihood("logistic_mixture", (3, 1, 1), **options)
            both.append(likelihood.log_prob_observed(params, likelihood.prepare(x), seen))
        assert both[0].equal(both[1])
        with pytest.raises(ValueError, match="masses must be"):
            _likelihood("logistic_mixture", (3, 1, 1), masses="wide")
