"""Simple ways to complete images, to set a trained model's figures beside.

Each takes training images (n, H, W) without gaps, test images and masks, True where a pixel is
missing, and returns draws (S, n, H, W); those that give one answer return it as one draw.
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


def nearest(train: Images, image: Images, mask: Masks, k: int) -> NDArray[np.intp]:
    """Return the k training images nearest on the visible pixels."""
    distance = np.square(train[:, ~mask] - image[~mask]).sum(axis=1)
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


def ppca(train: Images, test: Images, masks: Masks, seed: int) -> Images:
    """Draw from the Gaussian of a probabilistic PCA given the visible pixels."""
    rows = train.reshape(len(train), -1)
    model = PCA(min(N_COMPONENTS, rows.shape[1] - 1)).fit(rows)
    mean, covariance = model.mean_, model.get_covariance()
    rng, out = np.random.default_rng(seed), np.repeat(test[None], N_DRAWS, axis=0)
    for i, (image, mask) in enumerate(zip(test, masks, strict=True)):
        gone = mask.ravel()
        if not gone.any():
            continue
        seen = ~gone
        gain = np.linalg.solve(covariance[np.ix_(seen, seen)], covariance[np.ix_(seen, gone)]).T
        centre = mean[gone] + gain @ (image.ravel()[seen] - mean[seen])
        rest = covariance[np.ix_(gone, gone)] - gain @ covariance[np.ix_(seen, gone)]
        drawn = rng.multivariate_normal(centre, 0.5 * (rest + rest.T), N_DRAWS, method="eigh")
        out[:, i, mask] = drawn.clip(0.0, 1.0)
    return out


def mean(train: Images, test: Images, masks: Masks, seed: int) -> Images:
    """Fill in the mean of each pixel."""
    return np.where(masks, train.mean(axis=0), test)[None]


def telea(train: Images, test: Images, masks: Masks, seed: int) -> Images:
    """Grow the visible pixels inwards (Telea 2004), by OpenCV."""
    import cv2

    pairs = zip((test * 255).round().astype(np.uint8), masks.astype(np.uint8), strict=True)
    done = [cv2.inpaint(image, mask, 3, cv2.INPAINT_TELEA) for image, mask in pairs]
    return np.stack(done)[None] / 255.0


def biharmonic(train: Images, test: Images, masks: Masks, seed: int) -> Images:
    """Solve the biharmonic equation in the missing part, by scikit-image."""
    from skimage.restoration import inpaint_biharmonic

    pairs = zip(test, masks, strict=True)
    return np.stack([inpaint_biharmonic(image, mask) for image, mask in pairs])[None].clip(0, 1)


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
    return np.where(masks, function(train, test, masks, seed), test)
