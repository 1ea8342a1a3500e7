"""Gaussian and Student t columns."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn
from torch.nn.functional import softplus

from .._factor_analyser import FactorAnalyser
from ._base import ColumnLikelihood

__all__ = ["GaussianLikelihood", "StudentTLikelihood"]

Array = NDArray[np.float64]

_LOG_2PI = math.log(2 * math.pi)
_DF_GRID = np.array([2.5, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0])  # where training may start
_MIN_SCALE = 1e-3  # in standard deviations of the column: an atom cannot buy infinite density


class _LocationScale(ColumnLikelihood):
    reparameterised = True

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return 2 * self.n_columns

    def _location_and_scale(self, params: Tensor) -> tuple[Tensor, Tensor]:
        location, raw_scale = params.split(self.n_columns, dim=-1)
        return location, softplus(raw_scale) + _MIN_SCALE

    def mean(self, params: Tensor) -> Tensor:
        return self._location_and_scale(params)[0]

    def linear_head(self, x: Array, model: FactorAnalyser, residuals: Array) -> tuple[Array, Array]:
        scale = np.sqrt(model.noise * self._squared_scale()) - _MIN_SCALE
        raw_scale = np.log(np.expm1(np.maximum(scale, _MIN_SCALE)))
        weight = np.concatenate([model.loadings, np.zeros_like(model.loadings)])
        return weight, np.concatenate([model.mean, raw_scale])

    def _squared_scale(self) -> Array:
        """Return the squared scale of a column with variance 1, (d,)."""
        return np.ones(self.n_columns)


class GaussianLikelihood(_LocationScale):
    """Normal with mean and scale from the decoder."""

    def log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        location, scale = self._location_and_scale(params)
        return -0.5 * (((prepared[0] - location) / scale).square() + _LOG_2PI) - scale.log()

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        location, scale = self._location_and_scale(params)
        return location + scale * torch.special.ndtri(uniform[..., 0])

    def entropy(self, params: Tensor) -> Tensor:
        return self._location_and_scale(params)[1].log() + 0.5 * (_LOG_2PI + 1.0)


class StudentTLikelihood(_LocationScale):
    """Student t with location and scale from the decoder.

    The degrees of freedom are one learned number a column, above two so that mean and variance
    exist: the log gamma functions then leave the per-draw work.
    """

    def __init__(self, n_columns: int) -> None:
        super().__init__(n_columns)
        self.log_excess_df = nn.Parameter(torch.full((n_columns,), 0.75))

    @property
    def df(self) -> Tensor:
        """Degrees of freedom of each column, (d,)."""
        return 2.0 + self.log_excess_df.exp()

    def log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        location, scale = self._location_and_scale(params)
        df = self.df
        constant = torch.lgamma((df + 1) / 2) - torch.lgamma(df / 2) - 0.5 * torch.log(df * math.pi)
        squared = ((prepared[0] - location) / scale).square()
        return constant - scale.log() - 0.5 * (df + 1) * torch.log1p(squared / df)

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        # Bailey (1994): a polar method that is exact for any degrees of freedom
        location, scale = self._location_and_scale(params)
        df = self.df.to(uniform)
        radius = (df * torch.expm1(-2.0 / df * uniform[..., 0].log())).sqrt()
        return location + scale * radius * torch.cos(2 * math.pi * uniform[..., 1])

    def linear_head(self, x: Array, model: FactorAnalyser, residuals: Array) -> tuple[Array, Array]:
        scale = np.sqrt((_DF_GRID - 2.0) / _DF_GRID)
        density = stats.t.logpdf(residuals[..., None], _DF_GRID, scale=scale)
        df = _DF_GRID[np.nansum(density, axis=0).argmax(axis=-1)]
        with torch.no_grad():
            self.log_excess_df.copy_(torch.from_numpy(np.log(df - 2.0)))
        return super().linear_head(x, model, residuals)

    def _squared_scale(self) -> Array:
        df = self.df.detach().double().cpu().numpy()
        return (df - 2.0) / df

    def entropy(self, params: Tensor) -> Tensor:
        df = self.df
        half = (df + 1) / 2
        constant = (
            half * (torch.digamma(half) - torch.digamma(df / 2))
            + 0.5 * df.log()
            + torch.lgamma(df / 2)
            + math.lgamma(0.5)
            - torch.lgamma(half)
        )
        return self._location_and_scale(params)[1].log() + constant
