"""How long and how finely to optimise, as frozen data."""

from dataclasses import dataclass, replace
from typing import Any

from .._checks import plain
from .posteriors import PosteriorFamily
from .posteriors._base import MAX_FULL_CURVATURE

__all__ = ["SCHEDULES", "Schedule"]


@dataclass(frozen=True)
class Schedule:
    """Steps, draws and step sizes of one fit; each row walks through it on its own.

    ``optimizer="adam"`` fits any family, in windows of ``window`` steps. Every window visits a
    whole set of points, so the mean bounds of two windows differ by what the row has gained and
    not by chance. A row that gains less than ``tol`` has its learning rate multiplied by
    ``decay``; once that falls below ``min_learning_rate`` the row has converged and leaves its
    block. Its answer is the mean of the parameters over its last window.

    ``optimizer="newton"`` fits the Gaussian, and reads ``max_iter``, ``n_draws``, ``tol`` and
    ``n_start_codes`` only. Its answer is an average over its last steps; a row has converged once
    another step moves that average by little enough that ``tol`` nats are left to gain.

    Parameters
    ----------
    optimizer : {"adam", "newton"}
        How to climb.
    max_iter : int
        Largest number of steps of a row.
    n_draws : int or None
        Draws of the latent code a step. None takes 4 for Adam and 32 for Newton, more with more
        than 10 latent dimensions, so that a step sees the whole curvature.
    window : int
        Steps between two looks at a row.
    learning_rate, min_learning_rate : float
        First and smallest step size of Adam, on the scale of the prior N(0, I).
    decay : float
        What a row's learning rate is multiplied by.
    tol : float
        In nats: for Adam the gain of the bound a window under which a row's learning rate falls,
        for Newton what may be left to gain.
    decay_always : bool
        Multiply after every window, whatever the gain. A row is then called converged when its
        learning rate has come below ``min_learning_rate``, or, if that is 0, when its last window
        gained less than ``tol``.
    average : bool
        Answer with the mean over the last window instead of the last step.
    rotate : bool
        Whether each window rotates the noise. Without, a row meets the same points again and an
        expressive family fits them.
    warm_start : bool
        Whether a family that can start from Gaussians fitted beforehand does so.
    n_start_codes : int
        Prior codes that are decoded once for all rows and scored on each to find its start.
    warmup : float
        Share of ``max_iter`` in which a hierarchical posterior weighs the divergence of each layer
        by one over its size ([1]_, equation 11).

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), "A Decoder Suffices for Query-Adaptive
       Variational Inference".
    """

    optimizer: str = "adam"
    max_iter: int = 240
    n_draws: int | None = None
    window: int = 12
    learning_rate: float = 0.3
    min_learning_rate: float = 0.03
    decay: float = 0.35
    tol: float = 0.05
    decay_always: bool = False
    average: bool = True
    rotate: bool = True
    warm_start: bool = True
    n_start_codes: int = 128
    warmup: float = 0.0

    def __post_init__(self) -> None:
        """Check the options that not every value is one of."""
        if self.optimizer not in ("adam", "newton"):
            raise ValueError(f"optimizer must be 'adam' or 'newton', got {plain(self.optimizer)}.")
        if not 0.0 <= self.warmup < 1.0:
            raise ValueError(f"warmup is a share of max_iter below 1, got {plain(self.warmup)}.")

    def draws_for(self, family: PosteriorFamily) -> int:
        """Return the draws a step, which may depend on the latent size."""
        if self.n_draws is not None:
            return self.n_draws
        if self.optimizer == "adam":
            return 4
        n_latent = family.latent_dim
        return max(32, 2 * n_latent + 12) if n_latent <= MAX_FULL_CURVATURE else 32

    def with_options(self, **options: Any) -> "Schedule":
        """Return this schedule with the options that are not None put in."""
        return replace(self, **{k: v for k, v in options.items() if v is not None})


SCHEDULES = {
    "default": Schedule(),
    "paper": Schedule(
        max_iter=300,
        n_draws=100,
        window=30,
        learning_rate=1.0,
        min_learning_rate=0.0,
        decay=0.5,
        decay_always=True,
        average=False,
        warm_start=False,
    ),
}
"""Option string -> schedule. "paper" is the recipe of [1]_: Adam, 300 steps, 100 draws a step, the
learning rate halved every 30 steps.
.. [1] Agarwal, Hope, Younis, Sudderth (2023), section 4.1.
"""
