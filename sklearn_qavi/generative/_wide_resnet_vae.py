"""WideResNetVAE: a variational autoencoder for images."""

import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from numbers import Integral, Real
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
from .._sklearn_compat import Interval, StrOptions, check_sample_weight, fit_context
from ..exceptions import ModelFormatError
from ._checkpoint import load_strictly, read_folder, write_folder
from ._layers import ACTIVATIONS
from ._likelihoods import IMAGE_LIKELIHOODS, ImageLikelihood, make_image_likelihood
from ._training import HiddenCells, TableData, TrainedNetwork, as_tensors, train_network
from ._wide_resnet import Architecture, ImageNetwork, fold_batch_norms

__all__ = ["WideResNetVAE"]

_MIN_IMAGES = 5
_MIN_IMAGES_TO_SPLIT = 20
_MAX_VALIDATION_IMAGES = 64
_UPSAMPLINGS = {"nearest", "transposed"}


class WideResNetVAE(BaseEstimator):
    """Variational autoencoder for images, of wide residual networks.

    Training scores the hidden half of validation images by fast QAVI after each epoch and keeps
    the epoch with the best score, with weights averaged over steps. Images may have missing
    pixels: the encoder sees zeros there, and the mask, and the bound sums over the others.

    Parameters
    ----------
    latent_dim : int, default=50
        Size L of the latent code.
    n_levels : int, default=2
        Resolutions of the networks; each is half of the one before.
    blocks_per_level : int, default=1
        Blocks of two 3 x 3 convolutions at each resolution.
    width : int, default=32
        Channels at the finest resolution; twice as many at the next, and so on.
    patch_size : int, default=2
        Side of the square of pixels that a cell of the finest resolution stands for; the cost
        of the networks falls with its square.
    dense : bool, default=False
        Let blocks add their channels to what they read instead of summing them up.
    upsampling : {"nearest", "transposed"}, default="nearest"
        How the decoder doubles its resolution: by repeating cells, or by transposed convolutions.
    batch_norm : bool, default=False
        Follow convolutions by batch norms. They are folded into the weights of ``members_``.
    activation : {"tanh", "relu", "gelu", "silu"}, default="relu"
        Activation function.
    likelihood : str, default="continuous_bernoulli"
        Observation model of the pixels: "bernoulli", "continuous_bernoulli", "gaussian",
        "discretised_normal" or "logistic_mixture", see `make_image_likelihood`.
    likelihood_options : dict, default=None
        Its options, such as ``{"scale": "decoder"}``.
    n_decoders : int, default=1
        Decoders whose draws are pooled.
    input_noise : float, default=0.0
        Standard deviation of the noise added to the encoder's input in training; pixels run from
        0 to 1.
    mask_rate : float, default=0.0
        In training each image hides a share of its cells from the encoder that is uniform on
        [0, mask_rate].
    beta : float, default=1.0
        Weight of the KL in training.
    learning_rate : float, default=2e-3
        Step size of Adam.
    batch_size : int, default=64
        Images a training step.
    max_epochs : int, default=100
        Largest number of epochs; an epoch is `steps_per_epoch` steps.
    steps_per_epoch : int or None, default=None
        Steps between two looks at the validation images; None takes as many as show each training
        image once, but between 100 and 500.
    patience : int, default=10
        Epochs without a better validation score after which training stops.
    validation_fraction : float, default=0.1
        Share of the images that are used for validation, but no more than 64 of them. With fewer
        than 20 images training images are used for both.
    validation_beta : float, default=20.0
        Weight of the KL when validation images are inferred. A decoder of many pixels is far too
        sure of them: with 1 its score is ruled by the few images whose posteriors sit in the wrong
        place, and stays flat while the decoder improves.
    weight_decay : float, default=0.0
        Decoupled weight decay of the optimiser.
    average_decay : float, default=0.99
        Share of the averaged weights that stays at each step.
    augmentation : "flip" or callable, default=None
        Change of the training images: "flip" mirrors each left to right with probability 1/2; a
        callable ``augmentation(images, generator)`` gets a tensor (n, C, H, W), NaN where missing,
        and a `torch.Generator`, and returns the like.
    device : str, default="auto"
        Where to train: "auto" takes a GPU when there is one.
    random_state : int, RandomState instance or None, default=None
        Seed of initial weights, splits, batches and noise.
    verbose : int, default=0
        With 1, a progress bar over epochs.

    Attributes
    ----------
    members_ : list of torch.nn.Module
        The trained networks on the CPU, without batch norms.
    image_shape_ : tuple of int
        Channels C, height H and width W.
    history_ : list of list of dict
        For each decoder and epoch the training loss (negative bound an image, in nats), the CRPS
        on hidden validation cells, and seconds.
    n_iter_ : int
        Most epochs that a decoder was trained for.
    n_features_in_ : int
        Number of cells D of an image.

    Raises
    ------
    ValueError
        If there are fewer than five images, values lie outside of [0, 1], or images are too small
        for the network.
    TrainingDivergedError
        If the training loss is not finite.

    Warns
    -----
    ConvergenceWarning
        If the validation score still improved when the epochs ran out.

    See Also
    --------
    PretrainedImageDecoder : Uses a decoder trained elsewhere.
    TabularVAE : The same for tables.

    Notes
    -----
    Any size of image from ``patch_size * 2 ** (n_levels - 1)`` pixels on is taken: what does not
    divide gets a margin inside the networks. The defaults are for a CPU, where inference costs
    hundreds of decoder evaluations an image. With a GPU, ``WideResNetVAE(n_levels=3,
    blocks_per_level=3, width=64, patch_size=1, batch_norm=True)`` is about what the literature
    uses for images of 32 x 32 pixels.

    References
    ----------
    .. [1] Kingma, Welling (2014), "Auto-encoding variational Bayes".
    .. [2] Zagoruyko, Komodakis (2016), "Wide residual networks".
    .. [3] Agarwal, Hope, Younis, Sudderth (2023), "A Decoder Suffices for Query-Adaptive
       Variational Inference", section 4.2.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_qavi.generative import WideResNetVAE
    >>> images = load_digits().images[:200] / 16
    >>> vae = WideResNetVAE(latent_dim=4, width=8, max_epochs=5, patience=5, random_state=0)
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # five epochs are only a start
    ...     vae = vae.fit(images)
    >>> vae.image_shape_
    (1, 8, 8)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "latent_dim": [Interval(Integral, 1, None, closed="left")],
        "n_levels": [Interval(Integral, 1, None, closed="left")],
        "blocks_per_level": [Interval(Integral, 1, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left")],
        "patch_size": [Interval(Integral, 1, None, closed="left")],
        "dense": ["boolean"],
        "upsampling": [StrOptions(_UPSAMPLINGS)],
        "batch_norm": ["boolean"],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "likelihood": [StrOptions(set(IMAGE_LIKELIHOODS))],
        "likelihood_options": [None, dict],
        "n_decoders": [Interval(Integral, 1, None, closed="left")],
        "input_noise": [Interval(Real, 0, None, closed="left")],
        "mask_rate": [Interval(Real, 0, 1, closed="both")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "steps_per_epoch": [None, Interval(Integral, 1, None, closed="left")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "validation_beta": [Interval(Real, 0, None, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "average_decay": [Interval(Real, 0, 1, closed="left")],
        "augmentation": [None, StrOptions({"flip"}), callable],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        latent_dim: int = 50,
        n_levels: int = 2,
        blocks_per_level: int = 1,
        width: int = 32,
        patch_size: int = 2,
        dense: bool = False,
        upsampling: str = "nearest",
        batch_norm: bool = False,
        activation: str = "relu",
        likelihood: str = "continuous_bernoulli",
        likelihood_options: dict[str, Any] | None = None,
        n_decoders: int = 1,
        input_noise: float = 0.0,
        mask_rate: float = 0.0,
        beta: float = 1.0,
        learning_rate: float = 2e-3,
        batch_size: int = 64,
        max_epochs: int = 100,
        steps_per_epoch: int | None = None,
        patience: int = 10,
        validation_fraction: float = 0.1,
        validation_beta: float = 20.0,
        weight_decay: float = 0.0,
        average_decay: float = 0.99,
        augmentation: str | Callable[[Tensor, torch.Generator], Tensor] | None = None,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.latent_dim = latent_dim
        self.n_levels = n_levels
        self.blocks_per_level = blocks_per_level
        self.width = width
        self.patch_size = patch_size
        self.dense = dense
        self.upsampling = upsampling
        self.batch_norm = batch_norm
        self.activation = activation
        self.likelihood = likelihood
        self.likelihood_options = likelihood_options
        self.n_decoders = n_decoders
        self.input_noise = input_noise
        self.mask_rate = mask_rate
        self.beta = beta
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.steps_per_epoch = steps_per_epoch
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.validation_beta = validation_beta
        self.weight_decay = weight_decay
        self.average_decay = average_decay
        self.augmentation = augmentation
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

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
        self : WideResNetVAE
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
        self.members_ = [fold_batch_norms(run.network).cpu() for run in runs]
        self.history_ = [run.history for run in runs]
        self.n_iter_ = max(len(history) for history in self.history_)
        n_unsettled = sum(not run.settled for run in runs)
        if n_unsettled:
            warnings.warn(
                f"{n_unsettled} of {len(runs)} decoder(s) still improved on the hidden halves of "
                f"validation images when training stopped after max_epochs={self.max_epochs}. "
                "Increase max_epochs.",
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
        model : WideResNetVAE
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
            folded = replace(model._architecture(), batch_norm=False)
            model.members_ = [
                fold_batch_norms(model._network(folded, None)) for _ in model.history_
            ]
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

    def _architecture(self) -> Architecture:
        return Architecture(
            self.image_shape_,
            **{
                name: getattr(self, name)
                for name in asdict(Architecture(self.image_shape_))
                if name != "image_shape"
            },
        )

    def _network(
        self, architecture: Architecture, generator: torch.Generator | None
    ) -> ImageNetwork:
        likelihood: ImageLikelihood = make_image_likelihood(
            self.likelihood, self.image_shape_, **(self.likelihood_options or {})
        )
        return ImageNetwork(likelihood, self.latent_dim, architecture, generator)

    def _train_all(
        self, rows: NDArray[np.float64], weight: NDArray[np.float64], seed: int
    ) -> list[TrainedNetwork]:
        train, validation = self._split(len(rows), derive_seed(seed, 0))
        x, observed = as_tensors(rows)
        single = torch.from_numpy(weight).to(torch.float32)
        hidden = observed[validation] & hidden_halves(
            self.image_shape_, len(validation), torch_generator(derive_seed(seed, 1))
        )
        visible = observed[validation] & ~hidden
        cells = HiddenCells(x[validation], visible, hidden, single[validation])
        data = TableData(x[train], observed[train], single[train])
        n_epochs = self.n_decoders * self.max_epochs
        with tqdm(
            total=n_epochs, desc="training", unit="epoch", disable=not self.verbose
        ) as progress:
            return [
                self._train(data, cells, derive_seed(seed, 2, i), progress)
                for i in range(self.n_decoders)
            ]

    def _train(
        self, data: TableData, cells: HiddenCells, seed: int, progress: tqdm
    ) -> TrainedNetwork:
        device = resolve_device(self.device)
        return train_network(
            self._network(self._architecture(), torch_generator(seed)),
            data,
            cells.to(device),
            average_decay=self.average_decay,
            patience=self.patience,
            weight_decay=self.weight_decay,
            validation_beta=self.validation_beta,
            on_epoch=lambda: progress.update(),
            input_noise=self.input_noise,
            mask_rate=self.mask_rate,
            beta=self.beta,
            steps_per_epoch=self.steps_per_epoch
            or int(np.clip(len(data) // self.batch_size, 100, 500)),
            seed=seed,
            augment=None if self.augmentation is None else self._augment,
            lr=self.learning_rate,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            device=device,
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
        n_validation = min(n_validation, _MAX_VALIDATION_IMAGES)
        return order[n_validation:], order[:n_validation]


def hidden_halves(
    image_shape: tuple[int, int, int], n_images: int, generator: torch.Generator
) -> Tensor:
    """Return masks that hide one half of each image, cut through its centre in any direction.

    Single pixels would say little of a model: their neighbours give them away.
    """
    channels, height, width = image_shape
    angle = 2 * torch.pi * torch.rand(n_images, 1, 1, generator=generator)
    down = torch.arange(height).view(1, -1, 1) - (height - 1) / 2
    right = torch.arange(width).view(1, 1, -1) - (width - 1) / 2
    hidden = angle.cos() * right + angle.sin() * down > 0
    return hidden.flatten(1).repeat(1, channels)


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
