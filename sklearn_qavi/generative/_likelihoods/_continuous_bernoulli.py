"""Numbers from 0 to 1: the continuous Bernoulli distribution."""

import math

import torch
from torch import Tensor

from ..._checks import plain
from ._base import ColumnLikelihood

__all__ = ["ContinuousBernoulliLikelihood"]

_SMALL = 0.5  # half log odds under which series are the more exact way
_FLAT = 1e-3  # log odds under which draws are as good as uniform up to a first-order term


class ContinuousBernoulliLikelihood(ColumnLikelihood):
    """Densities proportional to ``exp(logit x)`` on [0, 1]; the decoder gives the logit.

    The logit is that of the parameter lambda, ``log(lambda / (1 - lambda))``, which is not the
    mean. Logits of 0 give the uniform distribution.

    Parameters
    ----------
    n_columns : int
        Number of columns d in the group.
    max_logit : float, default=50.0
        From here on logits grow as logarithms. The density of a value that is exactly 0 or 1 has no
        limit, so a decoder would spend its capacity on the sharpness of a black background, and
        inference would meet likelihoods that forgive nothing.
    density : {"exact", "torch"}, default="exact"
        "torch" is what `torch.distributions.ContinuousBernoulli` computes, for decoders trained
        with it. Its normaliser takes the parameter lambda cut off at the precision of a float,
        which is a logit of 15.9, and its linear term the logit as it is: beyond, the density
        integrates to less than one. Means and draws are those of the logit cut off, and
        ``max_logit`` is not read.

    Raises
    ------
    ValueError
        If ``density`` is something else.

    References
    ----------
    .. [1] Loaiza-Ganem, Cunningham (2019), "The continuous Bernoulli: fixing a pervasive error in
       variational autoencoders".
    """

    reparameterised = True

    def __init__(self, n_columns: int, max_logit: float = 50.0, density: str = "exact") -> None:
        super().__init__(n_columns)
        if density not in ("exact", "torch"):
            raise ValueError(f"density must be 'exact' or 'torch', got {plain(density)}.")
        self.max_logit, self.density = max_logit, density

    def options(self) -> dict[str, object]:
        options: dict[str, object] = {"n_columns": self.n_columns, "max_logit": self.max_logit}
        return {**options, "density": self.density}

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return self.n_columns

    def prepare(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x.clamp(0.0, 1.0) - 0.5,)

    def log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        # the density around 1/2, so that nothing large cancels at either end
        logit = self._limited(params)
        normaliser = _log_sinhc(0.5 * logit.abs())
        if self.density == "torch":
            normaliser = normaliser + _log_two_cosh(0.5 * params) - _log_two_cosh(0.5 * logit)
            logit = params
        return logit * prepared[0] - normaliser

    def mean(self, params: Tensor) -> Tensor:
        return 0.5 + 0.5 * _langevin(0.5 * self._limited(params))

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        u, params = uniform[..., 0], self._limited(params)
        # the inverse distribution function of the falling density; rising ones are its mirror
        rising = params > 0
        size = params.abs().clamp_min(_FLAT)
        v = torch.where(rising, 1.0 - u, u)
        falling = -torch.log1p(v * torch.expm1(-size)) / size
        curved = torch.where(rising, 1.0 - falling, falling).clamp(0.0, 1.0)
        flat = u + 0.5 * params * u * (1.0 - u)
        return torch.where(params.abs() < _FLAT, flat, curved)

    def uniforms_of(self, params: Tensor, prepared: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the uniform that `sample` turns into a value, twice, (..., B, d)."""
        x, params = prepared[0] + 0.5, self._limited(params)
        rising, size = params > 0, params.abs().clamp_min(_FLAT)
        falling = torch.where(rising, 1.0 - x, x)
        v = torch.expm1(-size * falling) / torch.expm1(-size)
        curved = torch.where(rising, 1.0 - v, v)
        flat = x - 0.5 * params * x * (1.0 - x)
        u = torch.where(params.abs() < _FLAT, flat, curved)
        return u, u

    def entropy(self, params: Tensor) -> Tensor:
        half = 0.5 * self._limited(params)
        return _log_sinhc(half.abs()) - half * _langevin(half)

    def _limited(self, logit: Tensor) -> Tensor:
        """Let large logits grow slowly, but never without a gradient back."""
        if self.density == "torch":
            smallest = torch.finfo(logit.dtype).eps
            end = math.log1p(-smallest) - math.log(smallest)
            return logit.clamp(-end, end)
        excess = (logit.abs() - self.max_logit).clamp_min(0.0)
        inner = logit.clamp(-self.max_logit, self.max_logit)
        return inner + torch.copysign(torch.log1p(excess), logit)


def _log_sinhc(y: Tensor) -> Tensor:
    """Return log(sinh(y) / y) for y >= 0."""
    small, large = y.clamp(max=_SMALL).square(), y.clamp(min=_SMALL)
    series = small * (
        1 / 6 - small * (1 / 180 - small * (1 / 2835 - small * (1 / 37800 - small / 467775)))
    )
    closed = large + torch.log1p(-torch.exp(-2 * large)) - torch.log(2 * large)
    return torch.where(y < _SMALL, series, closed)


def _log_two_cosh(y: Tensor) -> Tensor:
    """Return log(2 cosh(y))."""
    return y.abs() + torch.log1p(torch.exp(-2 * y.abs()))


def _langevin(y: Tensor) -> Tensor:
    """Return coth(y) - 1 / y, the derivative of log(sinh(y) / y)."""
    small = y.clamp(-_SMALL, _SMALL)
    squared = small.square()
    series = small * (
        1 / 3
        - squared * (1 / 45 - squared * (2 / 945 - squared * (1 / 4725 - squared * 2 / 93555)))
    )
    large = torch.where(y.abs() < _SMALL, _SMALL, y)
    return torch.where(y.abs() < _SMALL, series, 1 / torch.tanh(large) - 1 / large)
