"""What a family of observation models has to offer."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["ColumnLikelihood"]


class ColumnLikelihood(nn.Module, ABC):
    """One family for a group of columns.

    Parameters
    ----------
    n_columns : int
        Number of columns d in the group.
    """

    n_outputs: int
    reparameterised: ClassVar[bool] = False
    """Whether `sample` carries gradients that make it a reparameterisation."""

    def __init__(self, n_columns: int) -> None:
        super().__init__()
        self.n_columns = n_columns

    def options(self) -> dict[str, Any]:
        """Return the constructor's arguments, for saving."""
        return {"n_columns": self.n_columns}

    def fit_columns(self, x: NDArray[np.float64]) -> None:
        """Learn constants from training values (N, d), NaN where missing."""

    def atoms(self, column: int) -> Tensor:
        """Return the values of a column that have a mass of their own, in single precision."""
        return torch.zeros(0)

    def prepare(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return what `log_prob` needs of the values (B, d), computed once a row."""
        return (x,)

    @abstractmethod
    def log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        """Return log densities in nats, (..., B, d), from params (..., n_outputs)."""

    def training_log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        """Return what training maximises; the log density unless a family smooths it."""
        return self.log_prob(params, prepared)

    @abstractmethod
    def mean(self, params: Tensor) -> Tensor:
        """Return the mean of each column given the code, (..., d)."""

    @abstractmethod
    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        """Return values (..., d) from two uniforms a cell, (..., d, 2)."""

    @abstractmethod
    def entropy(self, params: Tensor) -> Tensor:
        """Return the entropy of each column in nats, (..., d), in closed form."""
