"""How to optimise the posterior of each row: steps, draws and step sizes, as plain data."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import ClassVar, Self

from sklearn.base import BaseEstimator

from .._sklearn_compat import Interval, validate_parameters

__all__ = ["MAX_FULL_CURVATURE", "Adam", "Newton", "OptimizerSettings"]

MAX_FULL_CURVATURE = 48
"""Latent dimensions above which Newton steps see the diagonal of the curvature only."""

_COUNT = Interval(Integral, 1, None, closed="left")
_NOT_NEGATIVE = Interval(Real, 0, None, closed="left")


class OptimizerSettings(BaseEstimator, ABC):  # type: ignore[misc]
    """What `Adam` and `Newton` share: options that can be searched, and a copy with some changed.

    Values are checked when they are used, as scikit-learn's estimators do.
    """

    max_iter: int
    n_start_codes: int

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        "max_iter": [_COUNT],
        "tol": [Interval(Real, None, None, closed="neither")],
        "n_draws": [None, _COUNT],
        "n_start_codes": [_COUNT],
    }

    @abstractmethod
    def draws_for(self, latent_dim: int) -> int:
        """Return the number of draws per step, which may depend on the latent dimension."""

    def with_options(self, **options: object) -> Self:
        """Return a copy with those options changed that are not None."""
        return replace(self, **{k: v for k, v in options.items() if v is not None})

    def check(self) -> None:
        """Raise ValueError if an option has a value that it cannot have."""
        validate_parameters(self)


@dataclass(kw_only=True, repr=False)
class Newton(OptimizerSettings):
    """Newton steps with the expected curvature, for a Gaussian posterior.

    A row's answer is an average over its last steps. It has converged once another step moves
    that average by so little that ``tol`` nats are left to gain.

    Parameters
    ----------
    max_iter : int, default=60
        Maximum number of optimisation steps per row.
    tol : float, default=0.01
        What may be left to gain when a row stops, in nats.
    n_draws : int or None, default=None
        Draws of the latent code per step. None takes 32, more with more than 10 latent
        dimensions, so that a step sees the whole curvature.
    n_start_codes : int, default=1024
        Prior codes that are decoded once for all rows, and scored on each row to find its start.

    Examples
    --------
    >>> from sklearn_qavi import QAVIImputer
    >>> from sklearn_qavi.inference import Gaussian, Newton
    >>> imputer = QAVIImputer(posterior=Gaussian(optimizer=Newton(n_draws=64)))
    """

    max_iter: int = 60
    tol: float = 0.01
    n_draws: int | None = None
    n_start_codes: int = 1024

    def draws_for(self, latent_dim: int) -> int:
        """Return the number of draws per step for a latent dimension."""
        if self.n_draws is not None:
            return self.n_draws
        return max(32, 2 * latent_dim + 12) if latent_dim <= MAX_FULL_CURVATURE else 32


@dataclass(kw_only=True, repr=False)
class Adam(OptimizerSettings):
    """Adam in windows of steps, for any posterior.

    Every window visits a whole set of points, so the mean bounds of two windows differ by what
    the row has gained and not by chance. A row that gains less than ``tol`` has its learning rate
    multiplied by ``decay``; once that falls below ``min_learning_rate`` the row has converged. Its
    answer is the mean of the parameters over its last window.

    Parameters
    ----------
    max_iter : int, default=240
        Maximum number of optimisation steps per row.
    tol : float, default=0.05
        Gain of the bound per window, in nats, below which a row's learning rate is lowered.
    n_draws : int or None, default=None
        Draws of the latent code per step; None takes 4.
    window : int, default=12
        Steps between two looks at a row.
    learning_rate, min_learning_rate : float, default=0.3, 0.03
        First and smallest learning rate, on the scale of the prior N(0, I).
    decay : float, default=0.35
        What a row's learning rate is multiplied by.
    decay_always : bool, default=False
        Multiply after every window, whatever the gain. A row then counts as converged when its
        learning rate has come below ``min_learning_rate``, or, if that is 0, when its last window
        gained less than ``tol``.
    average : bool, default=True
        Answer with the mean over the last window instead of the last step.
    rotate : bool, default=True
        Whether each window rotates the noise. Without, a row meets the same points again and an
        expressive posterior overfits them.
    warm_start : bool, default=True
        Whether a posterior that can start from Gaussians fitted beforehand does so.
    n_start_codes : int, default=128
        Prior codes that are decoded once for all rows, and scored on each row to find its start.
    warmup : float, default=0.0
        Share of ``max_iter`` in which a hierarchical posterior divides the divergence of each
        layer by the layer's size ([1]_, equation 11).

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), "A Decoder Suffices for Query-Adaptive
       Variational Inference".

    Examples
    --------
    >>> from sklearn_qavi import QAVIImputer
    >>> from sklearn_qavi.inference import Adam, Mixture
    >>> imputer = QAVIImputer(posterior=Mixture(optimizer=Adam(learning_rate=0.1, n_draws=2)))
    """

    max_iter: int = 240
    tol: float = 0.05
    n_draws: int | None = None
    window: int = 12
    learning_rate: float = 0.3
    min_learning_rate: float = 0.03
    decay: float = 0.35
    decay_always: bool = False
    average: bool = True
    rotate: bool = True
    warm_start: bool = True
    n_start_codes: int = 128
    warmup: float = 0.0

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        **OptimizerSettings._parameter_constraints,
        "window": [_COUNT],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "min_learning_rate": [_NOT_NEGATIVE],
        "decay": [Interval(Real, 0, 1, closed="right")],
        "decay_always": ["boolean"],
        "average": ["boolean"],
        "rotate": ["boolean"],
        "warm_start": ["boolean"],
        "warmup": [Interval(Real, 0, 1, closed="left")],
    }

    @classmethod
    def paper(cls, **changes: object) -> "Adam":
        """Return the recipe of [1]_: 300 steps of 100 draws, learning rate halved every 30 steps.

        Parameters
        ----------
        **changes : dict
            Options that differ.

        References
        ----------
        .. [1] Agarwal, Hope, Younis, Sudderth (2023), section 4.1.
        """
        recipe = cls(
            max_iter=300,
            n_draws=100,
            window=30,
            learning_rate=1.0,
            min_learning_rate=0.0,
            decay=0.5,
            decay_always=True,
            average=False,
            warm_start=False,
        )
        return recipe.with_options(**changes)

    def draws_for(self, latent_dim: int) -> int:
        """Return the number of draws per step for a latent dimension."""
        return 4 if self.n_draws is None else self.n_draws
