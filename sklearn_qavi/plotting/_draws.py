"""Draws of many hidden cells against the truth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from .._checks import plain
from .._typing import Table
from ._axes import (
    OBSERVED,
    TRUTH,
    add_legend,
    hide_frame,
    ink,
    label_places,
    new_axes,
    readable,
    say_below,
)
from ._labels import LONGEST, shorten
from ._tables import as_mask, checked_draws, read_columns, read_completed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DrawsDisplay"]


class DrawsDisplay:
    """Draws of some hidden cells against the truth.

    One line per cell, in standardized units of its column so that columns share the axis: each draw
    a dot, the central interval of the draws a bar, their mean a tick and the truth a diamond. Build
    one with `from_draws`.

    Parameters
    ----------
    draws : ndarray of shape (n, n_cells)
        Draws of the cells, in standardized units.
    truth : ndarray of shape (n_cells,)
        True values of the cells, in standardized units.
    labels : sequence of str
        Name of each cell.
    n_hidden : int, default=None
        Number of hidden cells that they were chosen from; None says these are all.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the picture, after `plot`.
    figure_ : matplotlib.figure.Figure
        Figure with the axes, after `plot`.

    See Also
    --------
    CoverageDisplay : Whether such intervals hold what they promise, over all hidden cells.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_qavi.plotting import DrawsDisplay
    >>> rng = np.random.default_rng(0)
    >>> X_true, missing = rng.normal(size=(50, 3)), rng.random((50, 3)) < 0.3
    >>> draws = rng.normal(size=(100, 50, 3))
    >>> display = DrawsDisplay.from_draws(X_true, draws, missing, n_cells=5, random_state=0)
    >>> len(display.ax_.get_yticklabels())
    5
    """

    def __init__(
        self,
        *,
        draws: NDArray[np.float64],
        truth: NDArray[np.float64],
        labels: Sequence[str],
        n_hidden: int | None = None,
    ) -> None:
        self.draws = draws
        self.truth = truth
        self.labels = labels
        self.n_hidden = n_hidden

    @classmethod
    def from_draws(
        cls,
        X_true: Table,
        draws: Iterable[Table],
        missing: ArrayLike,
        *,
        feature_names: Sequence[str] | None = None,
        cells: ArrayLike | None = None,
        n_cells: int = 12,
        random_state: int | np.random.RandomState | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Choose cells, standardize them and plot.

        Parameters
        ----------
        X_true : array-like or dataframe of shape (n_rows, n_features)
            True values in original units. Mean and standard deviation of its columns, over the
            values that are known, make the standardized units of the picture. Categories are not
            shown.
        draws : array-like of shape (n, n_rows, n_features) or iterable of tables
            Completed tables in original units, such as `QAVIImputer.sample` returns.
        missing : array-like of bool of shape (n_rows, n_features)
            True for a hidden cell.
        feature_names : sequence of str, default=None
            Names of the columns. None takes those of ``X_true`` if it is a dataframe, otherwise
            x0, x1, ...
        cells : array-like of int of shape (n_cells, 2), default=None
            Row and column position of each cell to show. None chooses at random among the hidden
            ones.
        n_cells : int, default=12
            How many cells to choose if ``cells`` is None; fewer if fewer are hidden.
        random_state : int, RandomState instance or None, default=None
            Seed of the choice of cells.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : DrawsDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If shapes differ, or the cells are not hidden cells with a known truth.
        ImportError
            If matplotlib is not installed.
        """
        columns = read_columns(X_true, feature_names=feature_names, name="X_true")
        mask = as_mask(missing, (len(columns[0].values), len(columns)))
        truth = np.stack([column.values for column in columns], axis=1)
        shown = np.array([not column.is_categorical for column in columns]) & np.isfinite(truth)
        draws = checked_draws(draws, columns)
        n_hidden = int((mask & shown).sum()) if cells is None else None
        if cells is None:
            cells = _choose_cells(mask & shown, n_cells, random_state)
        rows, places = _check_cells(cells, mask, shown).T
        chosen, which = np.unique(places, return_inverse=True)
        hidden = [column.without(mask[:, j]) for j, column in enumerate(columns)]
        completed = read_completed(hidden, draws, chosen=chosen.tolist(), check_observed=False)
        values = np.stack([one.draws for one in completed])[which, :, rows].T
        names = shorten(column.name for column in columns)
        center, scale = _column_units(truth[:, places])
        return cls(
            draws=(values - center) / scale,
            truth=(truth[rows, places] - center) / scale,
            labels=[f"{names[j]}, row {i}" for i, j in zip(rows, places, strict=True)],
            n_hidden=n_hidden,
        ).plot(ax=ax)

    def plot(self, ax: Axes | None = None, *, level: float = 0.9) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure whose height follows the number of cells.
        level : float, default=0.9
            Mass of the central interval of the draws that the bar covers, between 0 and 1.

        Returns
        -------
        display : DrawsDisplay
            Itself, with ``ax_`` and ``figure_``.

        Raises
        ------
        ValueError
            If level is not between 0 and 1.
        ImportError
            If matplotlib is not installed.
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"level must be between 0 and 1, got {plain(level)}; 0.9 means 90%.")
        size = (8.0, 1.5 + 0.4 * len(self.truth))
        self.ax_ = new_axes(type(self).__name__, size) if ax is None else ax
        self.figure_ = self.ax_.figure
        places = np.arange(len(self.truth))
        self._plot_draws(places)
        self._plot_interval(places, level)
        self.ax_.plot(
            self.truth,
            places,
            "D",
            color=readable(TRUTH, self.ax_),
            markersize=6,
            label="truth",
            zorder=4,
        )
        self._label(places)
        return self

    def _plot_draws(self, places: NDArray[np.intp]) -> None:
        # spread over the height of the line, because draws at one value would hide each other;
        # by rank in a fixed order, so that the same display looks the same each time
        n_draws = len(self.draws)
        spread = ((np.arange(n_draws) * 0.618034) % 1.0 - 0.5) * 0.6
        y = places[None, :] + spread[:, None]
        self.ax_.plot(
            self.draws.ravel(),
            y.ravel(),
            ".",
            color=readable(OBSERVED, self.ax_),
            alpha=0.25,
            markersize=4,
            label="draws",
        )

    def _plot_interval(self, places: NDArray[np.intp], level: float) -> None:
        tails = [(1 - level) / 2, (1 + level) / 2]
        # as sklearn_qavi.metrics.interval_coverage: rank p (n + 1) makes the level right for few
        # draws as well
        lower, upper = np.quantile(self.draws, tails, axis=0, method="weibull")
        label = f"{100 * level:g}% interval"
        self.ax_.hlines(
            places,
            lower,
            upper,
            color=readable(OBSERVED, self.ax_),
            linewidth=2,
            label=label,
            zorder=2,
        )
        mean = self.draws.mean(axis=0)
        self.ax_.plot(
            mean,
            places,
            "|",
            color=ink(self.ax_),
            markersize=12,
            markeredgewidth=2,
            label="mean",
            zorder=3,
        )

    def _label(self, places: NDArray[np.intp]) -> None:
        label_places(self.ax_, "y", places, self.labels, share=0.5, longest=LONGEST + 9)
        self.ax_.set_ylim(len(places) - 0.4, -0.6)  # the first cell on top
        hide_frame(self.ax_)
        n, n_hidden = len(places), self.n_hidden or 0
        say_below(
            self.ax_,
            "value in standard deviations from the column's mean",
            f"{n} of {n_hidden} hidden cells shown" if n < n_hidden else "",
        )
        add_legend(self.ax_, "upper center", room=True)


def _choose_cells(
    mask: NDArray[np.bool_], n_cells: int, random_state: int | np.random.RandomState | None
) -> NDArray[np.intp]:
    hidden = np.argwhere(mask)
    if len(hidden) == 0 or n_cells < 1:
        raise ValueError(
            f"Expected at least one hidden cell to show, got {len(hidden)} cells marked by missing "
            f"whose truth is a known number or time, and n_cells={n_cells}."
        )
    n = min(n_cells, len(hidden))
    chosen = check_random_state(random_state).choice(len(hidden), n, replace=False)
    return np.asarray(hidden[np.sort(chosen)])


def _check_cells(
    cells: ArrayLike, mask: NDArray[np.bool_], shown: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Return positions (n_cells, 2) of cells that are hidden and have a true number."""
    positions = np.asarray(cells)
    if positions.ndim != 2 or positions.shape[1] != 2 or positions.dtype.kind not in "iu":
        raise ValueError(
            f"cells must be (row, column) pairs of whole numbers, got shape {positions.shape} and "
            f"dtype {positions.dtype}."
        )
    if (positions < 0).any() or (positions >= mask.shape).any():
        raise ValueError(
            f"cells must lie inside the table of shape {mask.shape}, got {plain(cells)}."
        )
    rows, columns = positions.T
    if not (mask & shown)[rows, columns].all():
        raise ValueError(
            "cells must be hidden cells with a known truth that is no category: True in missing "
            "and a number or time in X_true; np.argwhere(missing) lists the hidden ones."
        )
    return positions.astype(np.intp)


def _column_units(truth: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each column over its finite values, 0 becoming 1."""
    known = np.ma.masked_invalid(truth)
    scale = known.std(axis=0).filled(1.0)
    return known.mean(axis=0).filled(0.0), np.where(scale > 0, scale, 1.0)
