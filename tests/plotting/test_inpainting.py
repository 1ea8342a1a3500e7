"""The pictures of inpainting against the images, missing parts and draws they show."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb

from sklearn_qavi import QAVIInpainter
from sklearn_qavi.generative import PretrainedDecoder
from sklearn_qavi.plotting import InpaintingDisplay

MISSING_COLOR = to_rgb("C0")


def example(shape=(2, 4, 5), n_draws=3, seed=0):
    """Return images, a missing part of each, and draws that differ there alone."""
    rng = np.random.default_rng(seed)
    truth = rng.random(shape)
    mask = rng.random((shape[0], 4, 5)) < 0.4
    at = mask if len(shape) == 3 else np.broadcast_to(mask[:, None], shape)
    draws = np.where(at, rng.random((n_draws, *shape)), truth)
    return truth, np.where(at, np.nan, truth), mask, draws


def pictures(display):
    """Return the title of each column and the colours (n_images, H, W, 3) in it."""
    columns = {}
    for panels in display.axes_.T:
        images = [np.asarray(panel.images[0].get_array()) for panel in panels]
        columns[panels[0].get_title()] = np.stack(images)
    return columns


def test_grey_images_missing_pixels_and_draws():
    truth, X, mask, draws = example()
    display = InpaintingDisplay.from_draws(X, draws, truth=truth, mean=draws.mean(axis=0))
    shown = pictures(display)
    assert list(shown) == ["truth", "image", "draw 1", "draw 2", "draw 3", "mean"]
    # the colour map has 256 greys
    for k in range(3):
        np.testing.assert_allclose(shown["truth"][..., k], truth, atol=1 / 255)
        np.testing.assert_allclose(shown["image"][~mask][:, k], truth[~mask], atol=1 / 255)
        np.testing.assert_allclose(shown["mean"][..., k], draws.mean(axis=0), atol=1 / 255)
        for m, draw in enumerate(draws):
            np.testing.assert_allclose(shown[f"draw {m + 1}"][..., k], draw, atol=1 / 255)
    np.testing.assert_array_equal(shown["image"][mask], np.tile(MISSING_COLOR, (mask.sum(), 1)))


def test_ink_on_paper_and_colour_of_missing_pixels():
    truth, X, mask, draws = example()
    display = InpaintingDisplay.from_draws(X, draws, cmap="gray_r", missing_color="red")
    shown = pictures(display)["image"]
    np.testing.assert_allclose(shown[~mask][:, 1], 1 - truth[~mask], atol=1 / 255)
    assert (shown[mask] == (1, 0, 0)).all()


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_colours_in_every_layout(data_format, flat):
    truth, X, mask, draws = example((2, 3, 4, 5))
    last = data_format == "channels_last"

    def laid_out(array):
        array = np.moveaxis(array, -3, -1) if last else array
        return array.reshape(*array.shape[:-3], -1) if flat else array

    display = InpaintingDisplay.from_draws(
        laid_out(X),
        laid_out(draws),
        truth=laid_out(truth),
        image_shape=((4, 5, 3) if last else (3, 4, 5)) if flat else None,
        data_format=data_format,
    )
    shown = pictures(display)
    np.testing.assert_allclose(shown["truth"], truth.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(shown["draw 2"], draws[1].transpose(0, 2, 3, 1))
    np.testing.assert_allclose(shown["image"][~mask], truth.transpose(0, 2, 3, 1)[~mask])
    np.testing.assert_array_equal(shown["image"][mask], np.tile(MISSING_COLOR, (mask.sum(), 1)))


def test_a_pixel_without_one_channel_is_missing():
    X = np.full((1, 3, 4, 5), 0.2)
    X[0, 1, 2, 3] = np.nan
    display = InpaintingDisplay.from_draws(X, np.nan_to_num(X, nan=0.9)[None])
    np.testing.assert_array_equal(np.argwhere(display.missing), [[0, 2, 3]])
    shown = pictures(display)
    np.testing.assert_array_equal(shown["image"][0, 2, 3], MISSING_COLOR)
    np.testing.assert_allclose(shown["draw 1"][0, 2, 3], [0.2, 0.9, 0.2])


@pytest.mark.parametrize("of", ["all", "each", "cells"])
def test_masks_of_bytes(of):
    truth, _, mask, _ = example()
    mask[1] = mask[0]
    given = {"all": mask[0], "each": mask, "cells": mask[:, None]}[of]
    X = np.rint(255 * truth).astype(np.uint8)[:, None]
    draws = np.where(mask[:, None], 255 - X, X)[None]
    shown = pictures(InpaintingDisplay.from_draws(X, draws, given, X))
    np.testing.assert_array_equal(shown["image"][mask], np.tile(MISSING_COLOR, (mask.sum(), 1)))
    np.testing.assert_allclose(shown["truth"][..., 0], X[:, 0] / 255)
    np.testing.assert_allclose(shown["draw 1"][..., 0], draws[0, :, 0] / 255)


def test_as_many_draws_as_asked_for():
    _, X, _, draws = example(n_draws=7)
    assert len(InpaintingDisplay.from_draws(X, draws).draws) == 5
    display = InpaintingDisplay.from_draws(X, (draw for draw in draws), n_draws=9)
    np.testing.assert_array_equal(display.draws[..., 0], draws)


def test_the_outline_runs_between_what_is_filled_and_what_is_known():
    X = np.full((1, 4, 5), 0.5)
    X[0, 1:3, 0:2] = np.nan
    display = InpaintingDisplay.from_draws(X, np.nan_to_num(X, nan=0.1)[None])
    image, draw = display.axes_[0]
    assert not image.collections
    segments = {tuple(map(tuple, s)) for c in draw.collections for s in c.get_segments()}
    assert segments == {
        ((-0.5, 0.5), (0.5, 0.5)),
        ((0.5, 0.5), (1.5, 0.5)),
        ((-0.5, 2.5), (0.5, 2.5)),
        ((0.5, 2.5), (1.5, 2.5)),
        ((1.5, 0.5), (1.5, 1.5)),
        ((1.5, 1.5), (1.5, 2.5)),
    }
    assert not display.plot(outline=False).axes_[0, 1].collections


def test_axes_of_ones_own():
    _, X, _, draws = example()
    display = InpaintingDisplay.from_draws(X, draws)
    _, axes = plt.subplots(2, 4)
    assert display.plot(ax=axes).axes_.tolist() == axes.tolist()
    figure, ax = plt.subplots()
    assert display.plot(ax=ax).figure_ is figure
    with pytest.raises(ValueError, match="Expected 8 axes"):
        display.plot(ax=axes[0])


def halves(shape=(4, 4), **options):
    """Return an inpainter whose two codes are the brightness of upper and lower half."""
    n = int(np.prod(shape))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        linear = torch.nn.Linear(2, 2 * n)
    upper = (torch.arange(n) < n // 2).float()
    with torch.no_grad():
        weight = torch.stack([0.2 * upper, 0.2 * (1 - upper)], dim=1)
        linear.weight.copy_(torch.cat([weight, torch.zeros(n, 2)]))
        linear.bias.copy_(torch.cat([0.5 * torch.ones(n), -3 * torch.ones(n)]))
    model = PretrainedDecoder(linear, "gaussian", n_features=n)
    options = {"image_shape": shape, "random_state": 0, **options}
    return QAVIInpainter(generative_model=model, **options).fit()


def test_draws_are_those_of_the_inpainter():
    inpainter = halves()
    truth = np.full((2, 4, 4), [[[0.3]], [[0.8]]])
    mask = np.zeros((4, 4), dtype=bool)
    mask[1:, 2:] = True
    display = InpaintingDisplay.from_estimator(inpainter, truth, mask, truth, n_draws=2)
    np.testing.assert_array_equal(display.draws[..., 0], inpainter.sample(truth, 2, mask=mask))
    assert list(pictures(display)) == ["truth", "image", "draw 1", "draw 2"]
    np.testing.assert_array_equal(display.missing, np.stack([mask, mask]))
    means = InpaintingDisplay.from_estimator(inpainter, truth, mask, n_draws=2, pixel_noise=False)
    drawn = inpainter.sample(truth, 2, mask=mask, pixel_noise=False)
    np.testing.assert_array_equal(means.draws[..., 0], drawn)
    assert not np.array_equal(means.draws, display.draws)


def test_the_mean_is_one_whatever_the_strategy():
    X = np.full((1, 4, 4), 0.3)
    X[:, :, 3] = np.nan
    inpainter = halves(sample_posterior=True)
    display = InpaintingDisplay.from_estimator(inpainter, X, n_draws=1, mean=True)
    np.testing.assert_array_equal(display.mean[..., 0], halves().transform(X))
    assert inpainter.sample_posterior


def test_layout_and_marker_are_the_inpainters():
    inpainter = halves((4, 4, 3), data_format="channels_last", missing_values=-1.0)
    inpainter.set_output(transform="pandas")
    X = np.full((1, 48), 0.4)
    X[0, 45:] = -1.0  # the last pixel
    X = pd.DataFrame(X, columns=[f"p{i}" for i in range(48)])
    display = InpaintingDisplay.from_estimator(inpainter, X, n_draws=2, mean=True)
    np.testing.assert_array_equal(np.argwhere(display.missing), [[0, 3, 3]])
    expected = np.stack([draw.to_numpy() for draw in inpainter.sample(X, 2)])
    np.testing.assert_array_equal(display.draws.reshape(2, 1, 48), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.zeros((4, 5))}, r"shape \(4, 5\).*A single image is X\[None\]"),
        ({"X": np.zeros((2, 4, 5, 2))}, "4 channels with data_format='channels_first'"),
        ({"X": np.zeros((2, 20)), "image_shape": (4, 4)}, r"image_shape=\(4, 4\)"),
        ({"X": np.zeros((0, 4, 5))}, "no image to show"),
        ({"X": np.zeros((2, 4, 5), dtype=int)}, "X must hold floats.*dtype int64"),
        ({"X": np.full((2, 4, 5), 7.0)}, "X must hold floats from 0 to 1.*7.*observed"),
        ({"data_format": "HWC"}, "data_format must be"),
        ({"mask": np.zeros((5, 4), dtype=bool)}, r"mask must be boolean.*\(5, 4\)"),
        ({"mask": np.zeros((4, 5))}, "mask must be boolean.*float64"),
        ({"truth": np.zeros((1, 4, 5))}, r"truth must have the shape \(2, 4, 5\)"),
        ({"truth": np.full((2, 4, 5), np.nan)}, "truth must hold floats"),
        ({"mean": np.zeros((2, 5, 4))}, r"mean must have the shape \(2, 4, 5\)"),
        ({"draws": np.zeros((2, 4, 5))}, r"each of draws must have the shape \(2, 4, 5\)"),
        ({"draws": []}, "draws are empty"),
        ({"draws": np.zeros((1, 2, 4, 5))}, "differ from X in observed pixels"),
        ({"n_draws": 0}, "n_draws must be a whole number of at least 1, got 0"),
        ({"n_draws": 2.0}, "n_draws must be a whole number"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    _, X, _, draws = example()
    with pytest.raises(ValueError, match=message):
        InpaintingDisplay.from_draws(**{"X": X, "draws": draws, **change})


def test_matplotlib_is_named_when_it_is_missing(monkeypatch):
    _, X, _, draws = example()
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="InpaintingDisplay needs matplotlib"):
        InpaintingDisplay.from_draws(X, draws)
