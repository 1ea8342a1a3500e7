"""The bound that VAEs are trained on, and the networks of a VAE for tables."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ._inputs import EncoderInputs
from ._layers import MLP
from ._likelihoods import ColumnLikelihoods

__all__ = ["TabularNetwork", "VAENetwork"]


class VAENetwork(nn.Module, ABC):
    """Encoder, decoder and likelihood, with the bound that they are trained on together."""

    latent_dim: int
    likelihood: Any

    @abstractmethod
    def encode(self, x: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and scale of the encoder's posterior, each (..., L)."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Return the likelihood's parameters (..., P) for codes (..., L)."""

    def noise(self, noise: Tensor) -> Tensor:
        """Return the noise (..., D) that the encoder's input gets, of noise for all cells."""
        return noise

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
        mean, scale = self.encode(x + self.noise(input_noise), visible)
        params = self.decode(mean + scale * code_noise)
        if hasattr(self.likelihood, "log_prob_observed"):
            fit = self.likelihood.log_prob_observed(params, prepared, scored)
        else:
            by_cell = self.likelihood.training_log_prob(params, prepared)
            fit = torch.where(scored, by_cell, 0.0).sum(-1)
        kl = (0.5 * (mean.square() + scale.square() - 1.0) - scale.log()).sum(-1)
        return fit, kl


class TabularNetwork(VAENetwork):
    """Encoder and decoder of one VAE on standardised columns.

    The encoder reads the values with zeros where a cell is not visible, and the mask; levels of
    categorical columns one by one. The decoder gives the parameters of the columns' likelihoods.

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
        self.inputs = EncoderInputs(likelihood.n_levels)
        self.encoder = MLP(
            [self.inputs.n_inputs, *hidden[::-1], 2 * latent_dim], activation, generator, skip=skip
        )
        self.decoder = MLP(
            [latent_dim, *hidden, likelihood.n_outputs], activation, generator, skip=skip
        )

    def encode(self, x: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and scale of the encoder's posterior, each (N, L)."""
        out = self.encoder(self.inputs(x, visible))
        mean, raw_scale = out.chunk(2, dim=-1)
        return mean, softplus(raw_scale) + 1e-3

    def decode(self, z: Tensor) -> Tensor:
        """Return the likelihood's parameters (..., P) for codes (..., L)."""
        return self.decoder(z)

    def noise(self, noise: Tensor) -> Tensor:
        """Return the noise without the columns of levels, whose codes it would change."""
        return self.inputs.noise(noise)
