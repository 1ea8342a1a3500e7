"""Wide residual networks for images: an encoder, a decoder, and batch norms folded away."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, pixel_shuffle, softplus

from .._plan import CPU_IMAGES
from ._layers import ACTIVATIONS, linear
from ._likelihoods import ImageLikelihood
from ._network import GaussianEncoderNetwork

__all__ = ["Architecture", "ImageNetwork", "fold_batch_norms", "in_chunks"]

_MIN_SCALE = 1e-3


@dataclass(frozen=True)
class Architecture:
    """Sizes of both networks.

    Parameters
    ----------
    image_shape : tuple of int
        Channels C, height H and width W.
    n_levels : int
        Resolutions; each is half of the one before.
    blocks_per_level : int
        Blocks of two convolutions at each resolution.
    width : int
        Channels at the finest resolution; twice as many at the next, and so on.
    patch_size : int
        Side of the square of pixels that one cell of the finest resolution stands for.
    dense : bool
        Whether blocks add their channels to what they read instead of being summed with it.
    upsampling : {"nearest", "transposed"}
        How the decoder doubles its resolution.
    batch_norm : bool
        Whether convolutions are followed by batch norms.
    activation : str
        See ``ACTIVATIONS``.
    """

    image_shape: tuple[int, int, int]
    n_levels: int = 2
    blocks_per_level: int = 1
    width: int = 32
    patch_size: int = 2
    dense: bool = False
    upsampling: str = "nearest"
    batch_norm: bool = False
    activation: str = "relu"

    @property
    def stride(self) -> int:
        """Pixels along one side that a cell of the coarsest resolution stands for."""
        size: int = self.patch_size * 2 ** (self.n_levels - 1)
        return size

    @property
    def widths(self) -> list[int]:
        """Channels of each resolution, the finest first."""
        return [self.width * 2**level for level in range(self.n_levels)]

    @property
    def coarse_shape(self) -> tuple[int, int, int]:
        """Channels, height and width at the coarsest resolution."""
        _, height, width = self.image_shape
        return self.widths[-1], -(-height // self.stride), -(-width // self.stride)

    @property
    def padded_shape(self) -> tuple[int, int]:
        """Height and width of the image with a margin that makes them multiples of the stride."""
        return self.coarse_shape[1] * self.stride, self.coarse_shape[2] * self.stride

    def check(self) -> None:
        """Raise ValueError if images are smaller than one cell of the coarsest resolution."""
        _, height, width = self.image_shape
        if min(height, width) < self.stride:
            raise ValueError(
                f"Images of {height} x {width} pixels are too small for n_levels={self.n_levels} "
                f"and patch_size={self.patch_size}, which take any size from {self.stride} x "
                f"{self.stride} pixels. Lower n_levels or patch_size."
            )


class _Convolution(nn.Module):
    """Convolution that keeps the resolution unless told otherwise, with a batch norm on request."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        size: int,
        generator: torch.Generator | None,
        *,
        stride: int = 1,
        norm: bool = False,
        zero: bool = False,
    ) -> None:
        super().__init__()
        padding = (size - 1) // 2 if stride == 1 else 0
        self.conv: nn.Conv2d = nn.utils.skip_init(
            nn.Conv2d, n_in, n_out, size, stride=stride, padding=padding
        )
        _initialize(self.conv, n_in * size * size, generator, zero=zero and not norm)
        self.norm = nn.BatchNorm2d(n_out) if norm else None
        if self.norm is not None and zero:
            nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x if self.norm is None else self.norm(x)

    @torch.no_grad()
    def fold(self) -> None:
        """Put the batch norm, as it is in evaluation, into the convolution's weights."""
        if self.norm is None:
            return
        norm, conv = self.norm, self.conv
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert conv.bias is not None
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        conv.weight.mul_(gain.view(-1, 1, 1, 1))
        conv.bias.copy_((conv.bias - norm.running_mean) * gain + norm.bias)
        self.norm = None


class _Block(nn.Module):
    """Two 3 x 3 convolutions; what they add starts at zero.

    Activations come first and batch norms follow convolutions, so that every norm can be folded.
    """

    def __init__(
        self, n_in: int, n_out: int, architecture: Architecture, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        norm, self.dense = architecture.batch_norm, architecture.dense
        self.activation = ACTIVATIONS[architecture.activation]()
        self.first = _Convolution(n_in, n_out, 3, generator, norm=norm)
        self.second = _Convolution(n_out, n_out, 3, generator, norm=norm, zero=not self.dense)

    def forward(self, x: Tensor) -> Tensor:
        change = self.second(self.activation(self.first(self.activation(x))))
        return torch.cat([x, change], dim=1) if self.dense else x + change


def _stage(
    width: int, architecture: Architecture, generator: torch.Generator | None
) -> nn.Sequential:
    """Return the blocks of one resolution."""
    layers: list[nn.Module] = []
    n_in = width
    for _ in range(architecture.blocks_per_level):
        layers.append(_Block(n_in, width, architecture, generator))
        n_in = n_in + width if architecture.dense else width
    if architecture.dense:
        layers.append(_Convolution(n_in, width, 1, generator))
    return nn.Sequential(*layers)


class _Doubling(nn.Module):
    """Twice the resolution."""

    def __init__(
        self, n_in: int, n_out: int, architecture: Architecture, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        self.transposed = architecture.upsampling == "transposed"
        self.layer: nn.Module
        if self.transposed:
            layer = nn.utils.skip_init(nn.ConvTranspose2d, n_in, n_out, 4, stride=2, padding=1)
            _initialize(layer, 4 * n_in, generator)  # a pixel is reached by 2 x 2 of the 4 x 4
            self.layer = layer
        else:
            self.layer = _Convolution(n_in, n_out, 1, generator)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return x if self.transposed else interpolate(x, scale_factor=2.0, mode="nearest")


class _Encoder(nn.Module):
    """From images and their masks, (n, 2 C, H, W), to (n, 2 L)."""

    def __init__(
        self, architecture: Architecture, latent_dim: int, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        widths, patch = architecture.widths, architecture.patch_size
        self.margin = _margin(architecture)
        n_in = 2 * architecture.image_shape[0]
        layers: list[nn.Module] = [_patches(n_in, widths[0], patch, generator)]
        for level, width in enumerate(widths):
            if level:
                layers.append(_Convolution(widths[level - 1], width, 2, generator, stride=2))
            layers.append(_stage(width, architecture, generator))
        layers.append(ACTIVATIONS[architecture.activation]())
        self.layers = nn.Sequential(*layers)
        self.last = linear(math.prod(architecture.coarse_shape), 2 * latent_dim, generator)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.layers(pad(x, self.margin)).flatten(1))
        return out


class _Decoder(nn.Module):
    """From codes (n, L) to maps of parameters, (n, K, H, W)."""

    def __init__(
        self,
        architecture: Architecture,
        latent_dim: int,
        n_maps: int,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        widths = architecture.widths
        self.coarse_shape, self.image_shape = architecture.coarse_shape, architecture.image_shape
        self.margin, self.patch_size = _margin(architecture), architecture.patch_size
        self.first = linear(latent_dim, math.prod(architecture.coarse_shape), generator)
        layers: list[nn.Module] = []
        for level in reversed(range(len(widths))):
            layers.append(_stage(widths[level], architecture, generator))
            if level:
                layers.append(_Doubling(widths[level], widths[level - 1], architecture, generator))
        layers.append(ACTIVATIONS[architecture.activation]())
        n_out = n_maps * self.patch_size**2
        layers.append(_Convolution(widths[0], n_out, 3, generator))
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        coarse = self.first(z).unflatten(1, self.coarse_shape)
        # channels last spares oneDNN a change of layout at every layer
        maps = self.layers(coarse.contiguous(memory_format=torch.channels_last))
        maps = pixel_shuffle(maps, self.patch_size)
        left, _, top, _ = self.margin
        _, height, width = self.image_shape
        return maps[..., top : top + height, left : left + width]


class ImageNetwork(GaussianEncoderNetwork):
    """Encoder and decoder of one VAE on images as flat rows of values from 0 to 1.

    Parameters
    ----------
    likelihood : ImageLikelihood
        Observation model of the cells.
    latent_dim : int
        Size L of the code.
    architecture : Architecture
        Sizes of the networks.
    generator : torch.Generator or None
        Source of the initial weights; None leaves them to be loaded.

    Attributes
    ----------
    decodes_alone : bool
        On a CPU a code's numbers do not depend on how many others are decoded with it.
    """

    decodes_alone = True

    def __init__(
        self,
        likelihood: ImageLikelihood,
        latent_dim: int,
        architecture: Architecture,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.latent_dim, self.likelihood = latent_dim, likelihood
        self.image_shape = architecture.image_shape
        n_maps = likelihood.n_outputs // math.prod(self.image_shape[1:])
        self.encoder = _Encoder(architecture, latent_dim, generator)
        self.decoder = _Decoder(architecture, latent_dim, n_maps, generator)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, x: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and scale of the encoder's posterior, each (..., L)."""
        shown = torch.where(visible, 2.0 * x - 1.0, 0.0)
        both = torch.stack([shown, visible.to(x.dtype)], dim=-2)
        images = both.reshape(-1, 2 * self.image_shape[0], *self.image_shape[1:])
        out = self._run(self.encoder, images.contiguous(memory_format=torch.channels_last))
        mean, raw_scale = out.unflatten(0, x.shape[:-1]).chunk(2, dim=-1)
        return mean, softplus(raw_scale) + _MIN_SCALE

    def decode(self, z: Tensor) -> Tensor:
        """Return the likelihood's parameters (..., P) for codes (..., L)."""
        maps = self._run(self.decoder, z.reshape(-1, self.latent_dim))
        rows: Tensor = maps.flatten(1).unflatten(0, z.shape[:-1])
        return rows

    def _run(self, network: nn.Module, rows: Tensor) -> Tensor:
        # batch norms in training need the whole batch
        out: Tensor = network(rows) if self.training else in_chunks(network, rows)
        return out


def in_chunks(function: Callable[[Tensor], Tensor], rows: Tensor, size: int = CPU_IMAGES) -> Tensor:
    """Apply a function to rows, on a CPU always to ``size`` of them at a time.

    Parameters
    ----------
    function : callable
        Maps n rows to n rows, each on its own.
    rows : Tensor of shape (n, ...)
        Zeros fill the last chunk up.
    size : int, default=CPU_IMAGES
        Rows at a time.

    Returns
    -------
    out : Tensor of shape (n, ...)
        The same bits for a row whatever the others.
    """
    n = len(rows)
    if rows.device.type != "cpu" or n == 0:
        return function(rows)
    more = -n % size
    if more:
        rows = torch.cat([rows, rows.new_zeros(more, *rows.shape[1:])])
    return torch.cat([function(chunk) for chunk in rows.split(size)])[:n]


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode whose batch norms are part of the convolutions.

    Parameters
    ----------
    network : nn.Module
        It is not changed.

    Returns
    -------
    folded : nn.Module
        The same function in evaluation, up to rounding, without gradients for its weights.
    """
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    for module in folded.modules():
        if isinstance(module, _Convolution):
            module.fold()
    return folded


def _initialize(
    layer: nn.Linear | nn.Conv2d,
    fan_in: int,
    generator: torch.Generator | None,
    *,
    zero: bool = False,
) -> None:
    """Draw weights that keep the variance through rectified activations; biases are zero."""
    if generator is None:
        return
    bound = 0.0 if zero else math.sqrt(6.0 / fan_in)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.zero_()  # type: ignore[union-attr]


def _patches(n_in: int, n_out: int, size: int, generator: torch.Generator | None) -> _Convolution:
    """Return what reads patches of pixels as cells of the finest resolution."""
    return _Convolution(n_in, n_out, 3 if size == 1 else size, generator, stride=size)


def _margin(architecture: Architecture) -> tuple[int, int, int, int]:
    """Return left, right, top and bottom margin around the image, in pixels."""
    _, height, width = architecture.image_shape
    tall, wide = architecture.padded_shape
    left, top = (wide - width) // 2, (tall - height) // 2
    return left, wide - width - left, top, tall - height - top
