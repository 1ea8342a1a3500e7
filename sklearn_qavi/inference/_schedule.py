"""How long and how finely to optimise, as frozen data."""

from dataclasses import dataclass, replace

__all__ = ["SCHEDULES", "Schedule"]


@dataclass(frozen=True)
class Schedule:
    """Steps, draws and learning rates of one fit; each row walks through it on its own.

    Adam runs in windows of ``window`` steps. Every window visits the same noise, so the mean
    bounds of two windows differ by what the row has gained and not by chance. A row that gains
    less than ``tol`` has its learning rate multiplied by ``decay``; once that falls below
    ``min_learning_rate`` the row has converged and leaves its block. Its answer is the mean of
    the parameters over its last window.

    Parameters
    ----------
    max_iter : int
        Largest number of steps of a row.
    n_draws : int
        Draws of the latent code a step.
    window : int
        Steps between two looks at a row.
    learning_rate, min_learning_rate : float
        First and smallest step size of Adam, on the scale of the prior N(0, I).
    decay : float
        What a row's learning rate is multiplied by.
    tol : float
        Gain of the bound a window, in nats, under which a row's learning rate falls.
    decay_always : bool
        Multiply after every window, whatever the gain.
    average : bool
        Answer with the mean over the last window instead of the last step.
    rotate : bool
        Whether each window rotates the noise. Without, a row meets the same points again and an
        expressive family fits them.
    n_start_codes : int
        Prior codes that are decoded once for all rows and scored on each to find its start.
    """

    max_iter: int = 240
    n_draws: int = 4
    window: int = 12
    learning_rate: float = 0.3
    min_learning_rate: float = 0.03
    decay: float = 0.35
    tol: float = 0.05
    decay_always: bool = False
    average: bool = True
    rotate: bool = True
    n_start_codes: int = 128

    def with_options(self, **options: float | None) -> "Schedule":
        """Return this schedule with the options that are not None put in."""
        return replace(self, **{k: v for k, v in options.items() if v is not None})  # type: ignore[arg-type]


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
    ),
}
"""Option string -> schedule. "paper" is the recipe of [1]_: Adam, 300 steps, 100 draws a step, the
learning rate halved every 30 steps.

.. [1] Agarwal, Hope, Younis, Sudderth (2023), section 4.1.
"""
