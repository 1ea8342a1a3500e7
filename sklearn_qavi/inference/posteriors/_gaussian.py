"""Diagonal Gaussian: one mean and one scale per latent dimension."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .._settings import MAX_FULL_CURVATURE, Adam, Newton, OptimizerSettings
from ._base import Draws, Posterior, PosteriorFamily, Start, inverse_softplus

__all__ = ["GaussianPosterior", "diagonal_normal_log_prob"]

_LOG_2PI = 1.8378770664093453


def diagonal_normal_log_prob(z: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Return log N(z; mean, diag(scale^2)) in nats, summed over the last axis."""
    standardized = (z - mean) / scale
    return -0.5 * (standardized.square() + _LOG_2PI).sum(-1) - scale.log().sum(-1)


class GaussianPosterior(PosteriorFamily):
    """Gaussian with diagonal covariance.

    Parameters
    ----------
    latent_dim : int
        Size L of the latent code.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), section 3.2.

    Examples
    --------
    >>> import torch
    >>> from sklearn_qavi.inference import FunctionTarget, GaussianPosterior, fit_posterior
    >>> x = torch.tensor([1.0, -2.0])
    >>> def log_likelihood(z, rows):  # x ~ N(z, 1), so the posterior is N(x / 2, 1 / 2)
    ...     return -0.5 * (x[rows] - z[..., 0]) ** 2
    >>> target = FunctionTarget(log_likelihood, n_rows=2, latent_dim=1)
    >>> result = fit_posterior(target, GaussianPosterior(1), seed=0)
    >>> mean, covariance = result.posterior.moments()
    >>> mean.squeeze().numpy().round(1)
    array([ 0.5, -1. ], dtype=float32)
    """

    @classmethod
    def default_optimizer(cls, latent_dim: int) -> OptimizerSettings:
        """Return Newton steps, or for more than 48 latent dimensions a decaying learning rate.

        Newton steps that see only the diagonal settle in the nearest mode; large steps that
        become smaller find better ones.
        """
        if latent_dim <= MAX_FULL_CURVATURE:
            return Newton()
        return Adam(
            max_iter=140,
            n_draws=4,
            window=20,
            learning_rate=1.0,
            min_learning_rate=0.01,
            decay=0.5,
            decay_always=True,
            n_start_codes=1024,
        )

    @classmethod
    def posterior(cls, mean: Tensor, scale: Tensor) -> Posterior:
        """Return the posteriors with these means and scales, both (N, L)."""
        return Posterior(cls(mean.shape[-1]), torch.cat([mean, inverse_softplus(scale)], dim=-1))

    @property
    def n_parameters(self) -> int:
        """Number P of unconstrained parameters per row: 2 L."""
        return 2 * self.latent_dim

    def mean_and_scale(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and scale, each (B, L)."""
        mean, raw_scale = parameters.split(self.latent_dim, dim=-1)
        return mean, softplus(raw_scale)

    def initialize(self, start: Start) -> Tensor:
        """Return the first parameters of a block, (B, P)."""
        return torch.cat([start.mean, inverse_softplus(start.scale)], dim=-1)

    def rsample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Return codes (S, B, L) from noise (S, B or 1, L)."""
        mean, scale = self.mean_and_scale(parameters)
        return mean + scale * noise

    def log_prob(self, parameters: Tensor, z: Tensor) -> Tensor:
        """Return log q(z) in nats, (S, B), for codes (S, B, L)."""
        return diagonal_normal_log_prob(z, *self.mean_and_scale(parameters))

    def draw(self, parameters: Tensor, noise: Tensor) -> Draws:
        """Return the draws that the bound is estimated from; no log q: the KL is closed."""
        z = self.rsample(parameters, noise)
        return Draws(z, self._equal_weight(z))

    def kl(self, parameters: Tensor, draws: Draws) -> Tensor:
        """Return KL(q || N(0, I)) in nats, (B,), in closed form."""
        mean, scale = self.mean_and_scale(parameters)
        return (0.5 * (mean.square() + scale.square() - 1.0) - scale.log()).sum(-1)

    def moments(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean (B, L) and covariance (B, L, L)."""
        mean, scale = self.mean_and_scale(parameters)
        return mean, torch.diag_embed(scale.square())
