"""Rivals of image models on grey and colour images, where their answers are known."""

import importlib
from types import ModuleType

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA

from sklearn_qavi.datasets import make_image_masks


@pytest.fixture
def rivals(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    monkeypatch.syspath_prepend(str(request.config.rootpath / "benchmarks"))
    return importlib.import_module("_image_rivals")


def smooth_images(n: int, size: int, n_channels: int | None, seed: int = 0) -> np.ndarray:
    """Images around 1/2 of three patterns, with noise that is far from reaching 0 or 1."""
    rng = np.random.default_rng(seed)
    shape = (size, size) if n_channels is None else (size, size, n_channels)
    patterns = rng.uniform(-1, 1, (3, *shape))
    images = 0.5 + 0.04 * np.tensordot(rng.standard_normal((n, 3)), patterns, 1)
    return images + 0.01 * rng.standard_normal(images.shape)


NAMES = ("hot_deck", "knn", "ppca", "mean", "telea", "biharmonic")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_channels", [None, 3])
def test_fills_the_missing_pixels_alone(
    rivals: ModuleType, name: str, n_channels: int | None
) -> None:
    images = smooth_images(40, 8, n_channels)
    train, test = images[:35], images[35:]
    masks = make_image_masks(5, (8, 8), random_state=0)
    draws = rivals.complete(name, train, test, masks)
    if draws is None:
        pytest.skip(f"{name} is not installed")
    assert draws.shape[1:] == test.shape
    assert_array_equal(draws[:, ~masks], np.repeat(test[None], len(draws), 0)[:, ~masks])
    assert (draws[:, masks] != test[masks]).mean() > 0.9
    assert draws.min() >= 0.0
    assert draws.max() <= 1.0


@pytest.mark.parametrize("name", ["hot_deck", "knn", "mean", "telea", "biharmonic"])
def test_equal_channels_are_filled_as_a_grey_image(rivals: ModuleType, name: str) -> None:
    images = smooth_images(40, 8, None)
    colour = np.repeat(images[..., None], 3, axis=-1)
    masks = make_image_masks(5, (8, 8), random_state=0)
    grey = rivals.complete(name, images[:35], images[35:], masks)
    if grey is None:
        pytest.skip(f"{name} is not installed")
    both = rivals.complete(name, colour[:35], colour[35:], masks)
    assert_allclose(both, np.repeat(grey[..., None], 3, axis=-1), atol=1e-9)


def test_neighbours_are_near_in_all_channels(rivals: ModuleType) -> None:
    train = np.zeros((2, 2, 2, 3))
    train[0, 0, 0] = (0.0, 0.9, 0.9)
    train[1, 0, 0] = (0.5, 0.0, 0.0)
    mask = np.array([[False, True], [True, True]])
    assert rivals.nearest(train, np.zeros((2, 2, 3)), mask, 2).tolist() == [1, 0]


@pytest.mark.parametrize("n_channels", [None, 2])
def test_ppca_draws_from_the_normal_given_the_visible_pixels(
    rivals: ModuleType, monkeypatch: pytest.MonkeyPatch, n_channels: int | None
) -> None:
    n_draws = 40_000
    monkeypatch.setattr(rivals, "N_DRAWS", n_draws)
    images = smooth_images(200, 4, n_channels)
    mask = make_image_masks(1, (4, 4), kind="rotated_half", random_state=0)
    (image,) = test = images[:1]
    draws = rivals.ppca(images, test, mask, 0, n_components=3)[:, 0, mask[0]]
    draws = draws.reshape(n_draws, -1)

    model = PCA(3).fit(images.reshape(len(images), -1))
    mean, covariance = model.mean_, model.get_covariance()
    shape = image.shape
    gone = np.broadcast_to(mask[0].reshape(4, 4, *[1] * (len(shape) - 2)), shape).ravel()
    gain = covariance[np.ix_(gone, ~gone)] @ np.linalg.inv(covariance[np.ix_(~gone, ~gone)])
    expected = mean[gone] + gain @ (image.ravel() - mean)[~gone]
    rest = covariance[np.ix_(gone, gone)] - gain @ covariance[np.ix_(~gone, gone)]
    scale = np.sqrt(np.diag(rest))
    assert_allclose((draws.mean(0) - expected) / scale, 0.0, atol=5 / np.sqrt(n_draws))
    correlation = np.cov(draws.T) / np.outer(scale, scale)
    assert_allclose(correlation, rest / np.outer(scale, scale), atol=8 / np.sqrt(n_draws))


def test_without_its_module_a_rival_has_no_answer(
    rivals: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rivals.RIVALS, "telea", (rivals.telea, "no_such_module"))
    images = smooth_images(6, 4, 3)
    mask = make_image_masks(6, (4, 4), patch_size=2, random_state=0)
    assert rivals.complete("telea", images, images, mask) is None
