"""Weights in the naming of the published very deep VAEs, and their model computed from these alone.

Written from the architecture's description (Child 2021), without the package's classes.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, gelu, interpolate

ENCODER, DECODER = "8x1,8d2,4x1,4d4,1x1", "1x2,4m1,4x1,8m4"


class Published:
    """A model of three channels computed from a state dict alone, by the published description.

    Blocks are convolutions 1 x 1, 3 x 3, 3 x 3, 1 x 1 (all 1 x 1 at resolutions under 3), each
    after a GELU. A layer at resolution r reads maps x; its posterior network reads x and the
    encoder's activations at r, its prior network x; the prior's output is mean, log scale, and
    what is added to x.
    """

    def __init__(self, state: dict[str, Tensor], latent: int, mixtures: int) -> None:
        self.state, self.latent, self.mixtures = state, latent, mixtures

    def conv(self, name: str, x: Tensor) -> Tensor:
        weight = self.state[f"{name}.weight"]
        return conv2d(x, weight, self.state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def block(self, name: str, x: Tensor) -> Tensor:
        for k in (1, 2, 3, 4):
            x = self.conv(f"{name}.c{k}", gelu(x))
        return x

    def negative_log_likelihood(
        self, images: Tensor, mean: float, scale: float, noise: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the reconstruction error of bytes (n, 3, 8, 8) and the layers' KLs, (n,)."""
        x = self.conv("encoder.in_conv", (images - mean) / scale)
        activations = {8: x}
        for i, rate in enumerate([1, 2, 1, 4, 1]):  # of ENCODER
            x = x + self.block(f"encoder.enc_blocks.{i}", x)
            x = avg_pool2d(x, rate) if rate > 1 else x
            activations[x.shape[-1]] = x
        maps = {1: 0, 4: 1, 8: 2}
        maps = {
            r: self.state[f"decoder.bias_xs.{i}"].repeat(len(images), 1, 1, 1)
            for r, i in maps.items()
        }
        kls = []
        for i, (r, source) in enumerate([(1, 0), (1, 0), (4, 1), (4, 0), (8, 4)]):  # of DECODER
            h, name = maps[r], f"decoder.dec_blocks.{i}"
            if source:
                h = h + interpolate(maps[source], scale_factor=r // source)
            q_mean, q_log = self.block(f"{name}.enc", torch.cat([h, activations[r]], 1)).chunk(2, 1)
            prior = self.block(f"{name}.prior", h)
            p_mean, p_log = prior[:, : self.latent], prior[:, self.latent : 2 * self.latent]
            h = h + prior[:, 2 * self.latent :]
            q = torch.distributions.Normal(q_mean, q_log.exp())
            p = torch.distributions.Normal(p_mean, p_log.exp())
            kls.append(torch.distributions.kl_divergence(q, p).flatten(1).sum(1))
            h = h + self.conv(f"{name}.z_proj", q_mean + q_log.exp() * noise[i])
            maps[r] = h + self.block(f"{name}.resnet", h)
        out = maps[8] * self.state["decoder.gain"] + self.state["decoder.bias"]
        return self.mixture(self.conv("decoder.out_net.out_conv", out), images), kls

    def mixture(self, maps: Tensor, images: Tensor) -> Tensor:
        """Return minus the log mass of bytes under mixtures of discretized logistics."""
        m = self.mixtures
        y = (images - 127.5) / 127.5
        logits, rest = maps[:, :m], maps[:, m:].unflatten(1, (3, 3 * m))
        means, log_scales, coefficients = rest.split(m, dim=2)
        coefficients = coefficients.tanh()
        y0, y1 = y[:, 0:1], y[:, 1:2]
        centres = [
            means[:, 0],
            means[:, 1] + coefficients[:, 0] * y0,
            means[:, 2] + coefficients[:, 1] * y0 + coefficients[:, 2] * y1,
        ]
        total = logits.log_softmax(1)
        for c, centre in enumerate(centres):
            spread = log_scales[:, c].clamp(min=-7.0).exp()
            level = y[:, c : c + 1]
            upper = torch.sigmoid((level + 1 / 255 - centre) / spread)
            lower = torch.sigmoid((level - 1 / 255 - centre) / spread)
            mass = torch.where(level < -0.999, upper, upper - lower)
            mass = torch.where(level > 0.999, 1 - lower, mass)
            total = total + mass.log()
        return -total.logsumexp(1).flatten(1).sum(1)


def published_state(width: int = 8, latent: int = 2, mixtures: int = 3) -> dict[str, Tensor]:
    """Return weights in the published naming, made without our classes."""
    generator, state = torch.Generator().manual_seed(5), {}

    def conv(name: str, n_in: int, n_out: int, size: int = 1) -> None:
        spread = 0.6 / math.sqrt(n_in * size * size)
        shape = (n_out, n_in, size, size)
        state[f"{name}.weight"] = spread * torch.randn(shape, generator=generator)
        state[f"{name}.bias"] = 0.1 * torch.randn(n_out, generator=generator)

    def block(name: str, n_in: int, n_out: int, resolution: int) -> None:
        inner, size = width // 4, 3 if resolution > 2 else 1
        conv(f"{name}.c1", n_in, inner)
        conv(f"{name}.c2", inner, inner, size)
        conv(f"{name}.c3", inner, inner, size)
        conv(f"{name}.c4", inner, n_out)

    conv("encoder.in_conv", 3, width, 3)
    for i, resolution in enumerate([8, 8, 4, 4, 1]):
        block(f"encoder.enc_blocks.{i}", width, width, resolution)
    for i, resolution in enumerate([1, 1, 4, 4, 8]):
        name = f"decoder.dec_blocks.{i}"
        block(f"{name}.enc", 2 * width, 2 * latent, resolution)
        block(f"{name}.prior", width, 2 * latent + width, resolution)
        conv(f"{name}.z_proj", latent, width)
        block(f"{name}.resnet", width, width, resolution)
    for i, resolution in enumerate([1, 4, 8]):
        shape = (1, width, resolution, resolution)
        state[f"decoder.bias_xs.{i}"] = torch.randn(shape, generator=generator)
    state["decoder.gain"] = 1 + 0.1 * torch.randn(1, width, 1, 1, generator=generator)
    state["decoder.bias"] = 0.1 * torch.randn(1, width, 1, 1, generator=generator)
    conv("decoder.out_net.out_conv", width, 10 * mixtures)
    return state
