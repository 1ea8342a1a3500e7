"""What a family of observation models has to offer."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..._plan import plan_for
from .._factor_analyser import FactorAnalyser
from .._layers import apply_tiled

__all__ = ["MAX_SCORE", "ColumnLikelihood", "FitOfRows", "ScoresOfRows", "broadcast_shape"]

FitOfRows = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``fit(hidden, weight, bias)`` is the log density (S, B), in nats, of what B rows have observed,
from the last hidden layer (S, B, H) and the map (P, H), (P,) from there to the parameters. Only the
hidden layer gets gradients."""

ScoresOfRows = Callable[[Any, Tensor], Tensor]
"""``scores(prepared, observed)`` is the log density (K, B), in nats, of what B rows have observed,
at the same K codes for all rows."""

MAX_SCORE = 4.0  # standard deviations beyond which a value counts as this far


def broadcast_shape(*shapes: torch.Size) -> torch.Size:
    """Return the shape that others broadcast to.

    torch's own function imports a system for algebra at its first call, which takes a second.
    """
    return torch.Size(np.broadcast_shapes(*shapes))


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

    def options(self) -> dict[str, object]:
        """Return the constructor's arguments, for saving."""
        return {"n_columns": self.n_columns}

    def learned_options(self) -> dict[str, object]:
        """Return those of the constructor's arguments that `fit_columns` has set."""
        return {}

    def fit_columns(self, x: NDArray[np.float64]) -> None:
        """Learn constants from training values (N, d), NaN where missing."""

    def atoms(self, column: int) -> Tensor:
        """Return the values of a column that have a mass of their own, in single precision."""
        return torch.zeros(0)

    def prepare(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return what `log_prob` needs of the values (B, d), computed once per row."""
        return (x,)

    @abstractmethod
    def log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        """Return log densities in nats, (..., B, d), from params (..., n_outputs)."""

    def fit_of_rows(self, prepared: tuple[Tensor, ...], observed: Tensor) -> FitOfRows:
        """Return what gives the log density of the observed columns of rows, see `FitOfRows`.

        Parameters
        ----------
        prepared : tuple of Tensor
            What `prepare` returned for the B rows.
        observed : bool Tensor of shape (B, d)
            True where the column is observed.
        """

        def fit(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            params = apply_tiled(hidden, weight.detach(), bias.detach())
            return torch.where(observed, self.log_prob(params, prepared), 0.0).sum(-1)

        return fit

    def scores_of_codes(self, params: Tensor) -> ScoresOfRows:
        """Return what scores codes on any rows, from their ``params`` (K, n_outputs)."""

        def scores(prepared: Any, observed: Tensor) -> Tensor:
            size = plan_for(params.device).codes_scored(observed.numel())
            parts = (self.log_prob(part.unsqueeze(1), prepared) for part in params.split(size))
            return torch.cat([torch.where(observed, part, 0.0).sum(-1) for part in parts])

        return scores

    def training_log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        """Return what training maximises; the log density unless a family smooths it."""
        return self.log_prob(params, prepared)

    @abstractmethod
    def mean(self, params: Tensor) -> Tensor:
        """Return the mean of each column given the code, (..., d)."""

    @abstractmethod
    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        """Return values (..., d) from two uniforms per cell, (..., d, 2)."""

    @abstractmethod
    def entropy(self, params: Tensor) -> Tensor:
        """Return the entropy of each column in nats, (..., d), in closed form."""

    @property
    def n_scores(self) -> list[int]:
        """Number of scores of each column, see `linear_scores`."""
        return [1] * self.n_columns

    def linear_scores(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what a linear-Gaussian model of the columns works on.

        Parameters
        ----------
        x : ndarray of shape (N, d)
            Training values, NaN where missing.

        Returns
        -------
        scores : ndarray of shape (N, F)
            One or more numbers per column, NaN where it is missing.
        """
        return np.clip(x, -MAX_SCORE, MAX_SCORE)

    def linear_head(
        self, x: NDArray[np.float64], model: FactorAnalyser, residuals: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the outputs as a linear function of the code that agrees with a linear model.

        Parameters
        ----------
        x : ndarray of shape (N, d)
            Training values, NaN where missing.
        model : FactorAnalyser
            Fitted to the scores (N, F).
        residuals : ndarray of shape (N, F)
            Its standardized residuals, NaN where missing.

        Returns
        -------
        weight : ndarray of shape (n_outputs, L)
            Slopes.
        bias : ndarray of shape (n_outputs,)
            Outputs of the code 0.

        Raises
        ------
        NotImplementedError
            If the family has no such function; training then starts at random weights.
        """
        raise NotImplementedError(f"{type(self).__name__} has no linear start.")
