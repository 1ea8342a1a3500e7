"""Draws without the noise of the pixels: spread of the code alone, at the same codes."""

from typing import Any

import numpy as np
import pytest
import torch

from _linear_images import LinearImages, smooth_model
from sklearn_qavi import QAVIInpainter
from sklearn_qavi._code_draws import without_pixel_noise
from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative import PretrainedDecoder

SHAPE = (1, 4, 5)
EXACT = smooth_model(SHAPE)
IMAGES = EXACT.draw_rows(3, 1).clip(0, 1).reshape(3, *SHAPE)
MASK = np.random.default_rng(2).random((3, 4, 5)) < 0.6


def inpainter(**options: Any) -> QAVIInpainter:
    model = LinearImages(EXACT, SHAPE)
    return QAVIInpainter(generative_model=model, random_state=0, **options).fit()


def test_their_spread_is_that_of_the_code() -> None:
    n = 4000
    draws = inpainter().sample(IMAGES, n, mask=MASK, pixel_noise=False)
    rows, missing = IMAGES.reshape(3, -1), MASK.reshape(3, -1)
    mean, covariance = EXACT.code_posterior(rows[0], ~missing[0])
    weight = EXACT.weight[missing[0]]
    found = draws.reshape(n, 3, -1)[:, 0, missing[0]]
    exact = (weight @ covariance * weight).sum(1)
    # a variance of n draws has a relative standard error of sqrt(2 / n), the fit less than that
    np.testing.assert_allclose(found.var(0), exact, rtol=5 * np.sqrt(2 / n))
    centre = weight @ mean + EXACT.bias[missing[0]]
    assert (np.abs(found.mean(0) - centre) < 5 * np.sqrt(exact / n) + 1e-3).all()
    with_noise = inpainter().sample(IMAGES, n, mask=MASK)
    rest = (with_noise - draws).reshape(n, 3, -1)[:, 0, missing[0]]
    # the codes are the same ones: what is left is the noise of the cells
    np.testing.assert_allclose(rest.std(0), 0.03, rtol=5 / np.sqrt(2 * n))


def test_they_are_the_same_however_they_are_asked_for() -> None:
    fitted = inpainter()
    whole = fitted.sample(IMAGES, 3, mask=MASK, pixel_noise=False)
    one_by_one = fitted.iter_samples(IMAGES, 3, mask=MASK, pixel_noise=False)
    np.testing.assert_array_equal(np.stack(list(one_by_one)), whole)
    part = fitted.sample(IMAGES[1:], 2, mask=MASK[1:], row_offset=1, pixel_noise=False)
    np.testing.assert_array_equal(part, whole[:2, 1:])
    assert (whole[:, ~MASK[:, None]] == IMAGES[~MASK[:, None]]).all()


def test_intervals_are_those_of_the_predictive() -> None:
    lower, upper = inpainter().predict_interval(IMAGES, 0.9, mask=MASK)
    assert (upper - lower)[MASK[:, None]].min() > 2 * 1.6 * 0.03


def test_channels_of_a_pixel_are_heeded() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        linear = torch.nn.Linear(2, 10 * 2 * 4)
    model = PretrainedDecoder(
        linear,
        "logistic_mixture",
        image_shape=(3, 2, 2),
        likelihood_options={"n_components": 2, "n_bits": 4},
    )
    x = torch.rand(2, 12, generator=torch_generator(0))
    observed = torch.arange(12).expand(2, -1) < 4  # the red of each pixel
    fitted = QAVIInpainter(generative_model=model, random_state=0).fit()
    pooled = fitted.infer(x.numpy().reshape(2, 3, 2, 2), mask=~observed.numpy().reshape(2, 3, 2, 2))
    draws = without_pixel_noise(pooled).keyed_draws(400, np.arange(2), 0)
    missing = ~observed.numpy()
    spread = np.abs(draws.mean(0) - pooled.mean())[missing]
    assert spread.max() < 0.1  # the mean over codes is the same
    noisy = pooled.keyed_draws(400, np.arange(2), 0)
    assert (draws.std(0)[missing] < noisy.std(0)[missing]).all()


def test_a_posterior_over_pixels_has_no_codes() -> None:
    fitted = inpainter(posterior="feature", max_iter=3)
    for call in (fitted.sample, fitted.iter_samples):
        with pytest.raises(ValueError, match="draws pixels and no codes"):
            call(IMAGES, 2, mask=MASK, pixel_noise=False)
