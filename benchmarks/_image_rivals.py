"""Simple ways to complete images, to set a trained model's figures beside.

Each takes training images without gaps, grey (n, H, W) or of colour (n, H, W, C), test images and
masks (n, H, W), True where a pixel is missing, and returns draws (S, n, H, W) or (S, n, H, W, C);
those that give one answer return it as one draw.
"""

import importlib.util
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

__all__ = ["RIVALS", "complete"]

Images = NDArray[np.float64]
Masks = NDArray[np.bool_]

N_DONORS, N_NEIGHBOURS, N_COMPONENTS, N_DRAWS = 20, 5, 20, 20


def every_channel(masks: Masks, images: Images) -> Masks:
    """Return masks that fit images, with an axis for the channels if those have one."""
    return masks.reshape(*masks.shape, *[1] * (images.ndim - masks.ndim))


def nearest(train: Images, image: Images, mask: Masks, k: int) -> NDArray[np.intp]:
    """Return the k training images nearest on the visible pixels."""
    distance = np.square(train[:, ~mask] - image[~mask]).reshape(len(train), -1).sum(axis=1)
    return np.argsort(distance, kind="stable")[:k]


def hot_deck(train: Images, test: Images, masks: Masks, seed: int) -> Images:
    """Copy the missing part from each of the 20 images nearest on the visible pixels."""
    pairs = zip(test, masks, strict=True)
    return np.stack([train[nearest(train, *pair, N_DONORS)] for pair in pairs], axis=1)


def knn(train: Images, test: Images, masks: Masks, seed: int) -> Images:
    """Average the 5 images nearest on the visible pixels."""
    pairs = zip(test, masks, strict=True)
    return np.stack([train[nearest(train, *pair, N_NEIGHBOURS)].mean(axis=0) for pair in pairs])[
        None
    ]


def ppca(
    train: Images, test: Images, masks: Masks, seed: int, n_components: int = N_COMPONENTS
) -> Images:
    """Draw from the Gaussian of a probabilistic PCA given the visible pixels."""
    rows = train.reshape(len(train), -1)
    model = PCA(min(n_components, rows.shape[1] - 1, len(rows) - 1), random_state=seed).fit(rows)
    noise = model.noise_variance_
    loadings = model.components_.T * np.sqrt(np.maximum(model.explained_variance_ - noise, 0.0))
    rng, out = np.random.default_rng(seed), np.repeat(test[None], N_DRAWS, axis=0)
    for i, (image, mask) in enumerate(zip(test, masks, strict=True)):
        gone = np.broadcast_to(every_channel(mask, image), image.shape).ravel()
        if not gone.any():
            continue
        seen = loadings[~gone]
        # of the codes: precision over the noise's variance, and the mean
        precision = seen.T @ seen + noise * np.eye(len(seen.T))
        centre = np.linalg.solve(precision, seen.T @ (image.ravel() - model.mean_)[~gone])
        root = np.linalg.inv(np.linalg.cholesky(precision)) * np.sqrt(noise)
        codes = centre + rng.standard_normal((N_DRAWS, len(centre))) @ root
        grain = np.sqrt(noise) * rng.standard_normal((N_DRAWS, gone.sum()))
        drawn = model.mean_[gone] + codes @ loadings[gone].T + grain
        out[:, i, mask] = drawn.clip(0.0, 1.0).reshape(out[:, i, mask].shape)
    return out


def mean(train: Images, test: Images, masks: Masks, seed: int) -> Images:
    """Fill in the mean of each pixel."""
    return np.where(every_channel(masks, test), train.mean(axis=0), test)[None]


def telea(train: Images, test: Images, masks: Masks, seed: int) -> Images:
    """Grow the visible pixels inwards (Telea 2004), by OpenCV."""
    import cv2

    pairs = zip((test * 255).round().astype(np.uint8), masks.astype(np.uint8), strict=True)
    done = [cv2.inpaint(image, mask, 3, cv2.INPAINT_TELEA) for image, mask in pairs]
    return np.stack(done)[None] / 255.0


def biharmonic(train: Images, test: Images, masks: Masks, seed: int) -> Images:
    """Solve the biharmonic equation in the missing part, by scikit-image."""
    from skimage.restoration import inpaint_biharmonic

    axis = -1 if test.ndim == 4 else None
    pairs = zip(test, masks, strict=True)
    done = [inpaint_biharmonic(image, mask, channel_axis=axis) for image, mask in pairs]
    return np.stack(done)[None].clip(0.0, 1.0)


RIVALS: dict[str, tuple[Callable[..., Images], str | None]] = {
    "hot_deck": (hot_deck, None),
    "knn": (knn, None),
    "ppca": (ppca, None),
    "mean": (mean, None),
    "telea": (telea, "cv2"),
    "biharmonic": (biharmonic, "skimage"),
}
"""Name -> function, and the module that it needs besides."""


def complete(name: str, train: Images, test: Images, masks: Masks, seed: int = 0) -> Images | None:
    """Return the draws of a rival with visible pixels as they are; None without its module."""
    function, needed = RIVALS[name]
    if needed is not None and importlib.util.find_spec(needed) is None:
        return None
    return np.where(every_channel(masks, test), function(train, test, masks, seed), test)
