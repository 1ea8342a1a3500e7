"""Gaussian and Student t columns, and Gaussians seen through the 256 levels of an image."""

import math
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..._plan import ROWS_MULTIPLE
from .._factor_analyser import FactorAnalyser
from ._base import ColumnLikelihood, FitOfRows
from ._observed_fit import ObservedStudentT, fit_of_parts

__all__ = ["DiscretizedNormalLikelihood", "GaussianLikelihood", "StudentTLikelihood"]

Array = NDArray[np.float64]

_LOG_2PI = math.log(2 * math.pi)
_DF_GRID = np.array([2.5, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0])  # where training may start
_FIRST_SCALE = 0.1
_LAST_LEVEL = 255
_FAR_UP = 4.5  # standard deviations above which the distribution function is near one


class _LocationScale(ColumnLikelihood):
    """Location and scale from the decoder, or the scale a learned number.

    Parameters
    ----------
    n_columns : int
        Number of columns d in the group.
    n_scales : int, default=None
        Number of learned scales; each is that of d / n_scales neighbouring columns. None has the
        decoder give a scale for every column.
    """

    reparameterised = True
    # in the values' unit: an atom cannot buy infinite density
    min_scale: ClassVar[float] = 1e-3

    def __init__(self, n_columns: int, n_scales: int | None = None) -> None:
        super().__init__(n_columns)
        self.n_scales = n_scales
        if n_scales is not None:
            if n_scales < 1 or n_columns % n_scales:
                raise ValueError(
                    f"{n_columns} columns cannot share n_scales={n_scales} scales evenly."
                )
            raw = math.log(math.expm1(_FIRST_SCALE))
            self.raw_scale = nn.Parameter(torch.full((n_scales,), raw))

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return 2 * self.n_columns if self.n_scales is None else self.n_columns

    def options(self) -> dict[str, object]:
        return {"n_columns": self.n_columns, "n_scales": self.n_scales}

    def mean(self, params: Tensor) -> Tensor:
        return self._location_and_scale(params)[0]

    def linear_head(self, x: Array, model: FactorAnalyser, residuals: Array) -> tuple[Array, Array]:
        scale = np.sqrt(model.noise * self._squared_scale()) - self.min_scale
        raw_scale = np.log(np.expm1(np.maximum(scale, self.min_scale)))
        weight = np.concatenate([model.loadings, np.zeros_like(model.loadings)])
        return weight, np.concatenate([model.mean, raw_scale])

    def _squared_scale(self) -> Array:
        """Return the squared scale of a column with variance 1, (d,)."""
        return np.ones(self.n_columns)

    def _location_and_scale(self, params: Tensor) -> tuple[Tensor, Tensor]:
        if self.n_scales is None:
            location, raw_scale = params.split(self.n_columns, dim=-1)
            return location, softplus(raw_scale) + self.min_scale
        scale = softplus(self.raw_scale) + self.min_scale
        return params, scale.repeat_interleave(self.n_columns // self.n_scales)


class GaussianLikelihood(_LocationScale):
    """Normal with mean and scale from the decoder, or with learned scales."""

    def log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        location, scale = self._location_and_scale(params)
        return -0.5 * (((prepared[0] - location) / scale).square() + _LOG_2PI) - scale.log()

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        location, scale = self._location_and_scale(params)
        value: Tensor = location + scale * torch.special.ndtri(uniform[..., 0])
        return value

    def uniforms_of(self, params: Tensor, prepared: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the uniform that `sample` turns into a value, twice, (..., B, d)."""
        location, scale = self._location_and_scale(params)
        u: Tensor = torch.special.ndtr((prepared[0] - location) / scale)
        return u, u

    def entropy(self, params: Tensor) -> Tensor:
        location, scale = self._location_and_scale(params)
        return (scale.log() + 0.5 * (_LOG_2PI + 1.0)).expand_as(location)


class StudentTLikelihood(_LocationScale):
    """Student t with location and scale from the decoder.

    The degrees of freedom are one learned number per column, above two so that mean and variance
    exist: the log gamma functions then leave the per-draw work.
    """

    def __init__(self, n_columns: int, n_scales: int | None = None) -> None:
        super().__init__(n_columns, n_scales)
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

    def fit_of_rows(self, prepared: tuple[Tensor, ...], observed: Tensor) -> FitOfRows:
        if self.n_scales is not None:
            return super().fit_of_rows(prepared, observed)
        df = self.df.detach()
        parts = [
            ObservedStudentT(rows, prepared[0][rows], observed[rows], df, self.min_scale)
            for rows in torch.arange(len(observed)).split(ROWS_MULTIPLE)
        ]

        def fit(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            return fit_of_parts(parts, hidden, weight, bias)

        return fit

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
        share: Array = (df - 2.0) / df
        return share

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
        location, scale = self._location_and_scale(params)
        return (scale.log() + constant).expand_as(location)


class DiscretizedNormalLikelihood(_LocationScale):
    """Masses that a normal gives to the 256 levels 0, 1/255, ..., 1.

    A level takes what lies nearer to it than to any other; the first and the last level take the
    tails as well, so the masses sum to one.

    Notes
    -----
    `mean` is that of the normal cut off at 0 and 1. Rounding to levels moves the mean by less than
    half a level, and by nothing of note once the scale is a level or more.
    """

    reparameterised = False
    # a normal this narrow still leaves its level: there is no more mass to win
    min_scale: ClassVar[float] = 0.125 / _LAST_LEVEL

    def prepare(self, x: Tensor) -> tuple[Tensor, ...]:
        level = (x.clamp(0.0, 1.0) * _LAST_LEVEL).round()
        return level / _LAST_LEVEL, level == 0, level == _LAST_LEVEL

    def log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        location, scale = self._location_and_scale(params)
        x, is_first, is_last = prepared
        half = 0.5 / _LAST_LEVEL
        to_level = x - location
        # the level's mass lies between `lower` and `upper` in the normal's lower half or around
        # its centre; the tail of an end level is all that lies below `upper`
        inward = torch.where(is_first, to_level, torch.where(is_last, -to_level, -to_level.abs()))
        centre = inward / scale
        width = (2 * half) / scale
        upper = centre + 0.5 * width
        is_end = is_first | is_last
        # log F(t) is e(t) - t^2 / 2 - log 2, so differences need no tails of F
        e_upper = _log_erfcx(upper.clamp(max=_FAR_UP))
        e_lower = _log_erfcx((centre - 0.5 * width).clamp(max=_FAR_UP))
        drop = torch.where(is_end, 1.0, e_upper - e_lower - centre * width)
        below = upper.clamp(max=_FAR_UP)
        log_below = torch.where(
            upper < _FAR_UP,
            e_upper - 0.5 * below.square() - math.log(2.0),
            torch.log1p(-0.5 * torch.special.erfc(upper.clamp(min=_FAR_UP) * math.sqrt(0.5))),
        )
        log_rest = torch.log(-torch.expm1(-drop.clamp_min(1e-12)))
        return log_below + torch.where(is_end, 0.0, log_rest)

    def mean(self, params: Tensor) -> Tensor:
        location, scale = self._location_and_scale(params)
        return 1.0 - scale * (_excess((1.0 - location) / scale) - _excess(-location / scale))

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        location, scale = self._location_and_scale(params)
        value = location + scale * torch.special.ndtri(uniform[..., 0])
        level: Tensor = (value.clamp(0.0, 1.0) * _LAST_LEVEL).round() / _LAST_LEVEL
        return level

    def uniforms_of(self, params: Tensor, prepared: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the first and last uniform that `sample` turns into a value, (..., B, d)."""
        location, scale = self._location_and_scale(params)
        x, is_first, is_last = prepared
        half = 0.5 / _LAST_LEVEL
        below, above = (torch.special.ndtr((x + to - location) / scale) for to in (-half, half))
        return torch.where(is_first, 0.0, below), torch.where(is_last, 1.0, above)

    def entropy(self, params: Tensor) -> Tensor:
        raise NotImplementedError("The entropy of a discretized normal has no closed form.")


def _log_erfcx(t: Tensor) -> Tensor:
    """Return log of the scaled complementary error function at -t / sqrt(2).

    torch's own log of the distribution function loses its gradient to cancellation from about
    3,000 standard deviations on; this leaves the square, which is the large part, to the caller.
    """
    return torch.log(torch.special.erfcx(-t * math.sqrt(0.5)))


def _excess(t: Tensor) -> Tensor:
    """Return the integral of the normal distribution function up to t, ``t F(t) + f(t)``."""
    integral: Tensor = t * torch.special.ndtr(t) + torch.exp(-0.5 * (t.square() + _LOG_2PI))
    return integral
