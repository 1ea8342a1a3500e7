"""A posterior that is a set of equally likely codes: what chains and resampling leave."""

import torch
from torch import Tensor

from ._base import Posterior, PosteriorFamily, Start

__all__ = ["SampledCodes"]


class SampledCodes(PosteriorFamily):
    """Equally likely codes, the same number for each row. It has no density and is not fitted.

    Parameters
    ----------
    latent_dim : int
        Size L of the latent code.
    n_codes : int
        Number K of codes.
    """

    codes_of_a_mean = 128

    def __init__(self, latent_dim: int, n_codes: int) -> None:
        super().__init__(latent_dim)
        self.n_codes = n_codes

    @classmethod
    def posterior(cls, codes: Tensor) -> Posterior:
        """Return the posteriors that codes (K, N, L) are."""
        n_codes, n_rows, latent_dim = codes.shape
        parameters = codes.transpose(0, 1).reshape(n_rows, n_codes * latent_dim)
        return Posterior(cls(latent_dim, n_codes), parameters)

    @property
    def n_parameters(self) -> int:
        """Number P of parameters per row: K L."""
        return self.n_codes * self.latent_dim

    @property
    def n_noise(self) -> int:
        """Base-noise dimensions of one draw: one uniform picks the code."""
        return 1

    def noise_from_uniform(self, u: Tensor) -> Tensor:
        """Return the uniforms themselves."""
        return u

    def initialize(self, start: Start) -> Tensor:
        """Raise: codes come from a chain or from resampling."""
        raise NotImplementedError("SampledCodes is made from codes, not fitted.")

    def rsample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Return codes (S, B, L) picked by uniforms (S, B or 1, 1)."""
        codes: Tensor = parameters.unflatten(-1, (self.n_codes, self.latent_dim))
        index = (noise * self.n_codes).long().clamp(0, self.n_codes - 1)
        index = index.expand(-1, len(parameters), self.latent_dim).transpose(0, 1)
        return codes.gather(1, index).transpose(0, 1)

    def log_prob(self, parameters: Tensor, z: Tensor) -> Tensor:
        """Raise: a set of codes has no density."""
        raise NotImplementedError(
            "A set of codes has no density; InferenceResult.code_posterior gives one that has."
        )

    def moments(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean (B, L) and covariance (B, L, L) of the codes."""
        codes: Tensor = parameters.unflatten(-1, (self.n_codes, self.latent_dim))
        mean = codes.mean(1)
        centred = codes - mean.unsqueeze(1)
        return mean, torch.einsum("bki,bkj->bij", centred, centred) / self.n_codes
