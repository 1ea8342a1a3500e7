"""QAVIInpainter: exact posteriors of linear images, every layout and type, and bad input."""

import copy
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import (
    check_get_params_invariance,
    check_no_attributes_set_in_init,
    check_param_validation,
    check_parameters_default_constructible,
    check_set_params,
)
from torch import nn

from _factories import quick_image_model, training
from _linear_images import LinearImages, LinearImageVAE, smooth_model
from sklearn_qavi import QAVIInpainter, _persistence
from sklearn_qavi.baselines import PosteriorMatching
from sklearn_qavi.datasets import make_image_masks
from sklearn_qavi.exceptions import (
    InferenceConvergenceWarning,
    InferenceDivergedError,
    ModelFormatError,
)
from sklearn_qavi.generative import PretrainedDecoder, WideResNetVAE
from sklearn_qavi.inference import Flow, Gaussian, Mixture
from sklearn_qavi.metrics import iwae

SHAPE = (1, 4, 5)
COLOUR = (3, 4, 5)


def inpainter(shape: tuple[int, int, int] = SHAPE, **options: Any) -> QAVIInpainter:
    """Return a fitted inpainter of the linear model of images of this shape."""
    model = LinearImages(smooth_model(shape), shape)
    return QAVIInpainter(**{"generative_model": model, "random_state": 0, **options}).fit()


def images(shape: tuple[int, int, int] = SHAPE, n: int = 6, seed: int = 1) -> np.ndarray:
    """Return images (n, C, H, W) of the linear model."""
    return smooth_model(shape).draw_rows(n, seed).clip(0, 1).reshape(n, *shape)


def missing_pixels(shape: tuple[int, ...], seed: int = 2, rate: float = 0.4) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < rate


def exact_means(X: np.ndarray, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Return images with the exact posterior means in place of NaN."""
    model, rows = smooth_model(shape), X.reshape(len(X), -1).copy()
    for row in rows:
        observed = ~np.isnan(row)
        row[~observed] = model.missing_given_observed(row, observed)[0]
    return rows.reshape(X.shape)


class TestExact:
    @pytest.mark.parametrize("start", ["best", "prior", "encoder"])
    def test_means_are_those_of_the_exact_posterior(self, start: str) -> None:
        X = np.where(missing_pixels((6, *SHAPE)), np.nan, images())
        completed = inpainter(posterior=Gaussian(start=start), tol=1e-5).transform(X)
        np.testing.assert_allclose(completed, exact_means(X), atol=2e-3)

    def test_channels_of_one_pixel_may_be_missing_alone(self) -> None:
        X = images(COLOUR)
        X[missing_pixels(X.shape)] = np.nan
        completed = inpainter(COLOUR, tol=1e-5).transform(X)
        np.testing.assert_allclose(completed, exact_means(X, COLOUR), atol=2e-3)

    def test_draws_have_the_exact_moments(self) -> None:
        X = np.where(missing_pixels((2, *SHAPE)), np.nan, images(n=2))
        draws = inpainter(tol=1e-5).sample(X, n=4000).reshape(4000, 2, -1)
        model = smooth_model()
        for i, row in enumerate(X.reshape(2, -1)):
            observed = ~np.isnan(row)
            mean, covariance = model.missing_given_observed(row, observed)
            np.testing.assert_allclose(draws[:, i, ~observed].mean(0), mean, atol=3e-3)
            drawn = np.cov(draws[:, i, ~observed].T)
            np.testing.assert_allclose(drawn, covariance, atol=0.12 * covariance.max())

    def test_the_mixture_agrees_on_what_has_one_answer(self) -> None:
        X = np.where(missing_pixels((4, *SHAPE)), np.nan, images(n=4))
        fitted = inpainter(posterior=Mixture(n_components=2))
        np.testing.assert_allclose(fitted.transform(X), exact_means(X), atol=0.02)

    def test_without_an_observed_pixel_draws_are_of_the_prior(self) -> None:
        X = np.full((1, *SHAPE), np.nan)
        draws = inpainter(tol=1e-6).sample(X, n=4000).reshape(4000, -1)
        model = smooth_model()
        spread = np.sqrt((model.weight**2).sum(1) + model.noise_scale**2)
        np.testing.assert_allclose(draws.mean(0), model.bias, atol=0.01)
        np.testing.assert_allclose(draws.std(0), spread, rtol=0.06)

    def test_intervals_are_those_of_the_exact_posterior(self) -> None:
        X = np.where(missing_pixels((1, *SHAPE)), np.nan, images(n=1))
        lower, upper = inpainter(tol=1e-5).predict_interval(X, level=0.8)
        row = X.reshape(-1)
        missing = np.isnan(row)
        mean, covariance = smooth_model().missing_given_observed(row, ~missing)
        half = norm.ppf(0.9) * np.sqrt(np.diag(covariance))
        np.testing.assert_allclose(lower.reshape(-1)[missing], mean - half, atol=0.25 * half.max())
        np.testing.assert_allclose(upper.reshape(-1)[missing], mean + half, atol=0.25 * half.max())
        np.testing.assert_array_equal(lower.reshape(-1)[~missing], row[~missing])

    def test_bound_and_scores_are_exact(self) -> None:
        X, hidden = images(n=3), missing_pixels((3, *SHAPE))
        fitted, model = inpainter(tol=1e-6), smooth_model()
        pooled = fitted.infer(np.where(hidden, np.nan, X))
        rows, masks = X.reshape(3, -1), hidden.reshape(3, -1)
        evidence = [model.log_prob_observed(x, ~m) for x, m in zip(rows, masks, strict=True)]
        np.testing.assert_allclose(pooled.bound, evidence, atol=0.3)
        scores = fitted.score_missing(X, hidden, n_draws=2000)
        joint = [
            model.log_prob_observed(x, np.ones_like(m)) for x, m in zip(rows, masks, strict=True)
        ]
        exact = np.array(joint) - np.array(evidence)
        np.testing.assert_allclose(scores["conditional"], exact, atol=0.1)
        np.testing.assert_allclose(scores["predictive"], exact, atol=0.6)
        assert iwae(fitted, X, hidden, n_draws=500) == pytest.approx(
            fitted.score_missing(X, hidden, n_draws=500)["iwae"].mean()
        )

    def test_score_hides_whole_pixels(self) -> None:
        X = images(COLOUR)
        fitted = inpainter(COLOUR)
        hidden = fitted._hide_pixels(~missing_pixels((6, 60))).reshape(6, 3, 20)
        observed = ~missing_pixels((6, 60)).reshape(6, 3, 20)
        pixels = hidden.any(axis=1)
        np.testing.assert_array_equal(hidden, pixels[:, None] & observed)
        assert 0.2 < pixels.mean() < 0.4
        assert fitted.score(X) > fitted.set_params(beta=50.0).score(X)


class TestKinds:
    @pytest.mark.parametrize("shape", [SHAPE, COLOUR])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
    @pytest.mark.parametrize("layout", ["first", "last", "flat", "flat last", "gray"])
    def test_images_come_back_in_the_kind_they_came_in(self, shape, dtype, layout) -> None:
        if layout == "gray" and shape != SHAPE:
            pytest.skip("three axes are images of one channel")
        plain = images(shape)
        levels = np.rint(255 * plain) / 255
        hidden = missing_pixels((6, 1, 4, 5)) & np.ones_like(plain, dtype=bool)
        last = "last" in layout
        given = (255 * levels).round() if dtype == np.uint8 else levels
        given, mask = given.astype(dtype), hidden
        if last:
            given, mask = given.transpose(0, 2, 3, 1), mask.transpose(0, 2, 3, 1)
        if "flat" in layout:
            given, mask = given.reshape(6, -1), mask.reshape(6, -1)
        if layout == "gray":
            given, mask = given[:, 0], mask[:, 0]
        fitted = inpainter(
            shape,
            data_format="channels_last" if last else "channels_first",
            image_shape=((4, 5, shape[0]) if last else shape) if "flat" in layout else None,
        )
        completed = fitted.transform(given, mask=mask)
        assert completed.dtype == dtype
        assert completed.shape == given.shape
        np.testing.assert_array_equal(completed[~mask], given[~mask])
        back = completed.astype(float) / (255 if dtype == np.uint8 else 1)
        if "flat" in layout:
            back = back.reshape(6, *((4, 5, -1) if last else (-1, 4, 5)))
        if last:
            back = back.transpose(0, 3, 1, 2)
        expected = inpainter(shape).transform(np.where(hidden, np.nan, levels))
        np.testing.assert_allclose(
            back.reshape(expected.shape), expected, atol=0.003 if dtype == np.uint8 else 1e-6
        )

    def test_masks_of_all_shapes_say_the_same(self) -> None:
        X, one = images(COLOUR), missing_pixels((4, 5))
        fitted = inpainter(COLOUR)
        expected = fitted.transform(np.where(one, np.nan, X))
        for mask in (one, np.tile(one, (6, 1, 1)), np.tile(one, (6, 1, 1, 1)),
                     np.tile(one, (6, 3, 1, 1))):  # fmt: skip
            np.testing.assert_array_equal(fitted.transform(X, mask=mask), expected)
        last = inpainter(COLOUR, data_format="channels_last")
        turned = X.transpose(0, 2, 3, 1)
        for mask in (
            one,
            np.tile(one[..., None], (6, 1, 1, 1)),
            np.tile(one[..., None], (6, 1, 1, 3)),
        ):
            again = last.transform(turned, mask=mask).transpose(0, 3, 1, 2)
            np.testing.assert_array_equal(again, expected)

    def test_nan_and_mask_add_up(self) -> None:
        X, a, b = images(), missing_pixels((6, *SHAPE), 3, 0.2), missing_pixels((6, *SHAPE), 4, 0.2)
        fitted = inpainter()
        both = fitted.transform(np.where(a | b, np.nan, X))
        np.testing.assert_array_equal(fitted.transform(np.where(a, np.nan, X), mask=b), both)

    def test_another_number_marks_missing_pixels(self) -> None:
        X, hidden = images(), missing_pixels((6, *SHAPE))
        marked = inpainter(missing_values=-1.0).transform(np.where(hidden, -1.0, X))
        np.testing.assert_array_equal(marked, inpainter().transform(np.where(hidden, np.nan, X)))

    def test_complete_images_come_back_at_once(self, monkeypatch) -> None:
        monkeypatch.setattr("sklearn_qavi.sampling.DecoderPool.infer", None)
        fitted, X = inpainter(), images()
        completed = fitted.transform(X)
        np.testing.assert_array_equal(completed, X)
        assert completed is not X
        assert fitted.sample(X, n=2).shape == (2, *X.shape)

    def test_the_input_is_left_alone(self) -> None:
        X, mask = images(), missing_pixels((6, *SHAPE))
        before = X.copy()
        inpainter().sample(X, n=2, mask=mask)
        np.testing.assert_array_equal(X, before)

    def test_lists_are_images_as_well(self) -> None:
        X = np.where(missing_pixels((2, 4, 5)), np.nan, images(n=2)[:, 0])
        np.testing.assert_array_equal(inpainter().transform(X.tolist()), inpainter().transform(X))


class TestInvariance:
    @pytest.mark.parametrize("posterior", ["gaussian", "mixture", "pseudo_gibbs"])
    def test_neighbours_order_and_batches_do_not_matter(self, posterior: str) -> None:
        X = np.where(missing_pixels((70, *SHAPE)), np.nan, images(n=70))
        max_iter = None if posterior == "pseudo_gibbs" else 24
        fitted = inpainter(posterior=posterior, max_iter=max_iter)
        whole = _quietly(fitted, X)
        order = np.random.default_rng(0).permutation(70)
        np.testing.assert_array_equal(_quietly(fitted, X[order]), whole[order])
        np.testing.assert_array_equal(_quietly(fitted, X[7:9]), whole[7:9])
        fitted.set_params(batch_size=1, n_jobs=2)
        np.testing.assert_array_equal(_quietly(fitted, X), whole)

    def test_parts_with_their_offset_are_the_whole(self) -> None:
        X = np.where(missing_pixels((5, *SHAPE)), np.nan, images(n=5))
        fitted = inpainter(sample_posterior=True)
        whole = fitted.sample(X, n=3)
        np.testing.assert_array_equal(fitted.sample(X[2:], n=3, row_offset=2), whole[:, 2:])
        np.testing.assert_array_equal(fitted.transform(X), whole[0])
        np.testing.assert_array_equal(fitted.transform(X[2:], row_offset=2), whole[0, 2:])
        np.testing.assert_array_equal(np.stack(list(fitted.iter_samples(X, n=3))), whole)
        np.testing.assert_array_equal(fitted.sample(X, n=2), whole[:2])
        assert fitted.sample(X, n=0).shape == (0, *X.shape)

    def test_a_budget_visits_every_image(self) -> None:
        X = np.where(missing_pixels((300, *SHAPE)), np.nan, images(n=300))
        hurried = inpainter(posterior=Flow(time_budget=1e-3))
        with pytest.warns(InferenceConvergenceWarning, match=r"0\.001 s ran out"):
            assert np.isfinite(hurried.transform(X)).all()


def _quietly(fitted: QAVIInpainter, X: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InferenceConvergenceWarning)
        return fitted.transform(X)


class TestStarts:
    @pytest.mark.filterwarnings("ignore::sklearn_qavi.exceptions.UnreliablePosteriorWarning")
    def test_an_encoder_that_knows_saves_steps(self) -> None:
        # codes far out, which prior codes do not reach
        model = smooth_model()
        rows = np.array([[3.5, 0.0], [-3.0, 2.5]]) @ model.weight.T + model.bias
        X = np.where(missing_pixels((2, *SHAPE)), np.nan, rows.reshape(2, *SHAPE).clip(0, 1))
        bounds = {}
        for start in ("prior", "best", "encoder"):
            fitted = inpainter(posterior=Gaussian(start=start), max_iter=1)
            with pytest.warns(InferenceConvergenceWarning):
                bounds[start] = fitted.infer(X).bound
        assert (bounds["best"] >= bounds["prior"] - 1e-3).all()
        assert (bounds["best"] > bounds["prior"] + 1.0).any()
        np.testing.assert_allclose(bounds["best"], bounds["encoder"], atol=0.5)

    def test_a_bad_encoder_is_not_followed(self) -> None:
        exact = smooth_model()
        model = LinearImages(exact, SHAPE)
        bad = LinearImages(exact, SHAPE)
        bad.decoders_[0].encoder.gain *= -3.0
        X = np.where(missing_pixels((4, *SHAPE)), np.nan, images(n=4))
        best = QAVIInpainter(generative_model=bad, random_state=0).fit()
        prior = inpainter(generative_model=model, posterior=Gaussian(start="prior"))
        np.testing.assert_array_equal(best.transform(X), prior.transform(X))

    @pytest.mark.filterwarnings("ignore::sklearn_qavi.exceptions.UnreliablePosteriorWarning")
    def test_what_the_start_costs_is_counted(self) -> None:
        X = np.where(missing_pixels((2, *SHAPE)), np.nan, images(n=2))
        with pytest.warns(InferenceConvergenceWarning):
            counts = [
                inpainter(posterior=Gaussian(start=s), max_iter=1).infer(X).n_evaluations
                for s in ("prior", "best")
            ]
        np.testing.assert_array_equal(counts[1] - counts[0], [19, 19])

    def test_without_an_encoder_best_is_prior(self) -> None:
        model = LinearImages(smooth_model(), SHAPE, encoder=False)
        X = np.where(missing_pixels((2, *SHAPE)), np.nan, images(n=2))
        fits = [
            inpainter(generative_model=model, posterior=Gaussian(start=start)).transform(X)
            for start in ("best", "prior")
        ]
        np.testing.assert_array_equal(*fits)
        with pytest.raises(ValueError, match=r"start='encoder' needs the model's encoder"):
            inpainter(generative_model=model, posterior=Gaussian(start="encoder"))
        with pytest.raises(ValueError, match=r"encoder= to PretrainedDecoder"):
            QAVIInpainter(generative_model=model, posterior="feature", random_state=0).fit()


class TestTraining:
    def test_a_model_is_trained_on_images_of_any_kind(self) -> None:
        X = images(n=200)
        hidden = missing_pixels(X.shape, rate=0.05)
        unfitted = LinearImageVAE(latent_dim=2)
        fitted = QAVIInpainter(generative_model=unfitted, random_state=0).fit(X, mask=hidden)
        assert not hasattr(unfitted, "decoders_")
        assert fitted.image_shape_ == SHAPE
        assert fitted.n_iter_ == 1
        assert fitted.history_ == [[{"train_loss": 0.0}]]
        levels = QAVIInpainter(generative_model=unfitted, random_state=0)
        levels.fit((255 * X).round().astype(np.uint8)[:, 0], mask=hidden[:, 0])
        incomplete = np.where(missing_pixels((6, *SHAPE)), np.nan, X[:6])
        np.testing.assert_allclose(
            levels.transform(incomplete), fitted.transform(incomplete), atol=0.01
        )
        np.testing.assert_allclose(fitted.transform(incomplete), exact_means(incomplete), atol=0.05)

    def test_hidden_pixels_are_not_learned_from(self) -> None:
        X, hidden = images(n=50), missing_pixels((50, *SHAPE), rate=0.1)
        spoilt = np.where(hidden, 0.0, X)
        model = LinearImageVAE()
        one, other = (
            QAVIInpainter(generative_model=model, random_state=0).fit(x, mask=hidden)
            for x in (X, spoilt)
        )
        np.testing.assert_array_equal(
            one.generative_model_.exact_.weight, other.generative_model_.exact_.weight
        )

    def test_images_without_a_pixel_are_left_out(self) -> None:
        X = images(n=50)
        more = np.concatenate([X, np.full((10, *SHAPE), np.nan)])
        one, other = (
            QAVIInpainter(generative_model=LinearImageVAE(), random_state=0).fit(x)
            for x in (X, more)
        )
        np.testing.assert_array_equal(
            one.generative_model_.exact_.bias, other.generative_model_.exact_.bias
        )
        with pytest.raises(ValueError, match="Every pixel of every image is missing"):
            QAVIInpainter(generative_model=LinearImageVAE(), random_state=0).fit(
                np.full((3, 4, 4), np.nan)
            )

    def test_parameters_of_inference_and_model_can_be_searched(self) -> None:
        rows = images(n=40).reshape(40, -1)
        search = GridSearchCV(
            QAVIInpainter(generative_model=LinearImageVAE(), image_shape=(4, 5), random_state=0),
            {"beta": [1.0, 300.0]},
            cv=2,
        )
        assert search.fit(rows).best_params_ == {"beta": 1.0}
        nested = GridSearchCV(
            QAVIInpainter(generative_model=LinearImageVAE(), image_shape=(4, 5), random_state=0),
            {"generative_model__latent_dim": [1, 2]},
            cv=2,
        )
        assert nested.fit(rows).best_params_ == {"generative_model__latent_dim": 2}

    def test_a_trained_model_is_used_as_it_is_in_clones_as_well(self) -> None:
        fitted = inpainter()
        model = fitted.generative_model
        weights = [p.clone() for p in model.decoders_[0].buffers()]
        assert clone(fitted).generative_model is model
        refitted = clone(fitted).fit(images())
        assert refitted.generative_model_ is model
        assert all(
            torch.equal(a, b) for a, b in zip(weights, model.decoders_[0].buffers(), strict=True)
        )

    def test_what_a_posterior_learns_comes_from_fit(self) -> None:
        model = LinearImages(smooth_model(), SHAPE)
        X = np.where(missing_pixels((4, *SHAPE)), np.nan, images(n=4))
        learning = QAVIInpainter(
            generative_model=model,
            posterior=PosteriorMatching(**training(rounds=2)),
            random_state=0,
        )
        with pytest.raises(ValueError, match=r"has to be trained: pass X to fit"):
            learning.fit()
        with pytest.warns(ConvergenceWarning):
            learning.fit(images(n=60))
        assert np.isfinite(learning.transform(X)).all()


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """Return handwritten digits (1797, 8, 8) from 0 to 1."""
    return load_digits().images / 16


@pytest.fixture(scope="module")
def on_digits(digits: np.ndarray, train_once: Callable[..., Any]) -> QAVIInpainter:
    """Return an inpainter with a small network, trained for two epochs."""
    model = quick_image_model(
        latent_dim=8,
        n_levels=1,
        patch_size=1,
        learning_rate=1e-2,
        batch_size=64,
        steps=120,
        random_state=None,
    )
    inpainter = QAVIInpainter(generative_model=model, random_state=0)
    return train_once("on_digits", inpainter, digits[:1500])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
class TestNetworks:
    def test_digits_are_completed_better_than_by_means(self, on_digits, digits) -> None:
        X = digits[1500:1564]
        mask = make_image_masks(64, (8, 8), kind="rotated_half", random_state=0)
        completed = on_digits.transform(X, mask=mask)
        error, error_of_means = (
            np.abs(guess - X)[mask].mean()
            for guess in (completed, np.broadcast_to(digits[:1500].mean(axis=0), X.shape))
        )
        assert error < 0.9 * error_of_means

    def test_neighbours_order_and_batches_do_not_matter(self, on_digits, digits) -> None:
        X = digits[1500:1570]
        mask = make_image_masks(70, (8, 8), random_state=0)
        whole = on_digits.sample(X, n=2, mask=mask)
        order = np.random.default_rng(0).permutation(70)
        completed = on_digits.transform(X, mask=mask)
        np.testing.assert_array_equal(
            on_digits.transform(X[order], mask=mask[order]), completed[order]
        )
        np.testing.assert_array_equal(on_digits.transform(X[7:9], mask=mask[7:9]), completed[7:9])
        other = copy.copy(on_digits).set_params(batch_size=32, n_jobs=2)
        np.testing.assert_array_equal(other.sample(X, n=2, mask=mask), whole)

    def test_a_saved_network_gives_the_same_bits(self, on_digits, digits, tmp_path) -> None:
        mask = make_image_masks(5, (8, 8), random_state=0)
        on_digits.save(tmp_path)
        loaded = QAVIInpainter.load(tmp_path)
        X = (255 * digits[1500:1505]).astype(np.uint8)
        np.testing.assert_array_equal(
            loaded.sample(X, n=3, mask=mask), on_digits.sample(X, n=3, mask=mask)
        )

    @pytest.mark.parametrize(
        "likelihood",
        ["discretized_normal", pytest.param("logistic_mixture", marks=pytest.mark.slow)],
    )
    def test_colour(self, likelihood: str) -> None:
        rng = np.random.default_rng(0)
        shade, tint = rng.random((40, 1, 1, 1)), np.array([1.0, 0.6, 0.3])
        X = np.rint(255 * shade * tint * np.linspace(0.5, 1, 4)[:, None, None]).astype(np.uint8)
        X = np.broadcast_to(X, (40, 4, 4, 3)).copy()
        model = quick_image_model(
            latent_dim=2,
            n_levels=1,
            likelihood=likelihood,
            learning_rate=2e-2,
            batch_size=32,
            steps=120,
            random_state=None,
        )
        fitted = QAVIInpainter(
            generative_model=model, data_format="channels_last", max_iter=12, random_state=0
        ).fit(X)
        some = X[:6]
        mask = make_image_masks(6, (4, 4), kind="rotated_half", random_state=0)
        completed = fitted.transform(some, mask=mask)
        assert completed.dtype == np.uint8
        np.testing.assert_array_equal(completed[~mask], some[~mask])
        means = np.broadcast_to(X.mean(axis=0), some.shape)
        error, error_of_means = (
            np.abs(g - some.astype(float))[mask].mean() for g in (completed, means)
        )
        assert error < 0.8 * error_of_means
        only_blue = np.zeros(some.shape, dtype=bool)
        only_blue[..., 2] = True
        draws = fitted.sample(some, n=2, mask=only_blue)
        np.testing.assert_array_equal(draws[..., :2], np.stack([some[..., :2]] * 2))

    def test_a_module_of_ones_own_without_images_to_fit(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            decoder = nn.Sequential(
                nn.Linear(3, 4 * 2 * 2), nn.Unflatten(1, (4, 2, 2)), nn.BatchNorm2d(4),
                nn.ConvTranspose2d(4, 1, 4, stride=4),
            )  # fmt: skip
        decoder.train()
        before = {name: value.clone() for name, value in decoder.state_dict().items()}
        model = PretrainedDecoder(decoder, "continuous_bernoulli", image_shape=(1, 8, 8))
        fitted = QAVIInpainter(generative_model=model, random_state=0).fit()
        X = np.random.default_rng(0).random((3, 8, 8)).astype(np.float32)
        draws = clone(fitted).fit().sample(X, n=4, mask=missing_pixels((8, 8)))
        assert draws.shape == (4, 3, 8, 8)
        np.testing.assert_array_equal(draws, fitted.sample(X, n=4, mask=missing_pixels((8, 8))))
        assert decoder.training
        assert all(p.requires_grad and p.grad is None for p in decoder.parameters())
        assert all(torch.equal(v, before[k]) for k, v in decoder.state_dict().items())

    def test_models_by_name(self, monkeypatch, digits) -> None:
        asked = []

        def fit(self, X):
            asked.append((self.get_params(), X.shape))
            raise InterruptedError

        monkeypatch.setattr(WideResNetVAE, "fit", fit)
        for name in ("wide_resnet", None):
            with pytest.raises(InterruptedError):
                QAVIInpainter(generative_model=name, device="cpu", verbose=1, random_state=0).fit(
                    digits[:9]
                )
        (first, shape), (second, _) = asked
        assert first == second
        assert shape == (9, 1, 8, 8)
        assert (first["device"], first["verbose"]) == ("cpu", 1)
        assert isinstance(first["random_state"], int)


class TestContract:
    def test_checks_of_scikit_learn(self) -> None:
        estimator = QAVIInpainter(generative_model=LinearImageVAE(), image_shape=(4, 5))
        for check in (
            check_get_params_invariance,
            check_set_params,
            check_no_attributes_set_in_init,
            check_parameters_default_constructible,
            check_param_validation,
        ):
            check("QAVIInpainter", estimator)
        assert set(QAVIInpainter().get_params(deep=False)) == set(
            QAVIInpainter._parameter_constraints
        )

    def test_unfitted(self) -> None:
        for call in ("transform", "sample", "infer", "score", "predict_interval"):
            with pytest.raises(NotFittedError):
                getattr(QAVIInpainter(), call)(images())
        with pytest.raises(NotFittedError):
            QAVIInpainter(image_shape=(4, 5)).get_feature_names_out()

    def test_flat_rows_in_a_pipeline(self) -> None:
        rows = images(n=40).reshape(40, -1)
        rows[missing_pixels(rows.shape, rate=0.1)] = np.nan
        pipeline = make_pipeline(
            QAVIInpainter(generative_model=LinearImageVAE(), image_shape=(4, 5), random_state=0),
            PCA(2),
        )
        assert pipeline.fit_transform(rows).shape == (40, 2)

    def test_dataframes_of_flat_rows(self) -> None:
        names = [f"pixel{i}" for i in range(20)]
        rows = images(n=6).reshape(6, -1)
        rows[missing_pixels(rows.shape, rate=0.1)] = np.nan
        frame = pd.DataFrame(rows, columns=names, index=list("abcdef"))
        fitted = inpainter(image_shape=(4, 5)).set_output(transform="pandas").fit(frame)
        assert list(fitted.get_feature_names_out()) == names
        completed = fitted.transform(frame)
        pd.testing.assert_index_equal(completed.index, frame.index)
        assert list(completed.columns) == names
        plain = inpainter(image_shape=(4, 5)).transform(rows)
        np.testing.assert_array_equal(completed.to_numpy(), plain)
        draws = fitted.sample(frame, n=2)
        assert [list(draw.columns) for draw in draws] == [names, names]
        with pytest.raises(ValueError, match="feature names should match"):
            fitted.transform(frame[names[::-1]])
        with pytest.raises(ValueError, match="dataframes, which hold flat rows"):
            fitted.transform(rows.reshape(6, 4, 5))
        assert not hasattr(inpainter(), "set_output")

    def test_pickle(self) -> None:
        X = np.where(missing_pixels((3, *SHAPE)), np.nan, images(n=3))
        fitted = inpainter()
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(again.sample(X, n=2), fitted.sample(X, n=2))

    @pytest.mark.parametrize("kind", ["trained", "handed in"])
    def test_a_loaded_inpainter_gives_the_same_bits(self, kind, tmp_path, monkeypatch) -> None:
        for table in (_persistence.MODELS, _persistence._ESTIMATORS):
            monkeypatch.setitem(table, "LinearImageVAE", LinearImageVAE)
        model = LinearImageVAE(random_state=0)
        if kind == "handed in":
            model.fit(images(n=60).astype(np.float32))
        fitted = QAVIInpainter(
            generative_model=model, image_shape=(4, 5), posterior=Mixture(n_components=2),
            random_state=np.random.RandomState(3),
        ).fit(images(n=60))  # fmt: skip
        X = np.where(missing_pixels((5, *SHAPE)), np.nan, images(n=5))
        fitted.save(tmp_path / "saved")
        loaded = QAVIInpainter.load(tmp_path / "saved")
        np.testing.assert_array_equal(loaded.sample(X, n=3), fitted.sample(X, n=3))
        assert loaded.image_shape_ == SHAPE
        assert loaded.n_features_in_ == 20
        model = loaded.generative_model_
        model.image_shape_ = (1, 5, 4)
        monkeypatch.setattr(LinearImageVAE, "load", lambda folder: model)
        with pytest.raises(ModelFormatError, match="not those of the model beside it"):
            QAVIInpainter.load(tmp_path / "saved")

    def test_a_foreign_decoder_is_not_saved(self, tmp_path: Path) -> None:
        with pytest.raises(ModelFormatError, match="LinearImages cannot be saved without pickle"):
            inpainter().save(tmp_path)


def _broken(how: str) -> Any:
    model = LinearImages(smooth_model(), SHAPE)
    decoder = model.decoders_[0].decoder
    if how == "nan":
        decoder.bias[3] = torch.nan
    elif how == "short":
        decoder.raw_scale = decoder.raw_scale[:19]
        decoder.weight, decoder.bias = decoder.weight[:19], decoder.bias[:19]
    return model


class TestBadInput:
    @pytest.mark.parametrize(
        ("X", "message"),
        [
            (images(COLOUR), r"expected \(n, 1, 4, 5\) with data_format='channels_first'"),
            (images()[..., :4], r"X has shape \(6, 1, 4, 4\), but the model is of images"),
            (images()[:, 0, :3], r"X has shape \(6, 3, 5\)"),
            (images().reshape(6, -1)[:, :19], r"X has 19 features, but .* expecting 20"),
            (images()[0, 0, 0], r"Expected 2D array|expected \(n, H, W\)"),
            (images()[None], r"A single image is X\[None\]"),
            (255 * images(), r"go from .* to .*divide by 255, or pass X.astype\(np.uint8\)"),
            (2 * images() - 1, r"floats must lie between 0 and 1; scale them"),
            (np.where(images() > 0.5, np.inf, 0.5), r"infinity in 6 image"),
            ((255 * images()).astype(int), r"dtype int64.*Convert with X.astype\(np.uint8\)"),
            (images() > 0.5, r"dtype bool"),
            (images()[:0], r"0 sample"),
        ],
    )  # fmt: skip
    def test_images(self, X: np.ndarray, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            inpainter().transform(X)

    def test_rounding_beyond_the_range_is_no_error(self) -> None:
        X = images()
        X[0, 0, 0, 0], X[1, 0, 0, 0] = 1 + 1e-7, -1e-7
        completed = inpainter().transform(X, mask=missing_pixels((6, *SHAPE)) & (X < 1) & (X > 0))
        assert completed[0, 0, 0, 0] == 1 + 1e-7

    @pytest.mark.parametrize(
        ("mask", "message"),
        [
            (np.zeros((6, 1, 4, 5)), r"mask must be boolean.*got dtype float64; compare it"),
            (np.zeros((6, 1, 4, 5), np.uint8), r"mask must be boolean"),
            (np.zeros((5, 4, 5), bool), r"mask has shape \(5, 4, 5\), but X has \(6, 1, 4, 5\)"),
            (np.zeros((6, 3, 4, 5), bool), r"expected \(4, 5\), \(6, 4, 5\), \(6, 1, 4, 5\)"),
            (np.zeros((5, 4), bool), r"mask has shape \(5, 4\)"),
        ],
    )
    def test_masks(self, mask: np.ndarray, message: str) -> None:
        for call in ("transform", "sample", "infer", "score"):
            with pytest.raises(ValueError, match=message):
                getattr(inpainter(), call)(images(), mask=mask)
        with pytest.raises(ValueError, match=message):
            inpainter().score_missing(images(), mask)

    def test_nan_that_does_not_mark_a_pixel(self) -> None:
        X = np.where(missing_pixels((6, *SHAPE)), np.nan, images())
        with pytest.raises(ValueError, match=r"NaN, but missing_values=-1\.0 marks"):
            inpainter(missing_values=-1.0).transform(X)

    def test_one_channel_where_three_are_known(self) -> None:
        with pytest.raises(ValueError, match=r"images of one channel, but the model's have 3"):
            inpainter(COLOUR).transform(images()[:, 0])

    @pytest.mark.parametrize(
        ("options", "X", "message"),
        [
            ({}, np.full((9, 20), 0.5), r"flat rows; pass image_shape=\(H, W\)"),
            ({}, np.full((9, 16, 16, 3), 0.5), r"looks like \(n, H, W, C\); pass data_format"),
            ({}, None, r"Without images to fit to, the size of an image must be known"),
            ({"image_shape": (4, 5)}, None, r"no images to train the generative model on"),
            ({"image_shape": (4, 6)}, np.full((9, 20), 0.5), r"X has 20 features, .* 24"),
            ({"image_shape": (4,)}, np.full((9, 4), 0.5), r"image_shape must be \(H, W\), or"),
            ({"image_shape": (4, 2.5)}, np.full((9, 10), 0.5), r"in whole numbers of at least 1"),
            ({"image_shape": ("a", "b")}, np.full((9, 10), 0.5), r"image_shape must be"),
            ({"image_shape": (-1, 4)}, np.full((9, 4), 0.5), r"image_shape must be"),
        ],
    )
    def test_what_fit_cannot_know(self, options: dict[str, Any], X: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            QAVIInpainter(generative_model=LinearImageVAE(), random_state=0, **options).fit(X)

    def test_models_that_do_not_fit(self) -> None:
        def fit(**options: Any) -> QAVIInpainter:
            return QAVIInpainter(random_state=0, **options).fit()

        model = LinearImages(smooth_model(), SHAPE)
        with pytest.raises(ValueError, match=r"the trained model is of images of 4 x 5 pixels"):
            fit(generative_model=model, image_shape=(5, 4))
        with pytest.raises(
            ValueError, match=r"PretrainedDecoder\(decoder, .*image_shape=\(1, 4, 5\)\)"
        ):
            fit(generative_model=smooth_model().decoder(), image_shape=(4, 5))
        del model.image_shape_
        with pytest.raises(ValueError, match=r"of 20 cells, but an image of shape \(1, 4, 4\)"):
            fit(generative_model=model, image_shape=(4, 4))
        assert fit(generative_model=model, image_shape=(4, 5)).image_shape_ == SHAPE

    @pytest.mark.parametrize(
        ("how", "message"),
        [
            ("nan", "returns NaN or infinity for ordinary codes"),
            ("short", r"returns 38 numbers per image, but its likelihood takes 40 for 20 cells"),
        ],
    )
    def test_decoders_that_do_not_do_what_they_say(self, how: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            QAVIInpainter(generative_model=_broken(how), random_state=0).fit()

    def test_filled_pixels_that_are_not_finite(self, monkeypatch) -> None:
        monkeypatch.setattr(LinearImages, "unstandardize", lambda self, values: values * np.inf)
        X = images()
        X[4, 0, 0, 0] = np.nan
        with pytest.raises(InferenceDivergedError, match=r"1 image\(s\).*positions \[4\]"):
            inpainter().transform(X)

    def test_numbers_that_count(self) -> None:
        fitted, X = inpainter(), images()
        with pytest.raises(ValueError, match="n must be a whole number"):
            fitted.sample(X, n=-1)
        with pytest.raises(ValueError, match="row_offset must be a whole number"):
            fitted.transform(X, row_offset=0.5)
        with pytest.raises(ValueError, match="level must be a number between 0 and 1"):
            fitted.predict_interval(X, level=1.0)
        with pytest.raises(ValueError, match="missing hides no cell"):
            fitted.score_missing(X, np.zeros((4, 5), bool))
        with pytest.raises(ValueError, match="marks cells that have no value in X"):
            fitted.score_missing(np.full((1, 4, 5), np.nan), np.ones((4, 5), bool))


def test_beta_is_what_the_model_found_best() -> None:
    def beta_of(fitted: QAVIInpainter) -> float:
        return fitted._inference().pool.context.beta

    assert beta_of(inpainter()) == 1.0
    model = LinearImages(smooth_model(SHAPE), SHAPE)
    model.inference_beta_ = 7.0
    fitted = QAVIInpainter(generative_model=model, random_state=0).fit()
    assert beta_of(fitted) == 7.0
    assert beta_of(fitted.set_params(beta=2.0)) == 2.0
    assert QAVIInpainter().beta is None
