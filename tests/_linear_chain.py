"""A hierarchical decoder whose posteriors are known exactly: scalar codes in a chain.

z_1 ~ N(0, 1), z_l ~ N(a_l z_(l-1), s_l), pixels x = w z_L + b + noise. Everything is Gaussian and
z_l depends on z_(l-1) and the pixels alone, so the exact posterior is one that mixes the prior's
mean with a constant and the prior's scale with a smaller one: a hierarchical posterior whose
posterior networks pass features on as means reaches it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_qavi.generative import make_image_likelihood


class LinearChain(nn.Module):
    """Codes (n, 1, 1, 1) of three layers; the observation is Gaussian with scale 0.4."""

    slopes = (0.0, 0.9, -1.3)
    scales = (1.0, 0.6, 0.8)
    posterior_scale = 0.01
    noise = 0.4

    def __init__(self, image_shape: tuple[int, int, int] = (1, 2, 3)) -> None:
        super().__init__()
        self.image_shape = image_shape
        n_cells = int(np.prod(image_shape))
        self.likelihood = make_image_likelihood("gaussian", image_shape, scale="decoder")
        self.latent_dim, self.layer_sizes = 3, [1, 1, 1]
        self.feature_shapes = [(1, 1, 1)] * 3
        weight = np.random.default_rng(3).normal(size=n_cells)
        self.register_buffer("weight", torch.as_tensor(weight, dtype=torch.float64))
        self.register_buffer("bias", torch.full((n_cells,), 0.5, dtype=torch.float64))
        raw = float(np.log(np.expm1(self.noise - 1e-3)))
        self.register_buffer("raw", torch.full((n_cells,), raw, dtype=torch.float64))

    def split_codes(self, z: Tensor) -> list[Tensor]:
        return [part.view(-1, 1, 1, 1) for part in z.split(1, dim=-1)]

    def features(self, x: Tensor) -> list[Tensor]:
        return [x.mean(1).view(-1, 1, 1, 1)] * 3

    def observed_positions(self, observed: Tensor) -> list[Tensor]:
        return [observed.any(1).view(-1, 1, 1, 1)] * 3

    def descend(
        self, n: int, step: Callable[..., Any], *, checkpointing: bool = False
    ) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        z, extras = self.weight.new_zeros(n, 1, 1, 1), []
        for layer, (slope, scale) in enumerate(zip(self.slopes, self.scales, strict=True)):
            prior = (slope * z, torch.full_like(z, scale))

            def posterior(features: Tensor) -> tuple[Tensor, Tensor]:
                return features, torch.full_like(features, self.posterior_scale)

            z, extra = step(layer, prior, posterior)
            extras.append(extra)
        location = z.view(n, 1) * self.weight + self.bias
        return torch.cat([location, self.raw.expand_as(location)], dim=1), extras

    def decode(self, z: Tensor) -> Tensor:
        codes = self.split_codes(z.reshape(-1, 3))

        def step(layer: int, prior: tuple[Tensor, Tensor], posterior: Any) -> Any:
            return prior[0] + prior[1] * codes[layer], ()

        return self.descend(len(codes[0]), step)[0].unflatten(0, z.shape[:-1])

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and covariance of all cells."""
        variance = 0.0
        for slope, scale in zip(self.slopes, self.scales, strict=True):
            variance = slope**2 * variance + scale**2
        weight = self.weight.numpy()
        covariance = variance * np.outer(weight, weight) + self.noise**2 * np.eye(len(weight))
        return self.bias.numpy(), covariance
