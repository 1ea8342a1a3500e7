"""HierarchicalVAE: a very deep variational autoencoder for images, with codes at many layers."""

from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from .._checks import plain
from .._sklearn_compat import HasMethods, Interval, StrOptions
from .._typing import Memory, Score
from ..exceptions import ModelFormatError
from ._checkpoint import load_strictly
from ._hierarchical import HierarchicalArchitecture, HierarchicalNetwork
from ._image_vae import ImageVAE
from ._likelihoods import IMAGE_LIKELIHOODS, ImageLikelihood, LogisticMixtureLikelihood
from ._training import LossOnRows
from ._training_options import Training

__all__ = ["PRESETS", "HierarchicalVAE"]

PRESETS: dict[str, dict[str, Any]] = {
    "mnist": {
        "encoder_layers": "32x1,32d2,16x2,16d2,8x2,8d2,4x2,4d4,1x2",
        "decoder_layers": "1x2,4m1,4x2,8m4,8x3,16m8,16x2,32m16",
        "width": 64,
        "widths": {32: 16, 16: 32},
        "latent_channels": 4,
        "bottleneck": 0.5,
        "likelihood": "continuous_bernoulli",
        "likelihood_options": {},
        "training": Training(
            learning_rate=1e-3,
            batch_size=32,
            patience=10,
            learning_rate_warmup=0,
            kl_warmup=0,
            weight_decay=0.0,
            average_decay=0.99,
            clip_norm=200.0,
            skip_norm=400.0,
        ),
    },
    "cifar10": {
        "encoder_layers": "32x11,32d2,16x6,16d2,8x6,8d2,4x3,4d4,1x3",
        "decoder_layers": "1x1,4m1,4x2,8m4,8x5,16m8,16x10,32m16,32x21",
        "width": 384,
        "widths": {},
        "latent_channels": 16,
        "bottleneck": 0.25,
        "likelihood": "logistic_mixture",
        "likelihood_options": {"n_components": 10},
        "training": Training(
            learning_rate=2e-4,
            batch_size=16,
            patience=10,
            learning_rate_warmup=0,
            kl_warmup=0,
            weight_decay=0.01,
            average_decay=0.9999,
            clip_norm=200.0,
            skip_norm=400.0,
        ),
    },
    "ffhq256": {
        "encoder_layers": (
            "256x3,256d2,128x8,128d2,64x12,64d2,32x17,32d2,16x7,16d2,8x5,8d2,4x5,4d4,1x4"
        ),
        "decoder_layers": (
            "1x2,4m1,4x3,8m4,8x4,16m8,16x9,32m16,32x21,64m32,64x13,128m64,128x7,256m128"
        ),
        "width": 512,
        "widths": {},
        "latent_channels": 16,
        "bottleneck": 0.25,
        "likelihood": "logistic_mixture",
        "likelihood_options": {"n_components": 10, "n_bits": 5},
        "training": Training(
            learning_rate=1.5e-4,
            batch_size=4,
            patience=10,
            learning_rate_warmup=0,
            kl_warmup=0,
            weight_decay=0.01,
            average_decay=0.999,
            clip_norm=130.0,
            skip_norm=180.0,
        ),
    },
}
PRESETS["ffhq256-small"] = {
    **PRESETS["ffhq256"],
    "encoder_layers": "256x2,256d2,128x3,128d2,64x4,64d2,32x5,32d2,16x3,16d2,8x3,8d2,4x3,4d4,1x3",
    "decoder_layers": "1x2,4m1,4x2,8m4,8x3,16m8,16x4,32m16,32x7,64m32,64x5,128m64,128x3,256m128",
    "width": 160,
    "widths": {256: 64, 128: 128},
}
"""Name -> values of the parameters that are None."""


# Mean and scale of what published weights read, on the scale of bytes, by the architecture that
# they are of ([1]_ of HierarchicalVAE, released code): layers of encoder and decoder, and width.
_PUBLISHED_INPUTS: dict[tuple[str, str, int], tuple[float, float]] = {
    (
        PRESETS["cifar10"]["encoder_layers"],
        PRESETS["cifar10"]["decoder_layers"],
        384,
    ): (120.63838, 64.16736),
    (
        "32x15,32d2,16x9,16d2,8x8,8d2,4x6,4d4,1x6",  # ImageNet, 32 x 32
        "1x2,4m1,4x4,8m4,8x9,16m8,16x19,32m16,32x40",
        512,
    ): (116.2373, 69.37404),
    (
        "64x11,64d2,32x20,32d2,16x9,16d2,8x8,8d2,4x7,4d4,1x5",  # ImageNet, 64 x 64
        "1x2,4m1,4x3,8m4,8x7,16m8,16x15,32m16,32x31,64m32,64x12",
        512,
    ): (115.92961967, 69.37404),
    (
        PRESETS["ffhq256"]["encoder_layers"],
        PRESETS["ffhq256"]["decoder_layers"],
        512,
    ): (112.8666757481, 69.84780273),
}


class HierarchicalVAE(ImageVAE):
    """Very deep variational autoencoder for images, with codes at many layers ([1]_).

    The encoder reads the image from fine to coarse. The decoder goes from coarse to fine; at each
    stochastic layer it draws a code from a prior that depends on all layers before. Parameters
    that are None are the preset's.

    Training climbs the bound on whole images, averages weights over steps, and keeps the epoch
    whose bound of validation images is best. Images may have missing pixels: the encoder sees mid
    grey there and the bound sums over the others.

    Parameters
    ----------
    preset : {"mnist", "cifar10", "ffhq256", "ffhq256-small"}, default="mnist"
        Sizes, likelihood and settings of training. "mnist" is for images of up to 32 x 32 pixels
        and a CPU; "cifar10" and "ffhq256" are those of [1]_, and "ffhq256-small" one of about the
        5.9 million weights that [2]_ used.
    encoder_layers : str, default=None
        Such as "32x11,32d2,16x6": eleven blocks at 32 x 32, one that halves the resolution, six
        blocks at 16 x 16.
    decoder_layers : str, default=None
        Such as "1x2,4m1,4x3": two stochastic layers at 1 x 1, one at 4 x 4 that takes up the maps
        of 1 x 1, three more at 4 x 4. The last resolution is the side of the square that images
        are padded to.
    width : int, default=None
        Channels of the maps.
    widths : dict of int to int, default=None
        Channels at resolutions that differ from ``width``.
    latent_channels : int, default=None
        Channels of the code of a layer.
    bottleneck : float, default=None
        Channels inside of a block as a share of those around it.
    max_bias_resolution : int, default=64
        Largest resolution that starts from a learned map instead of zeros.
    likelihood : str, default=None
        Observation model of the pixels, see `make_image_likelihood`.
    likelihood_options : dict, default=None
        Its options.
    n_decoders : int, default=1
        Decoders whose draws are pooled.
    beta : float, default=1.0
        Weight of the KL in training.
    max_epochs : int, default=100
        Largest number of epochs; an epoch is ``training.steps_per_epoch`` steps.
    training : Training, default=None
        How it is trained, such as ``Training(patience=20)``; searched as ``training__patience``.
        Options at None, and None itself, are the preset's; "mnist" has ``learning_rate=1e-3``,
        ``batch_size=32``, ``patience=10``, ``learning_rate_warmup=0``,
        ``kl_warmup=0``, ``weight_decay=0``,
        ``average_decay=0.99``, ``clip_norm=200`` and ``skip_norm=400``. No more than 256 images are
        used for validation. ``validation_beta`` has no meaning here and must be None.
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
        The trained networks on the CPU.
    image_shape_ : tuple of int
        Channels C, height H and width W.
    history_ : list of list of dict
        For each decoder and epoch the training loss and the validation loss (negative bounds an
        image, in nats) and seconds.
    n_iter_ : int
        Most epochs that a decoder was trained for.
    n_features_in_ : int
        Number of cells D of an image.

    Raises
    ------
    ValueError
        If there are fewer than five images, values lie outside of [0, 1], layers do not follow
        each other, or images are larger than the decoder's last resolution.
    TrainingDivergedError
        If the training loss is not finite.

    Warns
    -----
    ConvergenceWarning
        If the validation bound still improved when the epochs ran out.

    See Also
    --------
    WideResNetVAE : One code, and much faster.
    HierarchicalVAE.from_checkpoint : Takes weights published elsewhere.

    References
    ----------
    .. [1] Child (2021), "Very deep VAEs generalize autoregressive models and can outperform them
       on images", ICLR.
    .. [2] Agarwal, Hope, Younis, Sudderth (2023), "A Decoder Suffices for Query-Adaptive
       Variational Inference", section 4.

    Examples
    --------
    >>> import warnings
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_qavi.generative import HierarchicalVAE, Training
    >>> images = load_digits().images[:100] / 16
    >>> vae = HierarchicalVAE(
    ...     encoder_layers="8x1,8d2,4d4,1x1", decoder_layers="1x1,4m1,8m4", width=16, widths={},
    ...     max_epochs=2, training=Training(steps_per_epoch=5), random_state=0,
    ... )
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # two epochs are only a start
    ...     vae = vae.fit(images)
    >>> vae.decoders_[0].layer_sizes
    [4, 64, 256]
    """

    _max_validation_images: ClassVar[int] = 256
    _validated_by: ClassVar[str] = "the bound of validation images"
    _unread: ClassVar[dict[str, str]] = {
        "validation_beta": (
            "its epochs are told apart by the bound of validation images, as WideResNetVAE's are "
            "by how it completes them"
        )
    }

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        "preset": [StrOptions(set(PRESETS))],
        "encoder_layers": [None, str],
        "decoder_layers": [None, str],
        "width": [None, Interval(Integral, 1, None, closed="left")],
        "widths": [None, dict],
        "latent_channels": [None, Interval(Integral, 1, None, closed="left")],
        "bottleneck": [None, Interval(Real, 0, None, closed="neither")],
        "max_bias_resolution": [Interval(Integral, 0, None, closed="left")],
        "likelihood": [None, StrOptions(set(IMAGE_LIKELIHOODS))],
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
        preset: str = "mnist",
        encoder_layers: str | None = None,
        decoder_layers: str | None = None,
        width: int | None = None,
        widths: dict[int, int] | None = None,
        latent_channels: int | None = None,
        bottleneck: float | None = None,
        max_bias_resolution: int = 64,
        likelihood: str | None = None,
        likelihood_options: dict[str, object] | None = None,
        n_decoders: int = 1,
        beta: float = 1.0,
        max_epochs: int = 100,
        training: Training | None = None,
        checkpoint_folder: str | Path | None = None,
        memory: Memory = None,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.preset = preset
        self.encoder_layers = encoder_layers
        self.decoder_layers = decoder_layers
        self.width = width
        self.widths = widths
        self.latent_channels = latent_channels
        self.bottleneck = bottleneck
        self.max_bias_resolution = max_bias_resolution
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

    def _take(self, config: dict[str, Any], constants: dict[str, Tensor]) -> None:
        if self.widths is not None:
            self.widths = _with_whole_keys(self.widths)
        super()._take(config, constants)

    @classmethod
    def from_checkpoint(
        cls,
        file: str | Path,
        *,
        image_shape: tuple[int, int, int],
        input_mean: float | None = None,
        input_scale: float | None = None,
        **parameters: Any,
    ) -> Self:
        """Take weights in the naming of the published models, without training.

        Parameters
        ----------
        file : path-like
            A state dict that `torch.save` wrote, such as the ``.th`` files of [1]_. It is read
            with ``weights_only=True``: nothing in it is run.
        image_shape : tuple of int
            Channels C, height H and width W.
        input_mean, input_scale : float, default=None
            What the encoder's input is standardized by, pixels counted from 0 to 255. None takes
            those of the published model of these layers and this width (CIFAR-10, ImageNet of 32
            or 64 pixels, FFHQ of 256), whatever the preset is called. A file does not say on which
            images its weights were trained: pass both for those trained on others.
        **parameters : object
            Parameters of the model, such as ``preset="ffhq256"``.

        Returns
        -------
        model : HierarchicalVAE
            Fitted.

        Raises
        ------
        ModelFormatError
            If the file cannot be read or its weights do not fit the architecture, or are of another
            number of mixture components.
        ValueError
            If the input's mean and scale are not known for these layers.

        References
        ----------
        .. [1] Child (2021), https://github.com/openai/vdvae.
        """
        model = cls(**parameters)
        model._validate_params()
        mean, scale = model._published_input(input_mean, input_scale)
        channels, height, width = image_shape
        model.image_shape_ = (channels, height, width)
        model.n_features_in_ = channels * height * width
        model._architecture().check()
        network = model._empty_member()
        published = _read_state_dict(file)
        _check_outputs(published, network.likelihood, file)
        weights = _our_names(published, network.likelihood)
        weights["shift"] = torch.tensor(mean / 255.0)
        weights["scale"] = torch.tensor(scale / 255.0)
        load_strictly(network, weights, file)
        model.decoders_, model.history_, model.n_iter_ = [network], [[]], 0
        return model

    def _published_input(self, mean: float | None, scale: float | None) -> tuple[float, float]:
        """Return what the encoder's input is standardized by, given or known for the layers."""
        names = ("encoder_layers", "decoder_layers", "width")
        known = _PUBLISHED_INPUTS.get(tuple(map(self._setting, names)))
        if mean is not None and scale is not None:
            return mean, scale
        if known is None:
            raise ValueError(
                "input_mean and input_scale are not known for weights of these layers and "
                f"width={self._setting('width')}; pass what they were trained with, on the scale "
                "of bytes. They are known for the published layers of CIFAR-10, ImageNet of 32 and "
                "64 pixels, and FFHQ of 256 pixels."
            )
        return known[0] if mean is None else mean, known[1] if scale is None else scale

    def _setting(self, name: str) -> Any:
        value = getattr(self, name)
        return PRESETS[self.preset].get(name) if value is None else value

    def _architecture(self) -> HierarchicalArchitecture:
        return HierarchicalArchitecture(
            self.image_shape_,
            encoder_layers=self._setting("encoder_layers"),
            decoder_layers=self._setting("decoder_layers"),
            width=self._setting("width"),
            widths=_with_whole_keys(self._setting("widths")),
            latent_channels=self._setting("latent_channels"),
            bottleneck=self._setting("bottleneck"),
            max_bias_resolution=self.max_bias_resolution,
        )

    def _new_network(self, generator: torch.Generator | None) -> HierarchicalNetwork:
        return HierarchicalNetwork(self._likelihood(), self._architecture(), generator)

    def _empty_member(self) -> HierarchicalNetwork:
        return self._new_network(None).eval().requires_grad_(False)

    def _prepare(self, network: nn.Module, x: Tensor, observed: Tensor) -> None:
        network = cast(HierarchicalNetwork, network)
        values = x[observed]
        network.shift.fill_(float(values.mean()))
        network.scale.fill_(max(float(values.std()), 1e-3))

    def _own_training(self) -> Training:
        own: Training = PRESETS[self.preset]["training"]
        return own

    def _validation(self, x: Tensor, observed: Tensor, weight: Tensor, seed: int) -> Score:
        return LossOnRows(x, observed, observed, weight, seed)


def _with_whole_keys(widths: Mapping[int, int] | Mapping[str, int]) -> dict[int, int]:
    """Return widths by resolution; JSON turns whole numbers into strings where they are keys."""
    return {int(resolution): int(width) for resolution, width in widths.items()}


def _read_state_dict(file: str | Path) -> dict[str, Tensor]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch raises many kinds for what is no checkpoint
        raise ModelFormatError(f"{file} cannot be read as a state dict: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelFormatError(f"{file} holds no state dict of tensors.")
    return state


def _check_outputs(
    published: dict[str, Tensor], likelihood: ImageLikelihood, file: str | Path
) -> None:
    """Raise if the last layer has other channels than the likelihood takes."""
    last = next((v for k, v in published.items() if k.endswith("out_conv.weight")), None)
    _, height, width = likelihood.image_shape
    expected = likelihood.n_outputs // (height * width)
    if last is None or len(last) == expected:
        return
    message = f"The last layer in {file} has {len(last)} channels, but {plain(likelihood.name)}"
    if isinstance(likelihood, LogisticMixtureLikelihood):
        m = likelihood.n_components
        message += f" of n_components={m} takes {expected}."
        if len(last) * m % expected == 0:
            message += (
                f" These are weights of likelihood_options={{'n_components': "
                f"{len(last) * m // expected}, ...}}."
            )
    else:
        message += f" takes {expected}."
    raise ModelFormatError(message)


def _our_names(state: dict[str, Tensor], likelihood: ImageLikelihood) -> dict[str, Tensor]:
    """Return published weights under our names, with the last layer's channels in our order."""
    order, out = _our_order(likelihood), {}
    for name, value in state.items():
        ours = name.removeprefix("module.").replace("decoder.out_net.out_conv", "decoder.out_conv")
        out[ours] = value[order] if ours.startswith("decoder.out_conv") else value
    return out


def _our_order(likelihood: ImageLikelihood) -> Tensor | slice:
    """Return which published output channel is each of ours, for mixtures of logistics.

    They have logits first and then, channel by channel, locations, scales and coefficients; we
    have logits, all locations, all scales, all coefficients.
    """
    if not isinstance(likelihood, LogisticMixtureLikelihood):
        return slice(None)
    m, n_channels = likelihood.n_components, likelihood.n_channels
    rest = torch.arange(m, m + 3 * m * n_channels).view(n_channels, 3, m)
    n_pairs = n_channels * (n_channels - 1) // 2
    coefficients = rest[:n_pairs, 2]
    return torch.cat(
        [torch.arange(m), rest[:, 0].flatten(), rest[:, 1].flatten(), coefficients.flatten()]
    )
