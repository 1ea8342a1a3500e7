"""Inverse autoregressive flow whose weights belong to the row."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..._random import torch_generator
from .._settings import Adam, OptimizerSettings
from ._base import (
    Draws,
    PosteriorFamily,
    Start,
    inverse_softplus,
    padded,
    padded_square,
    standard_normal_log_prob,
)

__all__ = ["FlowPosterior"]

_MAX_LOG_SCALE = 2.0


@dataclass(frozen=True)
class _LayerWeights:
    """The weights of one autoregressive layer of B rows; masks are already applied.

    L and 2 L are padded, see `padded`.
    """

    into: Tensor  # (B, L, H)
    hidden_bias: Tensor  # (B, 1, H)
    out: Tensor  # (B, H, 2 L)
    direct: Tensor  # (B, L, L), strictly upper: feature l reads features before l
    bias: Tensor  # (B, 1, 2 L)

    def __call__(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return shift and log scale of every dimension, (B, S, L), from u (B, S, L)."""
        n_latent = u.shape[-1]
        wide = padded(u)
        hidden = torch.tanh(torch.baddbmm(self.hidden_bias, wide, self.into))
        both = torch.baddbmm(self.bias, hidden, self.out)[..., : 2 * n_latent]
        shift, raw = both.chunk(2, dim=-1)
        # a bounded scale keeps the early steps from throwing draws far out
        log_scale = _MAX_LOG_SCALE * torch.tanh(raw / _MAX_LOG_SCALE)
        return shift + torch.bmm(wide, self.direct)[..., :n_latent], log_scale


class FlowPosterior(PosteriorFamily):
    """Inverse autoregressive flow followed by a location and a scale, all of them per row.

    Each layer maps u to shift(u_<l) + exp(log_scale(u_<l)) u_l, with a one-hidden-layer masked
    network plus a linear path, so that a full-covariance Gaussian is inside the family. The order
    of the dimensions is reversed between layers.

    Parameters
    ----------
    latent_dim : int
        Size L of the latent code.
    n_layers : int, default=2
        Number of autoregressive layers.
    hidden_size : int, default=16
        Hidden units H of each layer's network.

    References
    ----------
    .. [1] Kingma et al. (2016), "Improved variational inference with inverse autoregressive flow".
    .. [2] Agarwal, Hope, Younis, Sudderth (2023), section 3.2.

    Examples
    --------
    >>> import torch
    >>> from sklearn_qavi.inference import FlowPosterior, FunctionTarget, fit_posterior
    >>> def log_likelihood(z, rows):  # a sum is observed: the posterior is correlated
    ...     return -0.5 * ((2.0 - z.sum(-1)) / 0.5) ** 2
    >>> target = FunctionTarget(log_likelihood, n_rows=1, latent_dim=2)
    >>> result = fit_posterior(target, FlowPosterior(2, n_layers=1), seed=0)
    >>> mean, covariance = result.posterior.moments()
    >>> bool(covariance[0, 0, 1] < -0.3)
    True
    """

    warm_start: ClassVar[bool] = True

    def __init__(self, latent_dim: int, n_layers: int = 2, hidden_size: int = 16) -> None:
        super().__init__(latent_dim)
        self.n_layers = n_layers
        self.hidden_size = hidden_size

    @classmethod
    def default_optimizer(cls, latent_dim: int) -> OptimizerSettings:
        """Return Adam with small steps: many weights move each dimension of a code.

        The start at a Gaussian posterior leaves little to find.
        """
        return Adam(max_iter=480, n_draws=8, learning_rate=0.01, min_learning_rate=0.003)

    @property
    def _layer_sizes(self) -> list[int]:
        n_l, n_h = self.latent_dim, self.hidden_size
        return [n_l * n_h, n_h, n_h * 2 * n_l, n_l * n_l, 2 * n_l]

    @property
    def n_parameters(self) -> int:
        """Number P of unconstrained parameters per row."""
        return self.n_layers * sum(self._layer_sizes) + 2 * self.latent_dim

    def initialize(self, start: Start) -> Tensor:
        """Start at the Gaussian start, with its covariance in the first layer's linear path.

        The networks' output weights are zero, their input weights random.
        """
        n_rows = start.mean.shape[0]
        n_l, n_h = self.latent_dim, self.hidden_size
        shape = (self.n_layers, n_l * n_h)
        into = torch.randn(*shape, generator=torch_generator(0), dtype=torch.float64)
        layers = start.mean.new_zeros(n_rows, self.n_layers, sum(self._layer_sizes))
        layers[..., : n_l * n_h] = (into / max(n_l, 1) ** 0.5).to(start.mean)
        scale = start.scale
        if start.covariance is not None:
            scale = torch.diagonal(start.covariance, dim1=1, dim2=2).sqrt()
            direct, raw_log_scale = self._linear_path(start.covariance, scale)
            layers[:, 0, -2 * n_l - n_l * n_l : -2 * n_l] = direct.flatten(1)
            layers[:, 0, -n_l:] = raw_log_scale
        return torch.cat([layers.flatten(1), start.mean, inverse_softplus(scale)], dim=-1)

    def _linear_path(self, covariance: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first layer's direct weights and raw log scales that give a covariance."""
        correlation = covariance / (scale.unsqueeze(1) * scale.unsqueeze(2))
        if self.n_layers % 2:  # every layer reverses the order of the dimensions
            correlation = correlation.flip(1, 2)
        n_latent = self.latent_dim
        factor = torch.linalg.cholesky(padded_square(correlation))[:, :n_latent, :n_latent]
        log_scale = torch.diagonal(factor, dim1=1, dim2=2).log()
        bounded = (log_scale / _MAX_LOG_SCALE).clamp(-0.9, 0.9)
        return factor.tril(-1).transpose(1, 2), _MAX_LOG_SCALE * torch.atanh(bounded)

    def rsample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Return codes (S, B, L) from noise (S, B or 1, L)."""
        return self._forward(parameters, noise)[0]

    def log_prob(self, parameters: Tensor, z: Tensor) -> Tensor:
        """Return log q(z) in nats, (S, B), by inverting the flow dimension by dimension."""
        layers, mean, scale = self._split(parameters)
        log_q = -scale.log().sum(-1)
        u = ((z - mean) / scale).transpose(0, 1)
        for layer in reversed(layers):
            u, log_det = _invert(layer, u.flip(-1))
            log_q = log_q - log_det.T
        return standard_normal_log_prob(u).T + log_q

    def draw(self, parameters: Tensor, noise: Tensor) -> Draws:
        """Return the draws that the bound is estimated from, with log q from the same pass.

        Gradients of log q reach the parameters directly: inverting the flow to stop them would
        cost L passes per step.
        """
        z, log_q = self._forward(parameters, noise)
        return Draws(z, self._equal_weight(z), log_q)

    def _forward(self, parameters: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        layers, mean, scale = self._split(parameters)
        base = noise.expand(-1, parameters.shape[0], -1)
        log_q = standard_normal_log_prob(base) - scale.log().sum(-1)
        u = base.transpose(0, 1)
        for layer in layers:
            shift, log_scale = layer(u)
            u = (shift + log_scale.exp() * u).flip(-1)
            log_q = log_q - log_scale.sum(-1).T
        return mean + scale * u.transpose(0, 1), log_q

    def _split(self, parameters: Tensor) -> tuple[list[_LayerWeights], Tensor, Tensor]:
        n_l = self.latent_dim
        width = sum(self._layer_sizes)
        sizes = [width] * self.n_layers + [n_l, n_l]
        *layers, mean, raw_scale = parameters.split(sizes, dim=-1)
        return [self._layer(layer) for layer in layers], mean, softplus(raw_scale)

    def _layer(self, parameters: Tensor) -> _LayerWeights:
        n_l, n_h = self.latent_dim, self.hidden_size
        into, hidden_bias, out, direct, bias = parameters.split(self._layer_sizes, dim=-1)
        into_mask, out_mask = self._masks(parameters)
        return _LayerWeights(
            into=padded(into.unflatten(-1, (n_l, n_h)) * into_mask, rows=True)[..., :n_h],
            hidden_bias=hidden_bias.unsqueeze(-2),
            out=padded(out.unflatten(-1, (n_h, 2 * n_l)) * out_mask),
            direct=padded(direct.unflatten(-1, (n_l, n_l)).triu(1), rows=True),
            bias=padded(bias.unsqueeze(-2)),
        )

    def _masks(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden unit h may read features up to its degree and feed features after it."""
        feature = torch.arange(self.latent_dim, device=like.device)
        unit = torch.arange(self.hidden_size, device=like.device)
        degree = unit % max(self.latent_dim - 1, 1)
        into = feature.unsqueeze(1) <= degree
        out = degree.unsqueeze(1) < feature.repeat(2)
        return into.to(like.dtype), out.to(like.dtype)


def _invert(layer: _LayerWeights, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return u and the log determinant (B, S) with y = shift(u) + exp(log_scale(u)) u."""
    u = torch.zeros_like(y)
    for i in range(y.shape[-1]):
        shift, log_scale = layer(u)
        solved = (y[..., i] - shift[..., i]) * (-log_scale[..., i]).exp()
        u = torch.cat([u[..., :i], solved.unsqueeze(-1), u[..., i + 1 :]], dim=-1)
    _, log_scale = layer(u)
    return u, log_scale.sum(-1)
