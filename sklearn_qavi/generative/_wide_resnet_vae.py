"""WideResNetVAE: a variational autoencoder for images."""

from dataclasses import asdict, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from .._device import resolve_device
from .._random import torch_generator
from .._sklearn_compat import HasMethods, Interval, StrOptions
from .._typing import Memory, Score
from ._image_vae import ImageVAE
from ._layers import ACTIVATIONS
from ._likelihoods import IMAGE_LIKELIHOODS
from ._shared_noise import OWN_NOISE, learned_noise
from ._training import HiddenCells, ScoreOfHiddenCells, TrainedNetwork, least_in_turn
from ._training_options import Training
from ._wide_resnet import Architecture, ImageNetwork, fold_batch_norms

__all__ = ["WideResNetVAE"]

_UPSAMPLINGS = {"nearest", "transposed"}
_INFERENCE_BETAS = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0)
_CODES_AN_EDGE, _MOST_CODES = 2, 64
_CELLS_OF_BETA, _MAX_VALIDATION_BETA = 40, 20.0
_OPTIONS: dict[str, dict[str, object]] = {"logistic_mixture": {"n_components": 2}}
_TRAINING = Training(
    learning_rate=4e-3,
    learning_rate_warmup=25,
    batch_size=64,
    patience=3,
    kl_warmup=300,
    weight_decay=0.0,
    average_decay=0.99,
    clip_norm=1.0,  # nats per cell; of the second step it may be thousands of times the usual norm
    skip_norm=np.inf,
)
"""What stands for None; for ``validation_beta`` the size of the images says it."""


class WideResNetVAE(ImageVAE):
    """Variational autoencoder for images, of wide residual networks.

    Training scores the hidden half of validation images by fast QAVI after each epoch and keeps
    the epoch with the best score, with weights averaged over steps. Images may have missing
    pixels: the encoder sees zeros there, and the mask, and the bound sums over the others.

    Parameters
    ----------
    latent_dim : int, default=None
        Size L of the latent code. None takes two for each pixel along an edge, but no more than 64:
        16 for images of 8 x 8 pixels, 56 for 28 x 28.
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
        Follow convolutions by batch norms. They are folded into the weights of ``decoders_``.
    activation : {"tanh", "relu", "gelu", "silu"}, default="relu"
        Activation function.
    likelihood : str, default="logistic_mixture"
        Observation model of the pixels: "bernoulli", "continuous_bernoulli", "gaussian",
        "discretized_normal" or "logistic_mixture", see `make_image_likelihood`.
    likelihood_options : dict, default=None
        Its options, such as ``{"scale": "decoder"}``. None takes two components of
        "logistic_mixture", and the family's own defaults of others.
    n_decoders : int, default=2
        Decoders whose draws are pooled.
    beta : float, default=1.0
        Weight of the KL in training.
    max_epochs : int, default=100
        Largest number of epochs; an epoch is ``training.steps_per_epoch`` steps.
    training : Training, default=None
        How it is trained, such as ``Training(patience=20)``; searched as ``training__patience``.
        Options at None, and None itself, take ``learning_rate=4e-3``,
        ``learning_rate_warmup=25``, ``batch_size=64``,
        ``patience=3``, ``kl_warmup=300``, ``weight_decay=0``, ``average_decay=0.99``,
        ``clip_norm=1``, and for ``validation_beta`` one for each 40 cells of an image, between 1
        and 20.
        No more than 64 images are used for validation. They are inferred with a heavier KL because
        a decoder of many pixels is far too sure of them: with a weight of 1 its score is ruled by
        the few images whose posteriors sit in the wrong place, and stays flat while the decoder
        improves.
    checkpoint_folder : path-like, default=None
        Where the state of training is written after each epoch. `fit` on the same images with the
        same parameters goes on from there, as if it had not been stopped; ``max_epochs`` may be
        larger then. A folder belongs to one training.
    memory : str, joblib.Memory or None, default=None
        Where to cache the trained model by its images and parameters, so that a search over
        inference parameters trains once per fold, also from several processes. A damaged or foreign
        entry is trained again. Needs an integer ``random_state``, here or of the imputer: without,
        every fit is another.
    device : str, default="auto"
        Where to train: "auto" takes a GPU when there is one. "distributed" is for processes that
        ``torchrun`` or ``accelerate launch`` started: each trains on its share of every batch, on
        a GPU of its own if there are any, and all of them end with the same model. Needs
        accelerate.
    random_state : int, RandomState instance or None, default=None
        Seed of initial weights, splits, batches and noise.
    verbose : int, default=0
        With 1, a progress bar over epochs. Until a decoder has settled, it expects
        ``max_epochs`` of each.

    Attributes
    ----------
    decoders_ : list of torch.nn.Module
        The trained networks on the CPU, without batch norms.
    image_shape_ : tuple of int
        Channels C, height H and width W.
    inference_beta_ : float
        Weight of the KL, out of 1, 2, 5, 10, 20 and 40, with which the hidden halves of validation
        images are completed best by all decoders together; larger ones are tried until one does
        worse. `QAVIInpainter` takes it unless told otherwise.
    noise_width_ : float
        How far neighbouring pixels share the noise that they are drawn with: the standard
        deviation of a kernel, in pixels, with which hidden pixels near to visible ones are drawn
        best. 0 if each is drawn best on its own. `QAVIInpainter` takes it unless told otherwise.
    own_noise_ : float
        Share of that noise which each pixel has for itself all the same.
    history_ : list of list of dict
        For each decoder and epoch the training loss (negative bound per image, in nats), the CRPS
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
    PretrainedDecoder : Uses a decoder trained elsewhere.
    TabularVAE : The same for tables.

    Notes
    -----
    Any size of image from ``patch_size * 2 ** (n_levels - 1)`` pixels on is taken: what does not
    divide gets a margin inside the networks. The defaults are for a CPU, where inference costs
    hundreds of decoder evaluations per image. With a GPU, ``WideResNetVAE(n_levels=3,
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
    >>> vae = WideResNetVAE(latent_dim=4, width=8, max_epochs=1, random_state=0)
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # one epoch is only a start
    ...     vae = vae.fit(images)
    >>> vae.image_shape_
    (1, 8, 8)
    """

    _validated_by: ClassVar[str] = "the hidden halves of validation images"

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        "latent_dim": [None, Interval(Integral, 1, None, closed="left")],
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
        "beta": [Interval(Real, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "training": [None, Training],
        "checkpoint_folder": [None, str, Path],
        "memory": [None, str, HasMethods(["cache"])],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        latent_dim: int | None = None,
        n_levels: int = 2,
        blocks_per_level: int = 1,
        width: int = 32,
        patch_size: int = 2,
        dense: bool = False,
        upsampling: str = "nearest",
        batch_norm: bool = False,
        activation: str = "relu",
        likelihood: str = "logistic_mixture",
        likelihood_options: dict[str, object] | None = None,
        n_decoders: int = 2,
        beta: float = 1.0,
        max_epochs: int = 100,
        training: Training | None = None,
        checkpoint_folder: str | Path | None = None,
        memory: Memory = None,
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
        self.beta = beta
        self.max_epochs = max_epochs
        self.training = training
        self.checkpoint_folder = checkpoint_folder
        self.memory = memory
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _setting(self, name: str) -> Any:
        value = super()._setting(name)
        if name == "latent_dim" and value is None:
            n_pixels = self.image_shape_[1] * self.image_shape_[2]
            return min(round(_CODES_AN_EDGE * n_pixels**0.5), _MOST_CODES)
        if name == "likelihood_options" and value is None:
            return _OPTIONS.get(str(self.likelihood), {})
        return value

    def _architecture(self) -> Architecture:
        return Architecture(
            self.image_shape_,
            **{
                name: getattr(self, name)
                for name in asdict(Architecture(self.image_shape_))
                if name != "image_shape"
            },
        )

    def _new_network(self, generator: torch.Generator) -> ImageNetwork:
        return ImageNetwork(
            self._likelihood(), self._setting("latent_dim"), self._architecture(), generator
        )

    def _settled(self, network: nn.Module) -> nn.Module:
        return fold_batch_norms(network)

    def _empty_member(self) -> nn.Module:
        folded = replace(self._architecture(), batch_norm=False)
        return fold_batch_norms(
            ImageNetwork(self._likelihood(), self._setting("latent_dim"), folded, None)
        )

    def _learn_beside(self, runs: list[TrainedNetwork], score: Score) -> None:
        def crps(beta: float) -> float:
            judge = replace(cast(ScoreOfHiddenCells, score), beta=beta)
            return judge.of_pool([run.network for run in runs])

        # each costs as much as the scores of several epochs
        self.inference_beta_ = least_in_turn(_INFERENCE_BETAS, crps)
        self.noise_width_, self.own_noise_ = 0.0, OWN_NOISE
        if self._likelihood().shares_noise:
            cells = cast(ScoreOfHiddenCells, score).cells
            self.noise_width_, self.own_noise_ = learned_noise(
                [run.network for run in runs], cells, self.inference_beta_, self.image_shape_
            )

    def _kept(self) -> dict[str, object]:
        return {
            "inference_beta": self.inference_beta_,
            "noise_width": self.noise_width_,
            "own_noise": self.own_noise_,
        }

    def _take_kept(self, kept: dict[str, Any]) -> None:
        self.inference_beta_ = float(kept["inference_beta"])
        # models of earlier versions know of no shared noise
        self.noise_width_ = float(kept.get("noise_width", 0.0))
        self.own_noise_ = float(kept.get("own_noise", OWN_NOISE))

    def _own_training(self) -> Training:
        return _TRAINING

    def _validation(self, x: Tensor, observed: Tensor, weight: Tensor, seed: int) -> Score:
        halves = hidden_halves(self.image_shape_, len(x), torch_generator(seed))
        # where one half holds no observed pixel, the other one is hidden
        halves = halves ^ ~(observed & halves).any(dim=1, keepdim=True)
        cells = HiddenCells(x, observed & ~halves, observed & halves, weight)
        beta = self._training().validation_beta
        if beta is None:
            beta = float(np.clip(self.n_features_in_ / _CELLS_OF_BETA, 1.0, _MAX_VALIDATION_BETA))
        return ScoreOfHiddenCells(cells.to(resolve_device(self.device)), beta)


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
