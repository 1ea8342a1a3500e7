"""Gaussian with a covariance of its own: one mean and one triangular root per row."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .._settings import MAX_FULL_CURVATURE, Adam, Newton, OptimizerSettings
from ._base import Draws, PosteriorFamily, Start, inverse_softplus, padded_square

__all__ = ["FullGaussianPosterior"]

_LOG_2PI = 1.8378770664093453
_LEAST_SCALE = 1e-6


class FullGaussianPosterior(PosteriorFamily):
    """Gaussian with full covariance.

    Where cells are missing, latent dimensions depend on each other given the others: a
    `GaussianPosterior`, which has none of that, is then too sure. Newton steps find the diagonal
    Gaussian; the expected curvature that they end with is the inverse of the covariance, less one.
    Each row gets it if its bound is the higher for it, at the same points.

    Parameters
    ----------
    latent_dim : int
        Size L of the latent code.

    References
    ----------
    .. [1] Opper, Archambeau (2009), "The variational Gaussian approximation revisited".

    Examples
    --------
    >>> import torch
    >>> from sklearn_qavi.inference import FullGaussianPosterior, FunctionTarget, fit_posterior
    >>> def log_likelihood(z, rows):  # x ~ N(z_1 + z_2, 1), x = 1: the codes are exchangeable
    ...     return -0.5 * (1.0 - z.sum(-1)) ** 2
    >>> target = FunctionTarget(log_likelihood, n_rows=1, latent_dim=2)
    >>> result = fit_posterior(target, FullGaussianPosterior(2), seed=0)
    >>> mean, covariance = result.posterior.moments()
    >>> covariance[0].numpy().round(2)
    array([[ 0.67, -0.33],
           [-0.33,  0.67]], dtype=float32)
    """

    warm_start = True

    @classmethod
    def default_optimizer(cls, latent_dim: int) -> OptimizerSettings:
        """Return Newton steps, or Adam for more than 48 latent dimensions."""
        return Newton() if latent_dim <= MAX_FULL_CURVATURE else Adam()

    @property
    def n_parameters(self) -> int:
        """Number P of unconstrained parameters per row: L (L + 3) / 2."""
        return self.latent_dim * (self.latent_dim + 3) // 2

    def parameters_of(self, mean: Tensor, root: Tensor) -> Tensor:
        """Return parameters (B, P) for means (B, L) and lower triangular roots (B, L, L)."""
        row, column = self._below(root.device)
        diagonal = torch.diagonal(root, dim1=-2, dim2=-1).clamp_min(_LEAST_SCALE)
        return torch.cat([mean, inverse_softplus(diagonal), root[..., row, column]], dim=-1)

    def mean_and_root(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return means (B, L) and lower triangular roots (B, L, L) of the covariances."""
        n_latent = self.latent_dim
        mean, raw, below = parameters.split(
            [n_latent, n_latent, n_latent * (n_latent - 1) // 2], dim=-1
        )
        row, column = self._below(parameters.device)
        first = torch.arange(len(parameters), device=parameters.device).unsqueeze(1)
        root = torch.diag_embed(softplus(raw))
        return mean, root.index_put((first, row, column), below)

    def mean_and_scale(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of each latent dimension, each (B, L)."""
        mean, root = self.mean_and_root(parameters)
        return mean, root.square().sum(-1).sqrt()

    def with_covariance(self, mean: Tensor, scale: Tensor, covariance: Tensor) -> Tensor:
        """Return parameters (B, P) for these covariances, or scales where one has no root."""
        root, failed = torch.linalg.cholesky_ex(padded_square(covariance))
        n_latent = self.latent_dim
        usable = (failed == 0) & torch.isfinite(root.flatten(1).sum(1))
        diagonal = torch.diag_embed(scale)
        return self.parameters_of(
            mean, torch.where(usable[:, None, None], root[:, :n_latent, :n_latent], diagonal)
        )

    def initialize(self, start: Start) -> Tensor:
        """Return the first parameters of a block, (B, P)."""
        if start.covariance is None:
            return self.parameters_of(start.mean, torch.diag_embed(start.scale))
        return self.with_covariance(start.mean, start.scale, start.covariance)

    def rsample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Return codes (S, B, L) from noise (S, B or 1, L)."""
        z, root = self.mean_and_root(parameters)
        for j in range(self.latent_dim):  # a product's last bits would depend on how many draws
            z = torch.addcmul(z, noise[..., j : j + 1], root[..., j])
        return z

    def log_prob(self, parameters: Tensor, z: Tensor) -> Tensor:
        """Return log q(z) in nats, (S, B), for codes (S, B, L)."""
        mean, root = self.mean_and_root(parameters)
        centred = (z - mean).permute(1, 2, 0)
        standardized = torch.linalg.solve_triangular(root, centred, upper=False)
        log_scale = torch.diagonal(root, dim1=-2, dim2=-1).log().sum(-1)
        squares = (standardized.square() + _LOG_2PI).sum(1)
        by_row: Tensor = -0.5 * squares - log_scale.unsqueeze(1)
        return by_row.mT

    def draw(self, parameters: Tensor, noise: Tensor) -> Draws:
        """Return the draws that the bound is estimated from; no log q: the KL is closed."""
        z = self.rsample(parameters, noise)
        return Draws(z, self._equal_weight(z))

    def kl(self, parameters: Tensor, draws: Draws) -> Tensor:
        """Return KL(q || N(0, I)) in nats, (B,), in closed form."""
        mean, root = self.mean_and_root(parameters)
        log_scale = torch.diagonal(root, dim1=-2, dim2=-1).log()
        squares = mean.square() + root.square().sum(-1) - 1.0
        return (0.5 * squares - log_scale).sum(-1)

    def moments(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean (B, L) and covariance (B, L, L)."""
        mean, root = self.mean_and_root(parameters)
        return mean, root @ root.mT

    def _below(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return rows and columns of the entries below the diagonal."""
        n_latent = self.latent_dim
        row, column = torch.tril_indices(n_latent, n_latent, offset=-1, device=device)
        return row, column
