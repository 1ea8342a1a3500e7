"""Columns of two numbers."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from .._factor_analyser import FactorAnalyser
from ._base import ColumnLikelihood
from ._marginals import marginal_offsets

__all__ = ["BernoulliLikelihood"]

Array = NDArray[np.float64]


class BernoulliLikelihood(ColumnLikelihood):
    """Two values; the decoder gives the log odds of the upper one."""

    values: Tensor

    def __init__(self, n_columns: int) -> None:
        super().__init__(n_columns)
        self.register_buffer("values", torch.tensor([[0.0, 1.0]]).repeat(n_columns, 1))

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return self.n_columns

    def fit_columns(self, x: NDArray[np.float64]) -> None:
        values = np.stack([np.nanmin(x, axis=0), np.nanmax(x, axis=0)], axis=1)
        self.values = torch.as_tensor(values, dtype=torch.float32)

    def atoms(self, column: int) -> Tensor:
        return self.values[column]

    def prepare(self, x: Tensor) -> tuple[Tensor, ...]:
        return (torch.where(x > self.values.mean(1), 1.0, -1.0),)

    def log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        return logsigmoid(params * prepared[0])

    def mean(self, params: Tensor) -> Tensor:
        lower, upper = self.values.unbind(1)
        return lower + (upper - lower) * torch.sigmoid(params)

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        lower, upper = self.values.unbind(1)
        return torch.where(uniform[..., 0] < torch.sigmoid(params), upper, lower)

    def uniforms_of(self, params: Tensor, prepared: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the first and last uniform that `sample` turns into a value, (..., B, d)."""
        p, is_upper = torch.sigmoid(params), prepared[0] > 0.0
        return torch.where(is_upper, 0.0, p), torch.where(is_upper, p, 1.0)

    def entropy(self, params: Tensor) -> Tensor:
        return softplus(params) - params * torch.sigmoid(params)

    def linear_head(self, x: Array, model: FactorAnalyser, residuals: Array) -> tuple[Array, Array]:
        lower, upper = self.values.double().numpy().T
        slope = ((upper - lower) / model.noise)[:, None] * model.loadings
        is_upper = np.where(np.isnan(x), np.nan, x > 0.5 * (lower + upper))
        share = (np.nansum(is_upper, axis=0) + 0.5) / ((~np.isnan(x)).sum(axis=0) + 1.0)
        both = np.stack([np.zeros_like(slope), slope], axis=1)
        offset = marginal_offsets(both, np.stack([1.0 - share, share], axis=1))
        return slope, offset[:, 1] - offset[:, 0]
