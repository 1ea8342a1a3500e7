"""Very deep hierarchical networks for images: an encoder, and a decoder with codes at many layers.

A layer's code has a prior that depends on the layers before it. The decoder takes all codes as one
flat vector of standard normals: what a layer adds to its prior's mean is counted in the prior's
standard deviations. So a hierarchical model is a decoder with the prior N(0, I) like any other.
"""

import copy
import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d, avg_pool2d, gelu, interpolate, pad
from torch.utils.checkpoint import checkpoint

from .._checks import plain
from .._plan import LayerPlan
from .._typing import Chosen, LayerPosterior, Step
from ._likelihoods import ImageLikelihood
from ._network import VAENetwork
from ._wide_resnet import in_chunks

__all__ = [
    "HierarchicalArchitecture",
    "HierarchicalNetwork",
    "Layer",
    "parse_decoder_layers",
    "parse_encoder_layers",
]

_SMALLEST_3X3 = 3  # resolution from which convolutions look at neighbours


class Layer(NamedTuple):
    """One stochastic layer: its resolution, and the one whose maps it takes up, if any."""

    resolution: int
    mixin: int | None


def parse_encoder_layers(layers: str) -> list[tuple[int, int]]:
    """Read the encoder's layer string.

    Parameters
    ----------
    layers : str
        Such as "32x11,32d2,16x6": eleven blocks at 32 x 32, one that halves the resolution, six
        blocks at 16 x 16.

    Returns
    -------
    blocks : list of (int, int)
        Resolution and factor by which the block lowers it, 1 for none.

    Raises
    ------
    ValueError
        If a part of the string cannot be read or blocks do not follow each other.
    """
    blocks: list[tuple[int, int]] = []
    for part in _parts(layers):
        if "d" in part:
            resolution, factor = _two_numbers(part, "d")
            blocks.append((resolution, factor))
        else:
            resolution, count = _two_numbers(part, "x") if "x" in part else (_number(part), 1)
            blocks += [(resolution, 1)] * count
    for (before, factor), (after, _) in pairwise(blocks):
        if before % factor or before // factor != after:
            raise ValueError(
                f"A block of the encoder that leaves {before} / {factor} is followed by one at "
                f"{after} in {plain(layers)}. Write e.g. '32x2,32d2,16x2'."
            )
    return blocks


def parse_decoder_layers(layers: str) -> list[Layer]:
    """Read the decoder's layer string.

    Parameters
    ----------
    layers : str
        Such as "1x2,4m1,4x3": two layers at 1 x 1, one at 4 x 4 that takes up the maps of
        1 x 1, three more at 4 x 4.

    Returns
    -------
    layers : list of Layer
        In the order in which codes are drawn.

    Raises
    ------
    ValueError
        If a part of the string cannot be read, or takes up a resolution that is not there.
    """
    out: list[Layer] = []
    for part in _parts(layers):
        if "m" in part:
            resolution, mixin = _two_numbers(part, "m")
            if mixin not in {layer.resolution for layer in out}:
                raise ValueError(
                    f"{plain(part)} takes up {mixin}, which is not before it in {plain(layers)}."
                )
            if resolution % mixin:
                raise ValueError(f"{resolution} is no multiple of {mixin} in {plain(part)}.")
            out.append(Layer(resolution, mixin))
        else:
            resolution, count = _two_numbers(part, "x") if "x" in part else (_number(part), 1)
            out += [Layer(resolution, None)] * count
    return out


def _parts(layers: str) -> list[str]:
    parts = [part.strip() for part in layers.split(",") if part.strip()]
    if not parts:
        raise ValueError("A layer string is empty; write e.g. '1x2,4m1,4x3'.")
    return parts


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{plain(text)} in a layer string is no positive whole number.")
    return int(text)


def _two_numbers(part: str, mark: str) -> tuple[int, int]:
    first, _, second = part.partition(mark)
    return _number(first), _number(second)


@dataclass(frozen=True)
class HierarchicalArchitecture:
    """Sizes of both networks, in the notation of Child (2021).

    Parameters
    ----------
    image_shape : tuple of int
        Channels C, height H and width W.
    encoder_layers, decoder_layers : str
        See `parse_encoder_layers` and `parse_decoder_layers`.
    width : int
        Channels of the maps.
    widths : dict of int to int
        Channels at resolutions that differ from ``width``.
    latent_channels : int
        Channels of the code of a layer.
    bottleneck : float
        Channels inside of a block as a share of those around it.
    max_bias_resolution : int
        Largest resolution that starts from a learned map instead of zeros.
    """

    image_shape: tuple[int, int, int]
    encoder_layers: str
    decoder_layers: str
    width: int
    widths: dict[int, int] = field(default_factory=dict)
    latent_channels: int = 16
    bottleneck: float = 0.25
    max_bias_resolution: int = 64

    @property
    def size(self) -> int:
        """Side of the square that images are padded to: the decoder's last resolution."""
        return self.layers[-1].resolution

    @property
    def layers(self) -> list[Layer]:
        """The stochastic layers."""
        return parse_decoder_layers(self.decoder_layers)

    @property
    def margin(self) -> tuple[int, int, int, int]:
        """Left, right, top and bottom margin around the image, in pixels."""
        _, height, width = self.image_shape
        left, top = (self.size - width) // 2, (self.size - height) // 2
        return left, self.size - width - left, top, self.size - height - top

    def width_at(self, resolution: int) -> int:
        """Return the channels of maps at a resolution."""
        return self.widths.get(resolution, self.width)

    def inner_width_at(self, resolution: int) -> int:
        """Return the channels inside of a block."""
        return max(1, int(self.width_at(resolution) * self.bottleneck))

    def check(self) -> None:
        """Raise ValueError if the two networks or the images do not fit each other."""
        _, height, width = self.image_shape
        if max(height, width) > self.size:
            raise ValueError(
                f"Images of {height} x {width} pixels are larger than the decoder's last "
                f"resolution, {self.size}, in decoder_layers={plain(self.decoder_layers)}."
            )
        blocks = parse_encoder_layers(self.encoder_layers)
        if blocks[0][0] != self.size:
            raise ValueError(
                f"encoder_layers start at resolution {blocks[0][0]}, but decoder_layers end at "
                f"{self.size}; both must be the side of the (padded) image."
            )
        widths = [
            self.width_at(r)
            for resolution, factor in blocks
            for r in (resolution, resolution // factor)
        ]
        if any(after < before for before, after in pairwise(widths)):
            raise ValueError(
                f"The encoder's widths {widths} must not fall where the resolution does; widths="
                f"{self.widths}."
            )
        seen = {self.size, *(resolution // factor for resolution, factor in blocks)}
        missing = sorted({layer.resolution for layer in self.layers} - seen)
        if missing:
            raise ValueError(
                f"decoder_layers have codes at resolution(s) {missing}, which encoder_layers never "
                f"reach; they reach {sorted(seen)}."
            )
        for layer in self.layers:
            if layer.mixin and self.width_at(layer.mixin) < self.width_at(layer.resolution):
                raise ValueError(
                    f"Resolution {layer.mixin} has {self.width_at(layer.mixin)} channels, fewer "
                    f"than the {self.width_at(layer.resolution)} at {layer.resolution}, which "
                    "takes them up. Widths must not grow with the resolution."
                )


class _Block(nn.Module):
    """Four convolutions, 1 x 1, 3 x 3, 3 x 3 and 1 x 1, each after a GELU."""

    def __init__(
        self,
        n_in: int,
        n_inner: int,
        n_out: int,
        resolution: int,
        generator: torch.Generator | None,
        *,
        residual: bool = False,
        factor: int = 1,
        last_gain: float = 1.0,
    ) -> None:
        super().__init__()
        size = 3 if resolution >= _SMALLEST_3X3 else 1
        self.residual, self.factor = residual, factor
        self.c1 = _convolution(n_in, n_inner, 1, generator)
        self.c2 = _convolution(n_inner, n_inner, size, generator)
        self.c3 = _convolution(n_inner, n_inner, size, generator)
        self.c4 = _convolution(n_inner, n_out, 1, generator, gain=last_gain)

    def forward(self, x: Tensor) -> Tensor:
        change = x
        for layer in (self.c1, self.c2, self.c3, self.c4):
            change = layer(gelu(change))
        out = x + change if self.residual else change
        return avg_pool2d(out, self.factor) if self.factor > 1 else out


class _Encoder(nn.Module):
    """From images (n, C, R, R) to features by resolution."""

    def __init__(
        self, architecture: HierarchicalArchitecture, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        blocks = parse_encoder_layers(architecture.encoder_layers)
        self.widths = {
            r: architecture.width_at(r) for res, factor in blocks for r in (res, res // factor)
        }
        n_in = architecture.image_shape[0]
        self.in_conv = _convolution(n_in, self.widths[blocks[0][0]], 3, generator)
        self.mask_conv: nn.Conv2d | None = None
        self.enc_blocks = nn.ModuleList(
            _Block(
                architecture.width_at(resolution),
                architecture.inner_width_at(resolution),
                architecture.width_at(resolution),
                resolution,
                generator,
                residual=True,
                factor=factor,
                last_gain=math.sqrt(1.0 / len(blocks)),
            )
            for resolution, factor in blocks
        )

    def forward(self, x: Tensor, seen: Tensor | None = None) -> dict[int, Tensor]:
        x = self.in_conv(x)
        if seen is not None and self.mask_conv is not None:
            x = x + self.mask_conv(seen)
        features = {x.shape[-1]: x}
        for block in self.enc_blocks:
            x = block(x)
            resolution = x.shape[-1]
            x = _with_channels(x, self.widths[resolution])
            features[resolution] = x
        return features


class _StochasticLayer(nn.Module):
    """One layer's prior, posterior and residual networks."""

    def __init__(
        self,
        architecture: HierarchicalArchitecture,
        layer: Layer,
        n_layers: int,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.latent_channels = architecture.latent_channels
        width = architecture.width_at(layer.resolution)
        inner = architecture.inner_width_at(layer.resolution)
        depth_gain = math.sqrt(1.0 / n_layers)
        sizes = (layer.resolution, generator)
        self.enc = _Block(2 * width, inner, 2 * self.latent_channels, *sizes)
        self.prior = _Block(width, inner, 2 * self.latent_channels + width, *sizes, last_gain=0.0)
        self.z_proj = _convolution(self.latent_channels, width, 1, generator, gain=depth_gain)
        self.resnet = _Block(width, inner, width, *sizes, residual=True, last_gain=depth_gain)

    def forward(self, layer: int, x: Tensor, step: Step) -> tuple[Tensor, ...]:
        """Return the maps after the layer, and what ``step`` hands on."""
        n = self.latent_channels
        mean, log_scale, change = self.prior(x).split([n, n, x.shape[1]], dim=1)

        def posterior(features: Tensor, network: nn.Module = self.enc) -> tuple[Tensor, Tensor]:
            mean, log_scale = network(torch.cat([x, features], dim=1)).chunk(2, dim=1)
            return mean, log_scale.exp()

        z, extra = step(layer, (mean, log_scale.exp()), posterior)
        return self.resnet(x + change + self.z_proj(z)), *extra


class _Decoder(nn.Module):
    """From the codes of all layers to maps of the likelihood's parameters, (n, K, R, R)."""

    def __init__(
        self,
        architecture: HierarchicalArchitecture,
        n_maps: int,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.layers = layers = architecture.layers
        self.widths = {r: architecture.width_at(r) for r, _ in layers}
        self.dec_blocks = nn.ModuleList(
            _StochasticLayer(architecture, layer, len(layers), generator) for layer in layers
        )
        biased = sorted(r for r in self.widths if r <= architecture.max_bias_resolution)
        self.bias_xs = nn.ParameterList(torch.zeros(1, self.widths[r], r, r) for r in biased)
        width = self.widths[architecture.size]
        self.gain = nn.Parameter(torch.ones(1, width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.out_conv = _convolution(width, n_maps, 1, generator)

    def forward(
        self, n: int, step: Step, checkpointing: bool
    ) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """Return the maps, and what ``step`` handed on at each layer."""
        maps = {b.shape[-1]: b.expand(n, -1, -1, -1) for b in self.bias_xs}
        extras = []
        for number, block in enumerate(self.dec_blocks):
            resolution, mixin = self.layers[number]
            x = maps.get(resolution)
            if x is None:
                x = self.gain.new_zeros(n, self.widths[resolution], resolution, resolution)
            if mixin is not None:
                coarse = maps[mixin][:, : x.shape[1]]
                x = x + interpolate(coarse, scale_factor=resolution // mixin, mode="nearest")
            if checkpointing and torch.is_grad_enabled():
                x, *extra = checkpoint(block, number, x, step, use_reentrant=False)
            else:
                x, *extra = block(number, x, step)
            maps[resolution] = x
            extras.append(tuple(extra))
        out = self.out_conv(maps[self.layers[-1].resolution] * self.gain + self.bias)
        return out, extras


class HierarchicalNetwork(VAENetwork):
    """A very deep VAE on images as flat rows of values from 0 to 1.

    Parameters
    ----------
    likelihood : ImageLikelihood
        Observation model of the cells.
    architecture : HierarchicalArchitecture
        Sizes of the networks.
    generator : torch.Generator or None
        Source of the initial weights; None leaves them to be loaded.

    Attributes
    ----------
    latent_dim : int
        Size L of all codes together.
    layer_sizes : list of int
        Size of each layer's code.
    feature_shapes : list of tuple of int
        Shape (W, R, R) of what the encoder tells each layer of the image.

    References
    ----------
    .. [1] Child (2021), "Very deep VAEs generalize autoregressive models and can outperform them
       on images", ICLR.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        likelihood: ImageLikelihood,
        architecture: HierarchicalArchitecture,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.image_shape, self.margin = architecture.image_shape, architecture.margin
        channels = architecture.latent_channels
        resolutions = [layer.resolution for layer in architecture.layers]
        self.code_shapes = [(channels, r, r) for r in resolutions]
        self.layer_sizes = [math.prod(shape) for shape in self.code_shapes]
        self.latent_dim = sum(self.layer_sizes)
        self.feature_shapes = [(architecture.width_at(r), r, r) for r in resolutions]
        n_maps = likelihood.n_outputs // math.prod(self.image_shape[1:])
        self.encoder = _Encoder(architecture, generator)
        self.decoder = _Decoder(architecture, n_maps, generator)
        self.register_buffer("shift", torch.tensor(0.5))
        self.register_buffer("scale", torch.tensor(0.5))

    def features(self, x: Tensor, seen: Tensor | None = None) -> list[Tensor]:
        """Return what the encoder tells each layer, (n, W, R, R), of rows (n, D).

        ``seen`` (n, D), True where a cell is observed, is read by an encoder that reads masks; the
        rows hold something in the other cells all the same.
        """
        if seen is not None:
            seen = pad(seen.to(x.dtype).unflatten(1, self.image_shape), self.margin)
        by_resolution = self.encoder(self.standardized(x), seen)
        return [by_resolution[shape[-1]] for shape in self.feature_shapes]

    def standardized(self, x: Tensor) -> Tensor:
        """Return rows (n, D) as images with a margin, (n, C, R, R), as the encoder reads them."""
        images = (x - self.shift) / self.scale
        return pad(images.unflatten(1, self.image_shape), self.margin)

    def observed_positions(self, observed: Tensor) -> list[Tensor]:
        """Return which positions of each layer stand for an observed pixel, (n, 1, R, R).

        ``observed`` (n, D) is True where a cell is observed. The margin does not count.
        """
        seen = observed.to(self.shift.dtype).unflatten(1, self.image_shape)
        images = pad(seen.amax(1, keepdim=True), self.margin)
        return [adaptive_max_pool2d(images, shape[-1]) > 0 for shape in self.feature_shapes]

    def reading_masks(self) -> "HierarchicalNetwork":
        """Return a copy to be trained whose encoder reads masks too, at first without effect."""
        copied = copy.deepcopy(self).requires_grad_(True)
        width = copied.encoder.in_conv.out_channels
        copied.encoder.mask_conv = _convolution(self.image_shape[0], width, 3, None)
        nn.init.zeros_(copied.encoder.mask_conv.weight)
        nn.init.zeros_(copied.encoder.mask_conv.bias)  # type: ignore[arg-type]
        return copied

    def descend(
        self, n: int, step: Step, *, checkpointing: bool = False
    ) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """Walk down the layers with codes that ``step`` chooses.

        Parameters
        ----------
        n : int
            Images at one time.
        step : callable
            See `Step`.
        checkpointing : bool, default=False
            Let gradients compute each layer's activations again instead of keeping them: slower by
            a third, in memory that grows with the largest layer instead of all layers.

        Returns
        -------
        params : Tensor of shape (n, P)
            The likelihood's parameters.
        extras : list of tuple of Tensor
            What ``step`` handed on at each layer.
        """
        maps, extras = self.decoder(n, step, checkpointing)
        left, _, top, _ = self.margin
        _, height, width = self.image_shape
        return maps[..., top : top + height, left : left + width].flatten(1), extras

    def split_codes(self, z: Tensor) -> list[Tensor]:
        """Return the codes (n, C, R, R) of each layer, of flat ones (n, L)."""
        parts = z.split(self.layer_sizes, dim=-1)
        return [p.unflatten(-1, shape) for p, shape in zip(parts, self.code_shapes, strict=True)]

    def decode(self, z: Tensor) -> Tensor:
        """Return the likelihood's parameters (..., P) for codes (..., L), in prior's units."""
        rows = z.reshape(-1, self.latent_dim)
        if self.training:
            params = self._decode(rows)
        else:
            params = in_chunks(self._decode, rows, LayerPlan(self).images)
        by_code: Tensor = params.unflatten(0, z.shape[:-1])
        return by_code

    def _decode(self, z: Tensor) -> Tensor:
        codes = self.split_codes(z)

        def step(layer: int, prior: tuple[Tensor, Tensor], posterior: LayerPosterior) -> Chosen:
            mean, scale = prior
            return mean + scale * codes[layer], ()

        return self.descend(len(z), step)[0]

    def forward(
        self,
        x: Tensor,
        scored: Tensor,
        visible: Tensor,
        input_noise: Tensor,
        code_noise: Tensor,
        prepared: object,
    ) -> tuple[Tensor, Tensor]:
        """Return reconstruction of the scored cells and KL, both (N,), in nats."""
        params, by_layer = self.encoder_posterior(
            torch.where(visible, x + input_noise, self.shift), code_noise
        )
        return self.reconstruction(params, prepared, scored), by_layer.sum(1)

    def encoder_posterior(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the codes of rows from the encoder's posterior.

        Parameters
        ----------
        x : Tensor of shape (N, D)
            Complete rows, or filled ones.
        noise : Tensor of shape (N, L)
            Standard normal.

        Returns
        -------
        params : Tensor of shape (N, P)
            The likelihood's parameters at the codes.
        kl : Tensor of shape (N, n_layers)
            Divergence of each layer's posterior from its prior, in nats.
        """
        features, noises = self.features(x), self.split_codes(noise)

        def step(layer: int, prior: tuple[Tensor, Tensor], posterior: LayerPosterior) -> Chosen:
            mean, scale = posterior(features[layer])
            kl = normal_kl(mean, scale, *prior).flatten(1).sum(1)
            return mean + scale * noises[layer], (kl,)

        params, extras = self.descend(len(x), step)
        return params, torch.stack([kl for (kl,) in extras], dim=1)


def normal_kl(mean: Tensor, scale: Tensor, mean_to: Tensor, scale_to: Tensor) -> Tensor:
    """Return KL(N(mean, scale) || N(mean_to, scale_to)) in nats, cell by cell."""
    ratio = scale / scale_to
    shift = (mean - mean_to) / scale_to
    return 0.5 * (ratio.square() + shift.square() - 1.0) - ratio.log()


def _with_channels(x: Tensor, n_channels: int) -> Tensor:
    """Return maps with zeros for channels that are not there."""
    more = n_channels - x.shape[1]
    return x if more == 0 else pad(x, (0, 0, 0, 0, 0, more))


def _convolution(
    n_in: int, n_out: int, size: int, generator: torch.Generator | None, *, gain: float = 1.0
) -> nn.Conv2d:
    """Return a convolution that keeps the resolution, with biases of zero."""
    layer: nn.Conv2d = nn.utils.skip_init(nn.Conv2d, n_in, n_out, size, padding=size // 2)
    if generator is not None:
        bound = 1.0 / math.sqrt(n_in * size * size)
        with torch.no_grad():
            layer.weight.uniform_(-bound, bound, generator=generator).mul_(gain)
            layer.bias.zero_()  # type: ignore[union-attr]
    return layer
