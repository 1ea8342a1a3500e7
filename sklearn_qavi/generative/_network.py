"""The bound that VAEs are trained on, and the networks of a VAE for tables."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from .._typing import JointLikelihood
from ._inputs import EncoderInputs
from ._inverse_root import inverse_root
from ._layers import MLP, apply_tiled
from ._likelihoods import ColumnLikelihoods

__all__ = ["MIN_SCALE", "GaussianEncoderNetwork", "TabularNetwork", "VAENetwork"]

MIN_SCALE = 1e-3


class VAENetwork(nn.Module, ABC):
    """Encoder, decoder and likelihood, with the bound that they are trained on together."""

    latent_dim: int
    likelihood: Any

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Return the likelihood's parameters (..., P) for codes (..., L)."""

    @abstractmethod
    def forward(
        self,
        x: Tensor,
        scored: Tensor,
        visible: Tensor,
        input_noise: Tensor,
        code_noise: Tensor,
        prepared: Any,
    ) -> tuple[Tensor, Tensor]:
        """Return reconstruction of the scored cells and KL, both (N,), in nats.

        The encoder sees the cells of ``x`` (N, D) under the mask ``visible``, with ``input_noise``
        added; ``code_noise`` (N, L) is standard normal, ``prepared`` what the likelihood made of x.
        """

    def reconstruction(self, params: Tensor, prepared: Any, scored: Tensor) -> Tensor:
        """Return what training maximises of the cells under the mask ``scored``, (N,), in nats."""
        if isinstance(self.likelihood, JointLikelihood):
            joint: Tensor = self.likelihood.log_prob_observed(params, prepared, scored)
            return joint
        by_cell = self.likelihood.training_log_prob(params, prepared)
        return torch.where(scored, by_cell, 0.0).sum(-1)


class GaussianEncoderNetwork(VAENetwork):
    """A VAE whose encoder gives a Gaussian over one code."""

    @abstractmethod
    def encode(self, x: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and scale of the encoder's posterior, each (..., L)."""

    def draw_code(
        self, x: Tensor, visible: Tensor, input_noise: Tensor, code_noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return a code (N, L) of each row from the encoder's posterior, and the KL (N,) in nats.

        ``input_noise`` (N, D) is added to what the encoder reads.
        """
        mean, scale = self.encode(x + input_noise, visible)
        kl = (0.5 * (mean.square() + scale.square() - 1.0) - scale.log()).sum(-1)
        return mean + scale * code_noise, kl

    def forward(
        self,
        x: Tensor,
        scored: Tensor,
        visible: Tensor,
        input_noise: Tensor,
        code_noise: Tensor,
        prepared: Any,
    ) -> tuple[Tensor, Tensor]:
        """Return reconstruction of the scored cells and KL, both (N,), in nats."""
        z, kl = self.draw_code(x, visible, input_noise, code_noise)
        return self.reconstruction(self.decode(z), prepared, scored), kl


class TabularNetwork(GaussianEncoderNetwork):
    """Encoder and decoder of one VAE on standardised columns.

    The encoder reads numbers and indicators of categories, filled where a cell is not visible, and
    the mask. Its posterior has the covariance ``D V D``: D is diagonal and depends on the row,
    ``V^-1 = I + sum over visible columns of u_f u_f'`` on the mask alone. So codes may depend on
    each other where cells are missing, as they do in a linear model, whose posterior is the case
    D = I. The decoder gives the parameters of the columns' likelihoods.

    Parameters
    ----------
    likelihood : ColumnLikelihoods
        Observation model of the columns.
    latent_dim : int
        Size L of the code.
    hidden_layer_sizes : sequence of int
        Hidden layers of the decoder, and in reverse of the encoder.
    activation : str
        See ``ACTIVATIONS``.
    generator : torch.Generator or None
        Source of the initial weights; None leaves them to be loaded.
    """

    score_column: Tensor

    def __init__(
        self,
        likelihood: ColumnLikelihoods,
        latent_dim: int,
        hidden_layer_sizes: tuple[int, ...],
        activation: str,
        generator: torch.Generator | None,
        skip: bool = True,
    ) -> None:
        super().__init__()
        hidden = list(hidden_layer_sizes)
        self.latent_dim = latent_dim
        self.likelihood = likelihood
        self.inputs = EncoderInputs(likelihood.n_categories, latent_dim)
        column = torch.tensor(likelihood.score_columns)
        self.register_buffer("score_column", column, persistent=False)
        self.information = nn.Parameter(torch.zeros(len(column), latent_dim))
        self.encoder = MLP(
            [self.inputs.n_inputs, *hidden[::-1], 2 * latent_dim], activation, generator, skip=skip
        )
        self.decoder = MLP(
            [latent_dim, *hidden, likelihood.n_outputs], activation, generator, skip=skip
        )

    def encode(self, x: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and scale of each latent dimension of the encoder's posterior, (..., L)."""
        mean, scale, root = self._posterior(x, visible)
        return mean, scale * root.square().sum(-1).sqrt()

    def _posterior(
        self,
        x: Tensor,
        visible: Tensor,
        noise: Tensor | None = None,
        inputs: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and D, (..., L), and an upper triangular root of V, (..., L, L)."""
        if inputs is None:
            inputs = self.inputs(x, visible)
        shift = None if noise is None else self.inputs.noise_of(noise)
        mean, raw_scale = self.encoder(inputs, shift).chunk(2, dim=-1)
        products = (self.information.unsqueeze(-1) * self.information.unsqueeze(-2)).flatten(-2)
        # of complete rows, which all have the same V, one is enough
        mask = visible[..., :1, :] if visible.all() else visible
        seen = mask[..., self.score_column].to(x.dtype)
        eye = torch.eye(self.latent_dim, dtype=x.dtype, device=x.device)
        precision = eye + apply_tiled(seen, products.mT).unflatten(-1, eye.shape)
        return mean, softplus(raw_scale) + MIN_SCALE, inverse_root(precision).mT

    def decode(self, z: Tensor) -> Tensor:
        """Return the likelihood's parameters (..., P) for codes (..., L)."""
        return self.decoder(z)

    def draw_code(
        self,
        x: Tensor,
        visible: Tensor,
        input_noise: Tensor,
        code_noise: Tensor,
        inputs: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return what the base class does; noise is added for the hidden layers alone.

        ``inputs`` (..., n_inputs) is what the encoder reads of the rows, where it is known.
        """
        mean, scale, root = self._posterior(x, visible, input_noise, inputs)
        variance = scale.square() * root.square().sum(-1)
        log_root = root.diagonal(dim1=-2, dim2=-1).log()
        kl = (0.5 * (mean.square() + variance - 1.0) - scale.log() - log_root).sum(-1)
        if root.shape[-3] == 1:  # one for all rows
            return mean + scale * (code_noise @ root.squeeze(-3).mT), kl
        return mean + scale * (root * code_noise.unsqueeze(-2)).sum(-1), kl
