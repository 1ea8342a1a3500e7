"""Aliases and protocols that the stages agree on.

Axes: S draws, N rows, B rows of one block, D features, L latent, C components, P parameters.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Block", "Progress", "Target"]

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
