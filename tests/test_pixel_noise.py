"""Noise that neighbouring pixels share: the Gaussian field, its completion, and what is learned."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from _factories import tiny_image_model, tiny_inpainter, tiny_layers
from sklearn_qavi import QAVIInpainter
from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative import PretrainedDecoder, WideResNetVAE, make_image_likelihood
from sklearn_qavi.generative._shared_noise import OWN_NOISE, learned_noise
from sklearn_qavi.generative._training import HiddenCells, least_in_turn
from sklearn_qavi.inference import Feature
from sklearn_qavi.sampling._given import Given, drawn_given, mean_given
from sklearn_qavi.sampling._pixel_noise import PixelNoise, _covariance

SHAPE = (1, 9, 7)
N_CELLS = 63
NOISE = PixelNoise(SHAPE, width=0.9, own=0.1)
HALF = (torch.arange(N_CELLS) % 7 < 4).unsqueeze(0)  # the left part is seen
EXACT = {"rtol": 0.0, "atol": 1e-12}


def gaussian(shape: tuple[int, int, int] = SHAPE) -> tuple[nn.Module, Tensor]:
    """Return normal pixels with a known scale, and means (1, 1, P) that a code is decoded to."""
    likelihood = make_image_likelihood("gaussian", shape).double().requires_grad_(False)
    means = torch.linspace(0.2, 0.8, likelihood.n_cells, dtype=torch.float64)
    return likelihood, means.reshape(1, 1, -1)


def scale_of(likelihood: nn.Module) -> float:
    _, scale = likelihood.family._location_and_scale(torch.zeros(likelihood.n_cells))
    return float(scale[0])


def covariance(noise: PixelNoise, n_cells: int = N_CELLS) -> Tensor:
    """Return the covariances of all pixels of a channel, (n, n)."""
    places = divmod(np.arange(n_cells), noise.image_shape[2])
    return torch.from_numpy(_covariance(noise, places, places))


def linear_map(noise: PixelNoise) -> Tensor:
    """Return what turns the normals behind all uniforms, (2 D,), into a field, (D, 2 D)."""
    units = torch.eye(2 * N_CELLS, dtype=torch.float64).reshape(-1, N_CELLS, 2)
    return noise.field(torch.special.ndtr(units)).T


class TestField:
    @pytest.mark.parametrize(("width", "own"), [(0.5, 0.02), (0.9, 0.1), (2.5, 0.6)])
    def test_covariances_are_those_of_the_description(self, width: float, own: float) -> None:
        noise = PixelNoise(SHAPE, width, own)
        root, wanted = linear_map(noise), covariance(noise)
        torch.testing.assert_close(root @ root.T, wanted, **EXACT)
        torch.testing.assert_close(torch.diagonal(wanted), torch.ones(N_CELLS).double(), **EXACT)

    def test_far_from_the_edges_the_correlation_is_that_of_two_smoothed_white_fields(self) -> None:
        noise = PixelNoise((1, 41, 41), width=2.0, own=0.25)
        middle = covariance(noise, 41 * 41)[20 * 41 + 20].reshape(41, 41)
        # a kernel of standard deviation w leaves exp(-d^2 / 4 w^2); it is cut off at 3 w
        for dy, dx in ((0, 1), (2, 0), (2, 3)):
            expected = 0.75 * np.exp(-(dy**2 + dx**2) / 16.0)
            assert float(middle[20 + dy, 20 + dx]) == pytest.approx(expected, abs=2e-3)

    def test_channels_share_nothing(self) -> None:
        noise = PixelNoise((2, 3, 4), 1.0, 0.1)
        u = torch.full((24, 2), 0.5, dtype=torch.float64)
        u[:12] = 0.9
        assert (noise.field(u)[12:] == 0).all()
        assert (noise.field(u)[:12] > 0).all()


class TestGiven:
    def test_missing_pixels_follow_the_conditional_distribution(self) -> None:
        """Mean and covariance of a normal vector given some of its entries, exactly."""
        likelihood, params = gaussian()
        seen, missing = HALF[0], ~HALF[0]
        x = params[0] + scale_of(likelihood) * torch.linspace(-2, 2, N_CELLS).double()
        score = torch.linspace(-2, 2, N_CELLS).double()[seen]
        assert NOISE.reach == 4  # one tile, and every seen pixel is within reach of a missing one
        whole = covariance(NOISE)
        known, across = whole[seen][:, seen], whole[missing][:, seen]
        weight = torch.linalg.solve(known, across.T).T

        def normals(cell_u: Tensor) -> Tensor:
            u = NOISE.uniforms(likelihood, params.expand(len(cell_u), 1, -1), cell_u, x, HALF)
            return torch.special.ndtri(u[:, 0, missing, 0])

        still = torch.full((1, 1, N_CELLS, 2), 0.5, dtype=torch.float64)
        torch.testing.assert_close(normals(still)[0], weight @ score, rtol=0, atol=1e-9)
        # what each normal behind the uniforms adds; small steps, as seen scores are cut off at 3.7
        units = 0.5 * torch.eye(2 * N_CELLS, dtype=torch.float64).reshape(-1, 1, N_CELLS, 2)
        root = 2.0 * (normals(torch.special.ndtr(units)) - normals(still)).T
        wanted = whole[missing][:, missing] - weight @ across.T
        torch.testing.assert_close(root @ root.T, wanted, rtol=0, atol=1e-8)

    def test_every_value_has_the_uniforms_that_give_it(self) -> None:
        for name, shape, options in (
            ("bernoulli", SHAPE, {}),
            ("continuous_bernoulli", SHAPE, {}),
            ("gaussian", (2, 3, 4), {"scale": "decoder"}),
            ("discretized_normal", (2, 3, 4), {"scale": "decoder"}),
            ("logistic_mixture", SHAPE, {"n_components": 3}),
            ("logistic_mixture", (3, 4, 5), {"n_components": 2}),
            ("logistic_mixture", (3, 4, 5), {"n_components": 2, "n_bits": 5}),
        ):
            likelihood = make_image_likelihood(name, shape, **options).double()
            generator = torch_generator(0)
            size = (5, 3, likelihood.n_outputs)
            params = torch.randn(size, generator=generator, dtype=torch.float64)
            uniform = torch.rand(5, 3, likelihood.n_cells, 2, generator=generator).double()
            uniform[..., 0].clamp_(1e-6, 1 - 1e-6)
            with torch.no_grad():
                x = likelihood.sample(params, uniform)
                for own, draw, u in zip(params, x, uniform[..., 0], strict=True):
                    first, last = likelihood.uniforms_of(own, likelihood.prepare(draw))
                    # a continuous Bernoulli is a series near to even odds, good to 1e-6
                    assert (first - 1e-6 <= u).all(), name
                    assert (u <= last + 1e-6).all(), name

    def test_draws_do_not_depend_on_their_company(self) -> None:
        likelihood = make_image_likelihood("logistic_mixture", (3, 20, 18), n_components=2)
        noise = PixelNoise((3, 20, 18), 0.85, 0.02)
        generator = torch_generator(1)
        params = torch.randn(20, 4, likelihood.n_outputs, generator=generator)
        u = torch.rand(20, 4, likelihood.n_cells, 2, generator=generator, dtype=torch.float64)
        x = torch.rand(4, likelihood.n_cells, generator=generator)
        observed = torch.rand(4, likelihood.n_cells, generator=generator) < 0.6
        observed[0] = False  # nothing to go on from
        with torch.no_grad():
            whole = drawn_given(likelihood, params, u, Given(x, observed, noise))
            for row, draws in product((0, 2), (slice(0, 1), slice(3, 20))):
                one = slice(row, row + 1)
                part = drawn_given(
                    likelihood, params[draws, one], u[draws, one], Given(x, observed, noise)[one]
                )
                assert torch.equal(part, whole[draws, one])

    def test_means_are_those_of_the_draws(self) -> None:
        likelihood, params = gaussian()
        x = params[0] + 2.0 * scale_of(likelihood)
        given, n = Given(x, HALF, NOISE), 4096
        many = params.expand(n, 1, -1)
        mean = mean_given(likelihood, many, given, np.random.default_rng(0)).mean(0)[0]
        still = torch.full((1, 1, N_CELLS, 2), 0.5, dtype=torch.float64)
        wanted = drawn_given(likelihood, params, still, given)[0, 0]
        reached = NOISE.reached(HALF)[0]
        assert reached.any()
        assert not (reached & HALF[0]).any()
        error = scale_of(likelihood) / n**0.5
        assert (mean - wanted)[reached].abs().max() < 5 * error
        assert (wanted - params[0, 0])[reached].abs().max() > 50 * error

    def test_a_channel_of_a_pixel_that_is_seen_in_part_tells_nothing(self) -> None:
        noise = PixelNoise((2, 3, 4), 1.0, 0.1)
        observed = torch.ones(1, 24, dtype=torch.bool)
        observed[:, :12] = False
        assert not noise.reached(observed).any()
        observed[:, 0] = True
        assert noise.reached(observed).sum() == 11

    def test_a_seen_pixel_tells_of_those_within_reach_alone(self) -> None:
        shape = (1, 40, 40)
        noise, likelihood, params = PixelNoise(shape, 0.85, 0.02), *gaussian(shape)
        observed = torch.zeros(1, 1600, dtype=torch.bool)
        observed[0, 15 * 40 + 16] = True  # at a corner of four tiles
        u = torch.full((1, 1, 1600, 2), 0.5, dtype=torch.float64)
        x = params[0] + scale_of(likelihood)
        drawn = drawn_given(likelihood, params, u, Given(x, observed, noise))
        moved = ((drawn - params)[0, 0] / scale_of(likelihood)).reshape(40, 40)
        near = noise.reached(observed).reshape(40, 40)
        assert noise.reach == 4
        assert near[11:20, 12:21].sum() == near.sum() == 80
        # it was one standard deviation off; of that a pixel at its side has a correlation of .7
        assert (moved[15, [15, 17]] > 0.6).all()
        assert (moved[[14, 16], 16] > 0.6).all()
        assert (moved[near] > 0).all()
        assert (moved[~near].abs() < 0.02).all()


class Constant(nn.Module):
    """A decoder whose images are grey, whatever the code."""

    latent_dim = 1

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.likelihood = make_image_likelihood("gaussian", shape).requires_grad_(False)

    def decode(self, z: Tensor) -> Tensor:
        return torch.full((*z.shape[:-1], self.likelihood.n_cells), 0.5) + 0.0 * z[..., :1]


def test_candidates_are_tried_until_one_does_worse() -> None:
    tried = []

    def score(n: int) -> float:
        tried.append(n)
        return {1: 3.0, 2: 2.0, 3: 2.5, 4: 0.0}[n]

    assert least_in_turn([1, 2, 3, 4], score) == 2
    assert tried == [1, 2, 3]
    assert least_in_turn([4], score) == 4


class TestLearned:
    SHAPE = (1, 12, 12)

    def images(self, width: float | None) -> Tensor:
        u = torch.rand(40, 144, 2, generator=torch_generator(0), dtype=torch.float64)
        normals = torch.special.ndtri(u[..., 0])
        if width is not None:
            normals = PixelNoise(self.SHAPE, width, 0.02).field(u)
        return 0.5 + scale_of(Constant(self.SHAPE).likelihood) * normals.float()

    @pytest.mark.parametrize("width", [None, 0.7, 1.5])
    def test_the_width_is_that_of_the_images(self, width: float | None) -> None:
        x = self.images(width)
        hidden = (torch.arange(144) % 12 < 6).expand(40, -1)
        cells = HiddenCells(x, ~hidden, hidden)
        found, own = learned_noise([Constant(self.SHAPE)], cells, 1.0, self.SHAPE)
        if width is None:
            assert found == 0.0 or own > 0.5
        else:
            assert width / 1.5 <= found <= 1.5 * width
            assert own < 0.5

    def test_images_that_are_hidden_as_a_whole_say_nothing(self) -> None:
        x, all_hidden = self.images(1.0), torch.ones(40, 144, dtype=torch.bool)
        cells = HiddenCells(x, ~all_hidden, all_hidden)
        found = learned_noise([Constant(self.SHAPE)], cells, 1.0, self.SHAPE)
        assert found == (0.0, OWN_NOISE)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
class TestInpainter:
    IMAGES = np.random.default_rng(0).random((12, 6, 6))
    MASK = np.arange(36).reshape(6, 6) % 6 < 3

    def fitted(self, **options: object) -> QAVIInpainter:
        return tiny_inpainter(**options).fit(self.IMAGES)

    def test_a_width_changes_draws_and_means_and_no_score(self) -> None:
        alone, shared = (self.fitted(noise_width=width) for width in (0.0, 1.0))
        X, asked = self.IMAGES[:3], {"mask": self.MASK}
        hidden = np.broadcast_to(self.MASK, X.shape)
        for draw in (lambda m: m.sample(X, 2, **asked), lambda m: m.transform(X, **asked)):
            one, other = draw(alone), draw(shared)
            assert not np.array_equal(one, other)
            np.testing.assert_array_equal(other[..., ~self.MASK], one[..., ~self.MASK])
        means = [m.sample(X, 2, pixel_noise=False, **asked) for m in (alone, shared)]
        np.testing.assert_array_equal(*means)
        scores = [m.score_missing(X, hidden, n_draws=8) for m in (alone, shared)]
        for name in scores[0]:
            np.testing.assert_array_equal(scores[0][name], scores[1][name])

    def test_none_takes_what_the_model_learned(self, tmp_path: Path) -> None:
        model = tiny_image_model(random_state=0).fit(self.IMAGES)
        model.noise_width_, model.own_noise_ = 1.5, 0.3
        model.save(tmp_path)
        for kept in (model, WideResNetVAE.load(tmp_path)):
            inpainter = QAVIInpainter(generative_model=kept, random_state=0).fit()
            assert inpainter._pixel_noise() == PixelNoise((1, 6, 6), 1.5, 0.3)
        model._take_kept({"inference_beta": 2.0})  # saved before there was shared noise
        assert QAVIInpainter(generative_model=model, random_state=0).fit()._pixel_noise() is None

    def test_a_width_that_is_not_read_is_an_error(self) -> None:
        for posterior in ("fill_zeros", Feature(), "pseudo_gibbs"):
            with pytest.raises(ValueError, match="noise_width would be ignored"):
                self.fitted(noise_width=1.0, posterior=posterior, max_iter=None)

    def test_a_likelihood_that_does_not_tell_its_noise_is_refused(self) -> None:
        columns = PretrainedDecoder(nn.utils.skip_init(nn.Linear, 2, 8), "gaussian", n_features=4)
        inpainter = QAVIInpainter(
            generative_model=columns, image_shape=(2, 2), noise_width=1.0, random_state=0
        )
        with pytest.raises(ValueError, match="takes image_shape"):
            inpainter.fit().transform(np.array([[[0.5, np.nan], [0.5, 0.5]]]).reshape(1, 4))

    def test_models_of_layers_share_noise_if_asked(self) -> None:
        images = np.random.default_rng(0).random((30, 8, 8))
        mask = np.arange(64).reshape(8, 8) % 8 < 4
        drawn = [
            QAVIInpainter(
                generative_model=tiny_layers(), max_iter=2, random_state=0, noise_width=width
            )
            .fit(images)
            .sample(images[:2], 2, mask=mask)
            for width in (None, 0.0, 1.0)
        ]
        np.testing.assert_array_equal(drawn[0], drawn[1])
        assert not np.array_equal(drawn[0], drawn[2])
