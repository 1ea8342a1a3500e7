"""What VAEs of images share: checks, splits, training, augmentation, saving and loading."""

import warnings
from abc import abstractmethod
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags
from sklearn.utils.validation import check_array
from torch import Tensor, nn

from .._caching import taken_from_cache
from .._checks import plain
from .._device import resolve_device
from .._interrupts import all_or_nothing
from .._progress import TrainingBar
from .._random import derive_seed, seed_from, torch_generator
from .._sklearn_compat import check_sample_weight, fit_context
from .._typing import Memory, Score, Table
from ..datasets import ImageFiles
from ._checkpoint import SavedModel
from ._data import FileData, TableData, TrainingData, as_tensors
from ._distributed import Processes, training_processes
from ._likelihoods import ImageLikelihood, make_image_likelihood
from ._network import VAENetwork
from ._resume import TrainingFolder
from ._training import GuardSteps, TrainedNetwork, train_network
from ._training_options import Augmentation, Training

__all__ = ["ImageVAE", "augmented"]

_MIN_IMAGES = 5
_MIN_IMAGES_TO_SPLIT = 20
_MAX_EXAMPLES = 256  # image files that are looked at before training


class ImageVAE(SavedModel):
    """A VAE of images as an estimator; a subclass has the parameters and says what it trains.

    It fills in `_architecture`, `_new_network`, `_empty_member`, `_own_training`, `_validation`,
    and what else is particular to it.
    """

    _max_validation_images: ClassVar[int] = 64
    _validated_by: ClassVar[str]
    """What the validation score is of, for a warning."""
    _unread: ClassVar[dict[str, str]] = {}
    """Options of `Training` that the model does not read, and why."""

    likelihood: str | None
    likelihood_options: dict[str, object] | None
    n_decoders: int
    beta: float
    max_epochs: int
    training: Training | None
    checkpoint_folder: str | Path | None
    memory: Memory
    device: str
    random_state: int | np.random.RandomState | None
    verbose: int

    @abstractmethod
    def _architecture(self) -> "_Architecture":
        """Return the sizes of the networks; its ``check`` raises if they do not fit images."""

    @abstractmethod
    def _new_network(self, generator: torch.Generator) -> VAENetwork:
        """Return a network with initial weights."""

    @abstractmethod
    def _empty_member(self) -> nn.Module:
        """Return a network as `_settled` leaves it, whose weights are to be loaded."""

    @abstractmethod
    def _own_training(self) -> Training:
        """Return the options of training that stand for None."""

    @abstractmethod
    def _validation(self, x: Tensor, observed: Tensor, weight: Tensor, seed: int) -> Score:
        """Return what the best epoch is kept by, see `KeepBest`, for validation images."""

    def _learn_beside(self, runs: list[TrainedNetwork], score: Score) -> None:
        """Learn what is not part of the networks from the validation images."""

    def _kept(self) -> dict[str, object]:
        """Return what `_learn_beside` left, as JSON can hold it; see `_take_kept`."""
        return {}

    def _take_kept(self, kept: dict[str, Any]) -> None:
        """Take back what `_kept` returned."""

    def _settled(self, network: VAENetwork) -> nn.Module:
        """Return a trained network as it is used and kept."""
        return network

    def _prepare(self, network: VAENetwork, x: Tensor, observed: Tensor) -> None:
        """Put into a new network what it needs to know of the training images."""

    def set_params(self, **params: object) -> Self:
        """Set parameters, also options of training.

        Parameters
        ----------
        **params : dict
            Such as ``width=16`` or ``training__learning_rate=1e-3``. If ``training`` is None, it
            becomes `Training` when an option of it is set.

        Returns
        -------
        self : object
            The model.
        """
        nested = any(key.startswith("training__") for key in params)
        if nested and params.get("training", self.training) is None:
            params = {**params, "training": Training()}
        changed: Self = super().set_params(**params)
        return changed

    @fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    def fit(
        self,
        X: "Table | ImageFiles",
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train on images.

        Parameters
        ----------
        X : array-like of shape (n, n_channels, height, width) or (n, height, width), or ImageFiles
            Values from 0 to 1, NaN where missing; or the files of a folder.
        y : None
            Ignored, present for the scikit-learn contract.
        sample_weight : array-like of shape (n,), default=None
            How much each image counts; those of weight 0 are left out. None counts all alike.

        Returns
        -------
        self : object
            The trained model.
        """
        resolve_device(self.device)
        images: _Images
        if isinstance(X, ImageFiles):
            images = _FileImages(X)
        else:
            X = _checked_images(X)
            if taken_from_cache(self, X, sample_weight):
                return self
            images = _ArrayImages(X)
        weight = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        n_used = int((weight > 0).sum())
        if n_used < _MIN_IMAGES:
            raise ValueError(
                f"{n_used} images have a sample_weight above 0; learning needs {_MIN_IMAGES}."
            )
        self.image_shape_: tuple[int, int, int] = images.shape
        self.n_features_in_ = int(np.prod(self.image_shape_))
        self._architecture().check()
        runs = self._train_all(images, weight)
        self.decoders_ = [self._settled(run.network).cpu() for run in runs]
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

    def standardize(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
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

    def unstandardize(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
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

    def _described(self) -> tuple[dict[str, object], dict[str, Tensor]]:
        aside = {"checkpoint_folder", "memory", "random_state"}
        parameters = {k: v for k, v in self.get_params(deep=False).items() if k not in aside}
        if self.training is not None:
            parameters["training"] = self.training.described()
        config: dict[str, object] = {
            "parameters": parameters,
            "image_shape": list(self.image_shape_),
            "history": self.history_,
            "learned": self._kept(),
        }
        return config, {}

    def _take(self, config: dict[str, Any], constants: dict[str, Tensor]) -> None:
        if self.training is not None:
            self.training = Training.restored(config["parameters"]["training"])
        channels, height, width = config["image_shape"]
        self.image_shape_ = (channels, height, width)
        self.n_features_in_ = channels * height * width
        self.history_ = config["history"]
        self.n_iter_ = max(len(history) for history in self.history_)
        self.decoders_ = [self._empty_member() for _ in self.history_]
        self._take_kept(config["learned"])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.positive_only = True
        return tags

    def _validate_params(self) -> None:
        super()._validate_params()
        self._training()

    def _training(self) -> Training:
        """Return the options of training, checked, with the model's own in place of None."""
        given = Training() if self.training is None else self.training
        given.check()
        for name, reason in self._unread.items():
            value = getattr(given, name)
            if value is not None:
                raise ValueError(
                    f"training has {name}={plain(value)}, which {type(self).__name__} would "
                    f"ignore: {reason}. Leave it at None."
                )
        return given.filled(self._own_training())

    def _setting(self, name: str) -> Any:
        """Return a parameter's value, or what stands for None."""
        return getattr(self, name)

    def _likelihood(self) -> ImageLikelihood:
        options = self._setting("likelihood_options") or {}
        return make_image_likelihood(self._setting("likelihood"), self.image_shape_, **options)

    def _train_all(self, images: "_Images", weight: NDArray[np.float64]) -> list[TrainedNetwork]:
        processes = training_processes(self.device)
        seed, folder = self._seed_and_folder(images, weight, processes)
        used = np.flatnonzero(weight > 0)
        train, held = (used[part] for part in self._split(len(used), derive_seed(seed, 0)))
        shares = torch.from_numpy(weight / weight[used].mean()).to(torch.float32)
        x, observed = images.tensors(held)
        score = self._validation(x, observed, shares[held], derive_seed(seed, 1))
        data, examples = images.data(train, shares[train]), images.tensors(images.examples(train))
        silent = not self.verbose or not processes.is_first
        with TrainingBar(self.n_decoders, self.max_epochs, silent=silent) as progress:
            runs = []
            for i in range(self.n_decoders):
                network = self._new_network(torch_generator(derive_seed(seed, 2, i)))
                self._prepare(network, *examples)
                runs.append(
                    train_network(
                        network,
                        data,
                        score,
                        on_epoch=progress.epoch,
                        seed=derive_seed(seed, 2, i),
                        checkpoint=None if folder is None else folder.file(i),
                        processes=processes,
                        **self._settings_of_training(len(data), processes),
                    )
                )
                progress.settle()
        self._learn_beside(runs, score)
        return runs

    def _seed_and_folder(
        self, images: "_Images", weight: NDArray[np.float64], processes: Processes
    ) -> tuple[int, TrainingFolder | None]:
        """Return the seed of training and the folder it goes on in, if there is one."""
        seed = processes.shared(seed_from(self.random_state))
        if self.checkpoint_folder is None:
            return seed, None
        aside = {"checkpoint_folder", "device", "max_epochs", "memory", "random_state", "verbose"}
        settings = {k: v for k, v in self.get_params(deep=False).items() if k not in aside}
        options = self._training().get_params()
        if callable(options["augmentation"]):
            options["augmentation"] = getattr(options["augmentation"], "__qualname__", "callable")
        settings["training"] = options
        question = (type(self).__name__, settings, images.identity(), weight, processes.world_size)
        folder = TrainingFolder(
            self.checkpoint_folder,
            question,
            seed,
            is_given=isinstance(self.random_state, Integral),
            processes=processes,
        )
        return folder.seed, folder

    def _settings_of_training(self, n_images: int, processes: Processes) -> dict[str, Any]:
        options = self._training()
        batch_size = cast(int, options.batch_size)
        once = int(np.clip(n_images // batch_size, 100, 500))
        if batch_size % processes.world_size or n_images < processes.world_size:
            raise ValueError(
                f"batch_size={batch_size} and {n_images} training images cannot be shared by "
                f"{processes.world_size} processes; batch_size must be a multiple of their number."
            )
        augment = None
        if options.augmentation is not None:
            augment = partial(augmented, options.augmentation, self.image_shape_)
        return {
            "average_decay": options.average_decay,
            "patience": options.patience,
            "weight_decay": options.weight_decay,
            "callbacks": self._guards(options),
            "input_noise": options.input_noise,
            "mask_rate": options.mask_rate,
            "beta": self.beta,
            "kl_warmup": options.kl_warmup,
            "lr_warmup": options.learning_rate_warmup,
            "steps_per_epoch": options.steps_per_epoch or once,
            "augment": augment,
            "lr": options.learning_rate,
            "batch_size": batch_size,
            "max_epochs": self.max_epochs,
            "device": resolve_device(self.device),
        }

    def _guards(self, options: Training) -> list[tuple[str, GuardSteps]]:
        """Return what limits the norms of gradients, if anything does."""
        # the loss is of an image, the norms are those of a loss of a cell
        norms = cast(tuple[float, float], (options.clip_norm, options.skip_norm))
        clip_norm, skip_norm = (self.n_features_in_ * norm for norm in norms)
        if np.isinf(clip_norm) and np.isinf(skip_norm):
            return []
        return [("guard", GuardSteps(clip_norm, skip_norm))]

    def _split(self, n_images: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return images to train on and images to validate on."""
        order = np.random.default_rng(seed).permutation(n_images)
        if n_images < _MIN_IMAGES_TO_SPLIT:
            return order, order
        n_validation = max(1, round(self._training().validation_fraction * n_images))
        n_validation = min(n_validation, self._max_validation_images)
        return order[n_validation:], order[:n_validation]


def augmented(
    augmentation: Augmentation,
    image_shape: tuple[int, int, int],
    x: Tensor,
    observed: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return rows and masks (N, D) of images changed at random, see `Training`."""
    images = torch.where(observed, x, torch.nan).unflatten(1, image_shape)
    if callable(augmentation):
        changed = augmentation(images, generator)
    else:
        coin = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
        changed = torch.where(coin, images.flip(-1), images)
    if changed.shape != images.shape:
        raise ValueError(
            f"augmentation returned shape {tuple(changed.shape)}, expected that of its argument, "
            f"{tuple(images.shape)}."
        )
    rows = changed.flatten(1)
    return torch.nan_to_num(rows, nan=0.0), ~rows.isnan()


class _Architecture(Protocol):
    """Sizes of networks."""

    def check(self) -> None:
        """Raise if they do not fit the images."""


class _Images(Protocol):
    """Images to learn from, wherever they are."""

    shape: tuple[int, int, int]

    def tensors(self, rows: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        """Return values and observed mask of some images, both (N, D)."""

    def examples(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return as many of these images as may be held in memory at once."""

    def data(self, rows: NDArray[np.intp], weight: Tensor) -> TrainingData:
        """Return some images as training takes them."""

    def identity(self) -> tuple[object, ...]:
        """Return what tells these images from others, for `joblib.hash`."""


class _ArrayImages:
    def __init__(self, images: NDArray[np.float64]) -> None:
        channels, height, width = images.shape[1:]
        self.shape = (channels, height, width)
        self.x, self.observed = as_tensors(images.reshape(len(images), -1))

    def tensors(self, rows: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        return self.x[rows], self.observed[rows]

    def examples(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        return rows

    def data(self, rows: NDArray[np.intp], weight: Tensor) -> TrainingData:
        return TableData(self.x[rows], self.observed[rows], weight)

    def identity(self) -> tuple[object, ...]:
        return self.x.numpy(), self.observed.numpy()


class _FileImages:
    def __init__(self, files: ImageFiles) -> None:
        self.files, self.shape = files, files.image_shape

    def tensors(self, rows: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        x = torch.from_numpy(self.files[rows]).flatten(1)
        return x, torch.ones_like(x).bool()

    def examples(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        return rows[:_MAX_EXAMPLES]  # they are in random order

    def data(self, rows: NDArray[np.intp], weight: Tensor) -> TrainingData:
        return FileData(self.files, rows, weight)

    def identity(self) -> tuple[object, ...]:
        files = self.files
        names = [str(file.relative_to(files.folder)) for file in files.files]
        return names, [file.stat().st_size for file in files.files], files.image_shape


def _checked_images(X: Table) -> NDArray[np.float64]:
    """Return images (n, C, H, W) with values from 0 to 1 or NaN."""
    images: NDArray[np.float64] = check_array(
        X,
        dtype=np.float64,
        allow_nd=True,
        ensure_2d=False,
        ensure_all_finite=False,
        ensure_min_samples=_MIN_IMAGES,
    )
    infinite = np.flatnonzero(np.isinf(images).reshape(len(images), -1).any(axis=1))
    if len(infinite):
        raise ValueError(
            f"{len(infinite)} image(s) hold infinity, first at positions "
            f"{infinite[:5].tolist()}. Mark such pixels with NaN."
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
