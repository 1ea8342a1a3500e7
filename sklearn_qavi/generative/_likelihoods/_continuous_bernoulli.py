"""Numbers from 0 to 1: the continuous Bernoulli distribution."""

import torch
from torch import Tensor

from ._base import ColumnLikelihood

__all__ = ["ContinuousBernoulliLikelihood"]

_SMALL = 0.5  # half log odds under which series are the more exact way
_FLAT = 1e-3  # log odds under which draws are as good as uniform up to a first-order term


class ContinuousBernoulliLikelihood(ColumnLikelihood):
    """Densities proportional to ``exp(logit x)`` on [0, 1]; the decoder gives the logit.

    The logit is that of the parameter lambda, ``log(lambda / (1 - lambda))``, which is not the
    mean. Logits of 0 give the uniform distribution.

    References
    ----------
    .. [1] Loaiza-Ganem, Cunningham (2019), "The continuous Bernoulli: fixing a pervasive error in
       variational autoencoders".
    """

    reparameterised = True

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return self.n_columns

    def prepare(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x.clamp(0.0, 1.0) - 0.5,)

    def log_prob(self, params: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        # the density around 1/2, so that nothing large cancels at either end
        return params * prepared[0] - _log_sinhc(0.5 * params.abs())

    def mean(self, params: Tensor) -> Tensor:
        return 0.5 + 0.5 * _langevin(0.5 * params)

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        u = uniform[..., 0]
        # the inverse distribution function of the falling density; rising ones are its mirror
        rising = params > 0
        size = params.abs().clamp_min(_FLAT)
        v = torch.where(rising, 1.0 - u, u)
        falling = -torch.log1p(v * torch.expm1(-size)) / size
        curved = torch.where(rising, 1.0 - falling, falling).clamp(0.0, 1.0)
        flat = u + 0.5 * params * u * (1.0 - u)
        return torch.where(params.abs() < _FLAT, flat, curved)

    def entropy(self, params: Tensor) -> Tensor:
        half = 0.5 * params
        return _log_sinhc(half.abs()) - half * _langevin(half)


def _log_sinhc(y: Tensor) -> Tensor:
    """Return log(sinh(y) / y) for y >= 0."""
    small, large = y.clamp(max=_SMALL).square(), y.clamp(min=_SMALL)
    series = small * (
        1 / 6 - small * (1 / 180 - small * (1 / 2835 - small * (1 / 37800 - small / 467775)))
    )
    closed = large + torch.log1p(-torch.exp(-2 * large)) - torch.log(2 * large)
    return torch.where(y < _SMALL, series, closed)


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
