"""What every posterior family gives the engine, and what a fitted posterior gives the user.

A family is a small frozen description (latent size, number of components, ...). It holds no
parameters: those are one flat vector per row, (B, P), unconstrained, owned by the engine. Rows
therefore can be stored, moved, frozen and refilled without the engine knowing the family.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..._random import sobol_uniform, torch_generator
from .._settings import Adam, OptimizerSettings

__all__ = ["Decoded", "Draws", "Posterior", "PosteriorFamily", "Start"]

_LOG_2PI = 1.8378770664093453
_TILE = 16
_VECTOR = 64  # numbers; a multiple of what any kernel takes at once


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """Return log N(z; 0, I) in nats, summed over the last axis."""
    return -0.5 * (z.square() + _LOG_2PI).sum(-1)


def normal_from_uniform(u: Tensor) -> Tensor:
    """Turn uniforms into standard normals by the inverse distribution function."""
    normal: Tensor = torch.special.ndtri(u)
    return normal


def padded(x: Tensor, *, rows: bool = False) -> Tensor:
    """Return x with zeros up to a multiple of 16 columns, and rows on request.

    Products of narrow matrices may treat odd and even rows, or matrices of a batch that start at
    different places of a cache line, differently in the last bit.
    """
    more_rows = -x.shape[-2] % _TILE if rows else 0
    return pad(x, (0, -x.shape[-1] % _TILE, 0, more_rows))


def padded_square(matrix: Tensor) -> Tensor:
    """Return matrices (B, L, L) with a unit block below, so that each fills whole cache lines.

    Decompositions of a batch may otherwise differ in the last bit from place to place.
    """
    more = -matrix.shape[-1] % 4
    if more == 0:
        return matrix
    wide = pad(matrix, (0, more, 0, more))
    torch.diagonal(wide, dim1=-2, dim2=-1)[..., -more:] = 1.0
    return wide


def inverse_softplus(y: Tensor) -> Tensor:
    """Return x with softplus(x) = y, for y > 0.

    Padded to whole vectors: at a ragged end vector kernels differ in the last bit, and a value
    must not depend on how many follow it.
    """
    flat = y.flatten()
    padded = torch.cat([flat, flat.new_ones(-len(flat) % _VECTOR)])
    x = padded + torch.log(-torch.expm1(-padded))
    return x[: len(flat)].reshape(y.shape)


@dataclass(frozen=True)
class Start:
    """Where the rows of a block start.

    Parameters
    ----------
    mean, scale : Tensor of shape (B, L)
        A first guess at each row's posterior.
    codes : Tensor of shape (K, L)
        Codes drawn from the prior, the same for all rows.
    log_likelihood : Tensor of shape (K, B)
        log p(x_O | z) of each row at these codes, in nats.
    covariance : Tensor of shape (B, L, L), default=None
        A guess at each row's whole covariance, for a family that asked for it.
    parameters : Tensor of shape (B, P), default=None
        The family's own parameters, where whoever made the start knows the family.
    """

    mean: Tensor
    scale: Tensor
    codes: Tensor
    log_likelihood: Tensor
    covariance: Tensor | None = None
    parameters: Tensor | None = None


@dataclass(frozen=True)
class Draws:
    """Codes from q with the weights that make a weighted sum an expectation under q.

    Parameters
    ----------
    z : Tensor of shape (S, B, L)
        The codes.
    weight : Tensor of shape (S, B) or (S, 1)
        Sums to one over S. Carries gradients where the family's estimator needs them.
    log_q : Tensor of shape (S, B) or None
        log q(z) in nats with gradients through z only ("sticking the landing"), or None where
        the family knows its divergence from the prior in closed form.
    """

    z: Tensor
    weight: Tensor
    log_q: Tensor | None = None


@dataclass(frozen=True)
class Decoded:
    """Codes from q, decoded and weighed.

    Parameters
    ----------
    params : Tensor of shape (S, B, P)
        The decoder's output.
    log_ratio : Tensor of shape (S, B)
        log p(z) - log q(z) in nats.
    """

    params: Tensor
    log_ratio: Tensor


class PosteriorFamily(ABC):
    """A family of distributions over the latent code, one member per row.

    Parameters
    ----------
    latent_dim : int
        Size L of the latent code.
    """

    warm_start: ClassVar[bool] = False
    """Whether rows start from a Gaussian fitted beforehand and its covariance."""

    slots: int | None = None
    """Rows in work at one time, for a family whose rows are work enough; None leaves it open."""

    images_at_a_time: int | None = None
    """Images, one per row and draw, that such a family works on together where no gradient is asked
    for; its rows are then summarised one by one."""

    codes_of_a_mean: ClassVar[int] = 64
    """Sobol codes that a mean over the posterior needs; more where draws jump between places."""

    draws_at_a_time: int | None = None
    """Draws whose gradients are computed together, for a family whose draws count alike."""

    def __init__(self, latent_dim: int) -> None:
        self.latent_dim = latent_dim

    @classmethod
    def default_optimizer(cls, latent_dim: int) -> OptimizerSettings:
        """Return how this family is fitted, for a latent dimension."""
        return Adam()

    @classmethod
    def paper_optimizer(cls) -> OptimizerSettings:
        """Return how the paper fits this family."""
        return Adam.paper()

    def with_less_memory(self, n_draws: int) -> Self | None:
        """Return the family with less memory for steps of so many draws, None if it has no way."""
        return None

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """Number P of unconstrained parameters per row."""

    @property
    def n_noise(self) -> int:
        """Base-noise dimensions of one draw; the last ``latent_dim`` are standard normal."""
        return self.latent_dim

    @property
    def evaluations_per_draw(self) -> int:
        """Decoder evaluations that one draw of ``draw`` costs."""
        return 1

    def noise_from_uniform(self, u: Tensor) -> Tensor:
        """Turn uniforms (..., n_noise) into this family's base noise."""
        return normal_from_uniform(u)

    @abstractmethod
    def initialize(self, start: Start) -> Tensor:
        """Return the first parameters of a block, (B, P)."""

    def step_scale(self, step: Tensor) -> Tensor:
        """Return what a row's step size is multiplied by, (B, 1) or (B, P), at steps (B,)."""
        return torch.ones_like(step).unsqueeze(1)

    @abstractmethod
    def rsample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Return equally likely codes (S, B, L) from noise (S, B or 1, n_noise)."""

    @abstractmethod
    def log_prob(self, parameters: Tensor, z: Tensor) -> Tensor:
        """Return log q(z) in nats, (S, B), for codes (S, B, L)."""

    def draw(self, parameters: Tensor, noise: Tensor) -> Draws:
        """Return the draws that the bound and its gradient are estimated from."""
        z = self.rsample(parameters, noise)
        return Draws(z, self._equal_weight(z), self.log_prob(parameters.detach(), z))

    def kl(self, parameters: Tensor, draws: Draws) -> Tensor:
        """Return KL(q || N(0, I)) in nats, (B,); estimated from the draws unless overridden."""
        assert draws.log_q is not None
        return (draws.weight * (draws.log_q - standard_normal_log_prob(draws.z))).sum(0)

    def observation(
        self, parameters: Tensor, noise: Tensor, decode: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return the parameters (S, B, P) of the observation model that draws are taken from."""
        return decode(self.rsample(parameters, noise))

    def decoded(
        self, parameters: Tensor, noise: Tensor, decode: Callable[[Tensor], Tensor]
    ) -> Decoded:
        """Return equally likely codes, from noise (S, B or 1, n_noise), decoded and weighed."""
        z = self.rsample(parameters, noise)
        log_ratio = standard_normal_log_prob(z) - self.log_prob(parameters, z)
        return Decoded(decode(z), log_ratio)

    def moments(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean (B, L) and covariance (B, L, L); by 4,096 draws unless overridden."""
        u = sobol_uniform(4096, self.n_noise, seed=0).to(parameters)
        z = self.rsample(parameters, self.noise_from_uniform(u).unsqueeze(1))
        centred = z - z.mean(0)
        return z.mean(0), torch.einsum("sbi,sbj->bij", centred, centred) / z.shape[0]

    @staticmethod
    def _equal_weight(z: Tensor) -> Tensor:
        return z.new_full((z.shape[0], 1), 1.0 / z.shape[0])


class Posterior:
    """Fitted posteriors over the latent code, one per row.

    Parameters
    ----------
    family : PosteriorFamily
        The family that reads the parameters.
    parameters : Tensor of shape (N, P)
        One flat vector per row.
    """

    def __init__(self, family: PosteriorFamily, parameters: Tensor) -> None:
        self.family = family
        self.parameters = parameters

    def __len__(self) -> int:
        """Return the number of rows N."""
        return self.parameters.shape[0]

    def __getitem__(self, rows: Tensor | slice) -> Self:
        """Return the posteriors of some rows."""
        return type(self)(self.family, self.parameters[rows])

    def rsample(self, noise: Tensor) -> Tensor:
        """Return codes (S, N, L) as a differentiable function of base noise (S, N or 1, n)."""
        return self.family.rsample(self.parameters, noise)

    def observation(self, noise: Tensor, decode: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the observation model's parameters (S, N, P) for base noise (S, N or 1, n)."""
        return self.family.observation(self.parameters, noise, decode)

    def decoded(self, noise: Tensor, decode: Callable[[Tensor], Tensor]) -> Decoded:
        """Return codes, decoded and weighed, for base noise (S, N or 1, n)."""
        return self.family.decoded(self.parameters, noise, decode)

    def sample(self, n: int = 1, *, seed: int = 0) -> Tensor:
        """Return n independent codes per row.

        Parameters
        ----------
        n : int, default=1
            Number of draws S.
        seed : int, default=0
            Seed of the draws; global state is not touched.

        Returns
        -------
        z : Tensor of shape (S, N, L)
            Codes on the scale of the prior N(0, I).
        """
        generator = torch_generator(seed)
        u = torch.rand(n, len(self), self.family.n_noise, generator=generator, dtype=torch.float64)
        noise = self.family.noise_from_uniform(u.clamp(1e-9, 1 - 1e-9)).to(self.parameters)
        with torch.no_grad():
            return self.rsample(noise)

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log q(z) in nats, (S, N), for codes (S, N, L)."""
        return self.family.log_prob(self.parameters, z)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean (N, L) and covariance (N, L, L) of each row's posterior."""
        return self.family.moments(self.parameters)
