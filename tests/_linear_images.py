"""Images whose posteriors are known exactly: a linear-Gaussian model of their cells."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from _linear_gaussian import LinearGaussian
from sklearn_qavi.generative import PretrainedDecoder

Shape = tuple[int, int, int]


def smooth_model(shape: Shape = (1, 4, 5), latent_dim: int = 2, seed: int = 0) -> LinearGaussian:
    """Return a model of images that are nearly always between 0 and 1, with orthogonal weights."""
    rng = np.random.default_rng(seed)
    n_cells = int(np.prod(shape))
    k = np.arange(1, latent_dim + 1)
    weight = 0.14 * np.cos(np.pi * (np.arange(n_cells)[:, None] + 0.5) * k / n_cells) / np.sqrt(k)
    return LinearGaussian(weight, rng.uniform(0.45, 0.55, n_cells), np.full(n_cells, 0.03))


class LinearImages(PretrainedDecoder):
    """A trained model of images."""

    def __init__(self, exact: LinearGaussian, shape: Shape, *, encoder: bool = True) -> None:
        super().__init__(
            exact.decoder(),
            "gaussian",
            exact.n_features,
            encoder=exact.encoder() if encoder else None,
        )
        self.image_shape_ = shape


class LinearImageVAE(BaseEstimator):
    """An estimator of `LinearImages`, by principal components."""

    def __init__(self, latent_dim: int = 2, likelihood: str = "gaussian", random_state: Any = None):
        self.latent_dim = latent_dim
        self.likelihood = likelihood
        self.random_state = random_state

    def fit(self, images: NDArray[np.float32]) -> Self:
        assert images.ndim == 4
        assert images.dtype == np.float32
        assert isinstance(self.random_state, int)
        self.image_shape_ = images.shape[1:]
        rows = images.reshape(len(images), -1).astype(float)
        mean = np.nanmean(rows, axis=0)
        centred = np.where(np.isnan(rows), 0.0, rows - mean)
        _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
        weight = axes[: self.latent_dim].T * sizes[: self.latent_dim] / np.sqrt(len(rows))
        rest = np.sqrt((sizes[self.latent_dim :] ** 2).sum() / centred.size)
        self.exact_ = LinearGaussian(weight, mean, np.full(len(mean), max(rest, 0.01)))
        self._use(self.exact_)
        self.history_, self.n_iter_ = [[{"train_loss": 0.0}]], 1
        return self

    def standardize(self, X: NDArray[Any]) -> NDArray[Any]:
        return X

    def unstandardize(self, values: NDArray[Any]) -> NDArray[Any]:
        return values

    def save(self, folder: Any) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")  # what an imputer keeps the checksum of
        exact = self.exact_
        np.savez(folder / "exact.npz", shape=self.image_shape_, **vars(exact))

    @classmethod
    def load(cls, folder: Any) -> Self:
        parts = dict(np.load(folder / "exact.npz"))
        model = cls()
        model.image_shape_ = tuple(map(int, parts.pop("shape")))
        model._use(LinearGaussian(**parts))
        model.history_, model.n_iter_ = [[{"train_loss": 0.0}]], 1
        return model

    def _use(self, exact: LinearGaussian) -> None:
        decoder = PretrainedDecoder(
            exact.decoder(), "gaussian", exact.n_features, encoder=exact.encoder()
        )
        self.exact_, self.decoders_ = exact, decoder.decoders_
        self.n_features_in_ = exact.n_features
