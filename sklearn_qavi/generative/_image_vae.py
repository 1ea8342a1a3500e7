"""What VAEs of images share: checks, splits, training, augmentation, saving and loading."""

import warnings
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_array, check_is_fitted
from torch import Tensor, nn
from tqdm.auto import tqdm

from .._device import resolve_device
from .._random import derive_seed, seed_from, torch_generator
from .._sklearn_compat import check_sample_weight, fit_context
from ..exceptions import ModelFormatError
from ._checkpoint import load_strictly, read_folder, write_folder
from ._likelihoods import ImageLikelihood, make_image_likelihood
from ._network import VAENetwork
from ._training import TableData, TrainedNetwork, as_tensors, train_network

__all__ = ["ImageVAE"]

_MIN_IMAGES = 5
_MIN_IMAGES_TO_SPLIT = 20


class ImageVAE(BaseEstimator):
    """A VAE of images as an estimator; a subclass has the parameters and says what it trains.

    It fills in `_architecture`, `_new_network`, `_empty_member`, `_validation`, and what else is
    particular to it.
    """

    _max_validation_images: ClassVar[int] = 64
    _validated_by: ClassVar[str]
    """What the validation score is of, for a warning."""

    likelihood: str | None
    likelihood_options: dict[str, Any] | None
    n_decoders: int
    input_noise: float
    beta: float
    learning_rate: float | None
    batch_size: int | None
    max_epochs: int
    steps_per_epoch: int | None
    patience: int
    validation_fraction: float
    weight_decay: float | None
    average_decay: float | None
    augmentation: str | Callable[[Tensor, torch.Generator], Tensor] | None
    device: str
    random_state: int | np.random.RandomState | None
    verbose: int

    @abstractmethod
    def _architecture(self) -> Any:
        """Return the sizes of the networks; its ``check`` raises if they do not fit images."""

    @abstractmethod
    def _new_network(self, generator: torch.Generator) -> VAENetwork:
        """Return a network with initial weights."""

    @abstractmethod
    def _empty_member(self) -> nn.Module:
        """Return a network as `_settled` leaves it, whose weights are to be loaded."""

    @abstractmethod
    def _validation(self, x: Tensor, observed: Tensor, weight: Tensor, seed: int) -> Any:
        """Return what the best epoch is kept by, see `KeepBest`, for validation images."""

    def _learn_beside(self, runs: list[TrainedNetwork], score: Any) -> None:
        """Learn what is not part of the networks from the validation images."""

    def _kept(self) -> dict[str, Any]:
        """Return what `_learn_beside` left, as JSON can hold it; see `_restore`."""
        return {}

    def _restore(self, kept: dict[str, Any]) -> None:
        """Take back what `_kept` returned, or an empty dict of an older folder."""

    def _settled(self, network: VAENetwork) -> nn.Module:
        """Return a trained network as it is used and kept."""
        return network

    def _training_options(self) -> dict[str, Any]:
        """Return further arguments of `train_network`."""
        return {}

    def _prepare(self, network: VAENetwork, data: TableData) -> None:
        """Put into a new network what it needs to know of the training images."""

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Train on images.

        Parameters
        ----------
        X : array-like of shape (n, n_channels, height, width) or (n, height, width)
            Values from 0 to 1, NaN where missing.
        y : None
            Ignored, present for the scikit-learn contract.
        sample_weight : array-like of shape (n,), default=None
            How much each image counts; those of weight 0 are left out. None counts all alike.

        Returns
        -------
        self : object
            The trained model.
        """
        images = _checked_images(X)
        weight = check_sample_weight(
            sample_weight, images, dtype=np.float64, ensure_non_negative=True
        )
        images, weight = images[weight > 0], weight[weight > 0]
        if len(images) < _MIN_IMAGES:
            raise ValueError(
                f"{len(images)} images have a sample_weight above 0; learning needs {_MIN_IMAGES}."
            )
        self.image_shape_: tuple[int, int, int] = images.shape[1:]
        self.n_features_in_ = int(np.prod(self.image_shape_))
        self._architecture().check()
        rows = self.standardise(images.reshape(len(images), -1))
        runs = self._train_all(rows, weight / weight.mean(), seed_from(self.random_state))
        self.members_ = [self._settled(run.network).cpu() for run in runs]
        self.history_ = [run.history for run in runs]
        self.n_iter_ = max(len(history) for history in self.history_)
        n_unsettled = sum(not run.settled for run in runs)
        if n_unsettled:
            warnings.warn(
                f"{n_unsettled} of {len(runs)} decoder(s) still improved on {self._validated_by} "
                f"when training stopped after max_epochs={self.max_epochs}. Increase max_epochs.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def standardise(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn pixel values into the model's unit, which is the same.

        Parameters
        ----------
        X : ndarray of shape (..., n_features)
            Values from 0 to 1; NaN stays NaN.

        Returns
        -------
        values : ndarray of shape (..., n_features)
            The same values.
        """
        return np.asarray(X, dtype=np.float64)

    def unstandardise(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn values in the model's unit into pixel values.

        Parameters
        ----------
        values : ndarray of shape (..., n_features)
            Draws of a Gaussian may lie outside of [0, 1].

        Returns
        -------
        X : ndarray of shape (..., n_features)
            Values from 0 to 1; those outside are moved to the nearer end.
        """
        return np.clip(values, 0.0, 1.0)

    def save(self, folder: str | Path) -> None:
        """Write the trained model as safetensors weights and a readable JSON description.

        Parameters
        ----------
        folder : path-like
            Where to; made if need be. An ``augmentation`` that is a function is not kept.
        """
        check_is_fitted(self)
        parameters = {k: v for k, v in self.get_params().items() if k != "random_state"}
        if callable(self.augmentation):
            parameters["augmentation"] = None
        config = {
            "parameters": parameters,
            "image_shape": list(self.image_shape_),
            "history": self.history_,
            "learned": self._kept(),
        }
        tensors = {f"members.{k}": v for k, v in nn.ModuleList(self.members_).state_dict().items()}
        write_folder(folder, type(self).__name__, config, tensors)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a model that `save` wrote; nothing is unpickled.

        Parameters
        ----------
        folder : path-like
            Where from.

        Returns
        -------
        model : object
            The trained model.

        Raises
        ------
        ModelFormatError
            If a file is missing, truncated, of a newer version, or does not fit its description.
        """
        config, tensors = read_folder(folder, cls.__name__)
        try:
            model = cls(**config["parameters"])
            channels, height, width = config["image_shape"]
            model.image_shape_ = (channels, height, width)
            model.n_features_in_ = channels * height * width
            model.history_ = config["history"]
            model.n_iter_ = max(len(history) for history in model.history_)
            model.members_ = [model._empty_member() for _ in model.history_]
            model._restore(config.get("learned", {}))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFormatError(f"config.json in {folder} lacks or misnames {error}.") from error
        weights = {k.removeprefix("members."): v for k, v in tensors.items()}
        load_strictly(nn.ModuleList(model.members_), weights, folder)
        return model

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def _setting(self, name: str) -> Any:
        """Return a parameter's value, or what stands for None."""
        return getattr(self, name)

    def _likelihood(self) -> ImageLikelihood:
        options = self._setting("likelihood_options") or {}
        return make_image_likelihood(self._setting("likelihood"), self.image_shape_, **options)

    def _train_all(
        self, rows: NDArray[np.float64], weight: NDArray[np.float64], seed: int
    ) -> list[TrainedNetwork]:
        train, held = self._split(len(rows), derive_seed(seed, 0))
        x, observed = as_tensors(rows)
        single = torch.from_numpy(weight).to(torch.float32)
        score = self._validation(x[held], observed[held], single[held], derive_seed(seed, 1))
        data = TableData(x[train], observed[train], single[train])
        n_epochs = self.n_decoders * self.max_epochs
        with tqdm(
            total=n_epochs, desc="training", unit="epoch", disable=not self.verbose
        ) as progress:
            runs = [
                self._train(data, score, derive_seed(seed, 2, i), progress)
                for i in range(self.n_decoders)
            ]
        self._learn_beside(runs, score)
        return runs

    def _train(self, data: TableData, score: Any, seed: int, progress: tqdm) -> TrainedNetwork:
        network = self._new_network(torch_generator(seed))
        self._prepare(network, data)
        return train_network(
            network,
            data,
            score,
            average_decay=self._setting("average_decay"),
            patience=self.patience,
            weight_decay=self._setting("weight_decay"),
            on_epoch=lambda: progress.update(),
            input_noise=self.input_noise,
            beta=self.beta,
            steps_per_epoch=self.steps_per_epoch
            or int(np.clip(len(data) // self._setting("batch_size"), 100, 500)),
            seed=seed,
            augment=None if self.augmentation is None else self._augment,
            lr=self._setting("learning_rate"),
            batch_size=self._setting("batch_size"),
            max_epochs=self.max_epochs,
            device=resolve_device(self.device),
            **self._training_options(),
        )

    def _augment(
        self, x: Tensor, observed: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        images = torch.where(observed, x, torch.nan).unflatten(1, self.image_shape_)
        if callable(self.augmentation):
            changed = self.augmentation(images, generator)
        else:
            coin = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
            changed = torch.where(coin, images.flip(-1), images)
        if changed.shape != images.shape:
            raise ValueError(
                f"augmentation returned shape {tuple(changed.shape)}, expected that of its "
                f"argument, {tuple(images.shape)}."
            )
        rows = changed.flatten(1)
        return torch.nan_to_num(rows, nan=0.0), ~rows.isnan()

    def _split(self, n_images: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return images to train on and images to validate on."""
        order = np.random.default_rng(seed).permutation(n_images)
        if n_images < _MIN_IMAGES_TO_SPLIT:
            return order, order
        n_validation = max(1, round(self.validation_fraction * n_images))
        n_validation = min(n_validation, self._max_validation_images)
        return order[n_validation:], order[:n_validation]


def _checked_images(X: Any) -> NDArray[np.float64]:
    """Return images (n, C, H, W) with values from 0 to 1 or NaN."""
    images: NDArray[np.float64] = check_array(
        X,
        dtype=np.float64,
        allow_nd=True,
        ensure_2d=False,
        ensure_all_finite="allow-nan",
        ensure_min_samples=_MIN_IMAGES,
    )
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4:
        raise ValueError(
            "Images must have shape (n, channels, height, width) or (n, height, width), got "
            f"{np.shape(X)}."
        )
    if np.isnan(images).all():
        raise ValueError("The images have no observed pixel to learn from.")
    low, high = float(np.nanmin(images)), float(np.nanmax(images))
    if low < 0.0 or high > 1.0:
        raise ValueError(
            f"Pixel values must lie from 0 to 1, got {low:g} to {high:g}. Divide bytes by 255."
        )
    return images
