"""A posterior over the missing features themselves, in the decoder's observation family."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..._typing import FeatureLikelihood
from .._settings import Adam, OptimizerSettings
from ._base import PosteriorFamily, Start, normal_from_uniform

__all__ = ["FeaturePosterior"]

_EPS = 1e-6  # uniforms stay inside the open interval in single precision


class FeaturePosterior(PosteriorFamily):
    """Independent missing features, each distributed as the decoder distributes its column.

    The code given the features is left to the model's encoder. The parameters of a row are those
    of the likelihood, (P,); those of observed features are there but never used.

    Parameters
    ----------
    latent_dim : int
        Size L of the latent code.
    n_features : int
        Number of columns D.
    decode : callable
        Maps codes (..., L) to the likelihood's parameters (..., P), for the start.
    likelihood : object
        Has ``sample``, ``log_prob``, ``prepare``, ``entropy``, ``reparameterised``.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), "A Decoder Suffices for Query-Adaptive
       Variational Inference", section 3.1.
    """

    @classmethod
    def default_optimizer(cls, latent_dim: int) -> OptimizerSettings:
        """Return how this family is fitted."""
        return Adam(max_iter=360, n_draws=8, learning_rate=0.1, min_learning_rate=0.01)

    def __init__(
        self,
        latent_dim: int,
        n_features: int,
        decode: Callable[[Tensor], Tensor],
        likelihood: FeatureLikelihood,
    ) -> None:
        super().__init__(latent_dim)
        self.n_features = n_features
        self.decode = decode
        self.likelihood = likelihood
        self._is_scored = ~likelihood.reparameterised
        self._scores_any = bool(self._is_scored.any())

    @property
    def n_parameters(self) -> int:
        """Number P of parameters per row: the decoder's outputs."""
        return int(self.likelihood.n_outputs)

    @property
    def n_noise(self) -> int:
        """Base-noise dimensions of one draw: two uniforms per feature, then the encoder's noise."""
        return 2 * self.n_features + self.latent_dim

    def noise_from_uniform(self, u: Tensor) -> Tensor:
        """Keep the features' uniforms, turn the encoder's into standard normals."""
        n = 2 * self.n_features
        return torch.cat([u[..., :n], normal_from_uniform(u[..., n:])], dim=-1)

    def initialize(self, start: Start) -> Tensor:
        """Start at the decoder's output for the prior codes that explain the row, averaged."""
        weight = torch.softmax(start.log_likelihood, dim=0)
        return torch.einsum("kb,kp->bp", weight, self.decode(start.codes))

    def rsample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Return values of all features (S, B, D), with gradients where the family has them."""
        u = noise[..., : 2 * self.n_features].clamp(_EPS, 1 - _EPS)
        values: Tensor = self.likelihood.sample(parameters, u.unflatten(-1, (self.n_features, 2)))
        return values

    def log_prob(self, parameters: Tensor, z: Tensor) -> Tensor:
        """Raise: it has no density of the code."""
        raise NotImplementedError(
            "A posterior over features has no density of the code; "
            "InferenceResult.code_posterior gives the encoder's mixture under it."
        )

    def observation(
        self, parameters: Tensor, noise: Tensor, decode: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return the fitted parameters themselves, (S, B, P)."""
        return parameters.expand(noise.shape[0], -1, -1)

    def entropy(self, parameters: Tensor, missing: Tensor) -> Tensor:
        """Return the entropy of the missing features in nats, (B,), in closed form."""
        try:
            by_feature = self.likelihood.entropy(parameters)
        except NotImplementedError as error:
            raise ValueError(
                "A posterior over features needs the entropy of the observation model in closed "
                f"form. {error} Choose a posterior over the code, or another likelihood."
            ) from error
        return torch.where(missing, by_feature, 0.0).sum(-1)

    def draw_weight(self, parameters: Tensor, values: Tensor, missing: Tensor) -> Tensor:
        """Return weights (S, B or 1) whose gradients stand in where draws carry none.

        Columns with atoms cannot be reparameterised: they get the score-function gradient with
        the draws' mean as a baseline.
        """
        n_draws = values.shape[0]
        if not self._scores_any:
            return values.new_full((n_draws, 1), 1.0 / n_draws)
        scored = missing & self._is_scored
        by_cell = self.likelihood.log_prob(parameters, self.likelihood.prepare(values.detach()))
        log_q = torch.where(scored, by_cell, 0.0).sum(-1)
        ratio = (log_q - log_q.detach()).exp()
        # normalising by the sum subtracts the mean as a baseline; n / (n - 1) undoes its bias
        centred = (ratio / ratio.sum(0) - 1.0 / n_draws) * (n_draws / max(n_draws - 1, 1))
        return centred + 1.0 / n_draws
