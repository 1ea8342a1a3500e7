"""The bound that VAEs are trained on, and the networks of a VAE for tables."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from .._device import all_known
from .._typing import JointLikelihood
from ._code import MIN_SCALE, draw_code, posterior_root
from ._inputs import EncoderInputs
from ._layers import MLP
from ._likelihoods import ColumnLikelihoods

__all__ = ["GaussianEncoderNetwork", "TabularNetwork", "VAENetwork", "root_of_rows"]


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
    """Encoder and decoder of one VAE on standardized columns.

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
        mean, raw_scale = self.encoder(self.inputs(x, visible)).chunk(2, dim=-1)
        scale = softplus(raw_scale) + MIN_SCALE
        return mean, scale * self._root(visible, x.dtype).square().sum(-2).sqrt()

    def _root(self, visible: Tensor, dtype: torch.dtype) -> Tensor:
        return root_of_rows(self.information, visible, self.score_column, dtype)

    def decode(self, z: Tensor) -> Tensor:
        """Return the likelihood's parameters (..., P) for codes (..., L)."""
        params: Tensor = self.decoder(z)
        return params

    def observe(self, prepared: Any, observed: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function from codes (S, B, L) to log p(x_O | z) of B rows, (S, B), in nats.

        Parameters
        ----------
        prepared : object
            What ``likelihood.prepare`` returned for the rows.
        observed : bool Tensor of shape (B, D)
            True where the cell is observed.
        """
        fit = self.likelihood.fit_of_rows(prepared, observed)

        def log_prob(z: Tensor) -> Tensor:
            total: Tensor = fit(*self.decoder.last_layer(z))
            return total

        return log_prob

    def draw_code(
        self,
        x: Tensor,
        visible: Tensor,
        input_noise: Tensor,
        code_noise: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return what the base class does; noise is added for the hidden layers alone."""
        raw = self.encoder(self.inputs(x, visible), self.inputs.noise_of(input_noise))
        return draw_code(raw, self._root(visible, x.dtype), code_noise)


def root_of_rows(
    information: Tensor, visible: Tensor, score_column: Tensor, dtype: torch.dtype
) -> Tensor:
    """Return the lower triangular R of rows with ``R' R = V``, see `TabularNetwork`.

    Parameters
    ----------
    information : Tensor of shape (F, L) or (M, F, L)
        The vectors u_f, of one network or of M that are trained together.
    visible : bool Tensor of shape (B, D) or (M, B, D)
        Which cells are seen.
    score_column : Tensor of shape (F,) or (M, F)
        The column of each score f.
    dtype : torch.dtype
        Of the result.

    Returns
    -------
    root : Tensor of shape (..., B, L, L) or (..., 1, L, L)
        One of each row or one for all of them.
    """
    # of complete rows, which all have the same V, one is enough
    mask = visible[..., :1, :] if all_known(visible) else visible
    column = score_column.unsqueeze(-2).expand(*mask.shape[:-1], -1)
    return posterior_root(information, mask.gather(-1, column).to(dtype))
