"""Aliases and protocols that the stages agree on.

Axes: S draws, N rows, B rows of one block, D features, L latent, C components, P parameters.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

__all__ = [
    "Block",
    "Decoder",
    "Encodes",
    "HasLayers",
    "JointLikelihood",
    "Likelihood",
    "Progress",
    "Target",
]

Progress = Callable[[int], None]
"""Called with the number of rows that have just been finished."""


class Block(Protocol):
    """The observed data of B rows, as a log likelihood of latent codes."""

    def __call__(self, z: Tensor) -> Tensor:
        """Return log p(x_O | z) in nats, (S, B), for codes ``z`` (S, B, L)."""
        ...


class Target(Protocol):
    """What the engine fits a posterior to: rows that can be taken out as blocks."""

    @property
    def n_rows(self) -> int:
        """Number of rows N."""
        ...

    @property
    def latent_dim(self) -> int:
        """Size L of the latent code."""
        ...

    @property
    def device(self) -> torch.device:
        """Where codes are made."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of codes."""
        ...

    def block(self, rows: Tensor) -> Block:
        """Return the block of the rows with these indices, (B,)."""
        ...

    def score_codes(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function from row indices (B,) to log p(x_O | z) in nats, (K, B).

        The K codes ``z`` (K, L) are decoded once, however many rows they are then tried on.
        """
        ...


class Likelihood(Protocol):
    """p(x | z) of the cells of a row, given the decoder's output for a code."""

    def prepare(self, x: Tensor) -> Any:
        """Return what `log_prob` needs of values (..., D), computed once."""
        ...

    def log_prob(self, params: Tensor, prepared: Any) -> Tensor:
        """Return the log density of each cell in nats, (..., D)."""
        ...

    def mean(self, params: Tensor) -> Tensor:
        """Return the mean of each cell, (..., D)."""
        ...

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        """Return a draw of each cell, (..., D), from two uniforms per cell, (..., D, 2)."""
        ...


@runtime_checkable
class JointLikelihood(Protocol):
    """What a likelihood has besides if cells depend on each other given the code."""

    def log_prob_observed(self, params: Tensor, prepared: Any, observed: Tensor) -> Tensor:
        """Return the log density of the cells under a mask, (...,), in nats."""
        ...

    def sample_given(self, params: Tensor, uniform: Tensor, x: Tensor, observed: Tensor) -> Tensor:
        """Return a draw of each cell given the observed ones, (..., D)."""
        ...

    def mean_given(self, params: Tensor, x: Tensor, observed: Tensor) -> Tensor:
        """Return the mean of each cell given the observed ones, (..., D)."""
        ...


class Decoder(Protocol):
    """From a code to the parameters of a likelihood over columns or pixels."""

    @property
    def latent_dim(self) -> int:
        """Size L of the latent code."""
        ...

    @property
    def likelihood(self) -> Any:
        """A `Likelihood`, maybe a `JointLikelihood`."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Return the likelihood's parameters (..., P) for codes (..., L)."""
        ...


@runtime_checkable
class Encodes(Protocol):
    """What a decoder has besides that comes with an encoder of one code."""

    def encode(self, x: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and scale, (..., L), of the code of values (..., D) seen under a mask."""
        ...


@runtime_checkable
class HasLayers(Protocol):
    """What a decoder has besides whose code is that of many stochastic layers."""

    def descend(self, n: int, step: Callable[..., Any], *, checkpointing: bool = False) -> Any:
        """Walk down the layers with codes that ``step(layer, prior, posterior)`` chooses."""
        ...
