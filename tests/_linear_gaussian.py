"""A decoder whose posteriors are known exactly: x = W z + b + noise, z ~ N(0, I).

Everything is Gaussian, so for any pattern of missing cells the posterior of the code, the
distribution of the missing cells and the log probability of the observed ones have closed forms.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]

_MIN_SCALE = 1e-3  # the "gaussian" likelihood has scale softplus(raw) + 0.001


class LinearDecoder(nn.Module):
    """Maps codes (..., L) to D locations and D raw scales, (..., 2 D)."""

    weight: Tensor
    bias: Tensor
    raw_scale: Tensor

    def __init__(self, weight: Array, bias: Array, noise_scale: Array, dtype: torch.dtype) -> None:
        super().__init__()
        self.latent_dim = weight.shape[1]
        # softplus(raw) + 0.001 = noise_scale
        raw_scale = np.log(np.expm1(noise_scale - _MIN_SCALE))
        for name, values in [("weight", weight), ("bias", bias), ("raw_scale", raw_scale)]:
            self.register_buffer(name, torch.as_tensor(values, dtype=dtype))

    def forward(self, z: Tensor) -> Tensor:
        location = z @ self.weight.T + self.bias
        return torch.cat([location, self.raw_scale.expand_as(location)], dim=-1)


class LinearEncoder(nn.Module):
    """The exact posterior of complete rows where it is diagonal, as means and raw scales."""

    gain: Tensor
    bias: Tensor
    raw_scale: Tensor

    def __init__(self, gain: Array, bias: Array, scale: Array) -> None:
        super().__init__()
        raw_scale = np.log(np.expm1(scale - _MIN_SCALE))
        for name, values in [("gain", gain), ("bias", bias), ("raw_scale", raw_scale)]:
            self.register_buffer(name, torch.as_tensor(values, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        mean = (x - self.bias) @ self.gain.T
        return torch.cat([mean, self.raw_scale.expand_as(mean)], dim=-1)


@dataclass(frozen=True)
class LinearGaussian:
    """x = W z + b + sigma * noise with z ~ N(0, I).

    A row is an array (D,); ``observed`` is its bool mask (D,), True where the cell is observed.
    What stands in missing cells is never read. Log probabilities are in nats.
    """

    weight: Array  # (D, L)
    bias: Array  # (D,)
    noise_scale: Array  # (D,), standard deviations

    @classmethod
    def random(cls, n_features: int = 5, latent_dim: int = 2, seed: int = 0) -> Self:
        """Return a model with weights of order one and noise between 0.3 and 0.7."""
        rng = np.random.default_rng(seed)
        return cls(
            rng.normal(size=(n_features, latent_dim)),
            rng.normal(size=n_features),
            rng.uniform(0.3, 0.7, size=n_features),
        )

    @classmethod
    def orthogonal(cls) -> Self:
        """Return a model of five features and two codes, independent given all features."""
        weight = np.array([[1.0, 0.5], [1.0, -0.5], [-0.5, 1.0], [0.5, 1.0], [1.0, 0.0]])
        weight[:, 1] -= weight[:, 0] * (weight[:, 0] @ weight[:, 1]) / (weight[:, 0] @ weight[:, 0])
        return cls(weight, np.arange(5.0) / 5, np.full(5, 0.5))

    def encoder(self, *, shift: float = 0.0, widen: float = 1.0) -> LinearEncoder:
        """Return the exact encoder of an orthogonal model, or one that is off on purpose."""
        precise = self.weight.T / self.noise_scale**2
        covariance = np.linalg.inv(np.eye(self.latent_dim) + precise @ self.weight)
        scale = widen * np.sqrt(np.diag(covariance))
        encoder = LinearEncoder(covariance @ precise, self.bias, scale)
        encoder.bias -= shift
        return encoder

    @property
    def n_features(self) -> int:
        return self.weight.shape[0]

    @property
    def latent_dim(self) -> int:
        return self.weight.shape[1]

    def decoder(self, dtype: torch.dtype = torch.float32) -> LinearDecoder:
        """Return the model as a module for the "gaussian" likelihood."""
        return LinearDecoder(self.weight, self.bias, self.noise_scale, dtype)

    def draw_rows(self, n_rows: int, seed: int = 0) -> Array:
        """Return rows (n_rows, D) without missing cells."""
        rng = np.random.default_rng(seed)
        z = rng.normal(size=(n_rows, self.latent_dim))
        noise = self.noise_scale * rng.normal(size=(n_rows, self.n_features))
        return z @ self.weight.T + self.bias + noise

    def code_posterior(self, x: Array, observed: NDArray[np.bool_]) -> tuple[Array, Array]:
        """Return mean (L,) and covariance (L, L) of p(z | x_O)."""
        weight = self.weight[observed]
        precise = weight.T / self.noise_scale[observed] ** 2
        covariance = np.linalg.inv(np.eye(self.latent_dim) + precise @ weight)
        return covariance @ (precise @ (x - self.bias)[observed]), covariance

    def missing_given_observed(self, x: Array, observed: NDArray[np.bool_]) -> tuple[Array, Array]:
        """Return mean (M,) and covariance (M, M) of p(x_M | x_O), M = number of missing cells."""
        mean, covariance = self.code_posterior(x, observed)
        weight = self.weight[~observed]
        noise = np.diag(self.noise_scale[~observed] ** 2)
        return weight @ mean + self.bias[~observed], weight @ covariance @ weight.T + noise

    def log_prob_observed(self, x: Array, observed: NDArray[np.bool_]) -> float:
        """Return log p(x_O); 0 if nothing is observed."""
        centred = (x - self.bias)[observed]
        weight = self.weight[observed]
        covariance = weight @ weight.T + np.diag(self.noise_scale[observed] ** 2)
        _, log_det = np.linalg.slogdet(2 * np.pi * covariance)
        return float(-0.5 * (log_det + centred @ np.linalg.solve(covariance, centred)))
