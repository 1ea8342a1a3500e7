"""Whether intervals hold as many true values as they promise."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from .._checks import plain
from .._typing import Table
from ._axes import add_legend, faint, hide_frame, new_axes, readable, say_below, say_beside
from ._columns import Column
from ._labels import as_entry
from ._tables import (
    as_mask,
    column_position,
    completed_tables,
    missing_values_of,
    read_columns,
    read_completed,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CoverageDisplay"]

Array = NDArray[np.float64]

_LEVELS = np.arange(0.05, 1.0, 0.05)


class CoverageDisplay:
    """Calibration of intervals: nominal against empirical coverage of hidden cells.

    On the diagonal intervals hold what they promise; below it they are too narrow, above it too
    wide. The band holds 95% of what intervals of the right width would show on as many cells, if
    cells were independent; those of one row are not quite, so trust it as a lower limit of
    what is noise. Build one with `from_estimator` or `from_draws`.

    Parameters
    ----------
    levels : ndarray of shape (K,)
        Nominal levels of the intervals.
    coverage : ndarray of shape (K,)
        Share of the cells whose true value lies in the interval.
    n_cells : int
        Number of cells.
    name : str, default=None
        What to call the curve in the legend.
    n_left_out : int, default=0
        Hidden cells that were not compared because they hold categories, for a note.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the picture, after `plot`.
    figure_ : matplotlib.figure.Figure
        Figure with the axes, after `plot`.

    See Also
    --------
    sklearn_qavi.metrics.interval_coverage : The coverage at one level.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_qavi.plotting import CoverageDisplay
    >>> rng = np.random.default_rng(0)
    >>> X_true, missing = rng.normal(size=(50, 3)), rng.random((50, 3)) < 0.3
    >>> draws = np.where(missing, rng.normal(size=(99, 50, 3)), X_true)
    >>> display = CoverageDisplay.from_draws(X_true, draws, missing, levels=[0.5, 0.9])
    >>> display.coverage.shape
    (2,)
    """

    def __init__(
        self,
        *,
        levels: Array,
        coverage: Array,
        n_cells: int,
        name: str | None = None,
        n_left_out: int = 0,
    ) -> None:
        self.levels = levels
        self.coverage = coverage
        self.n_cells = n_cells
        self.name = name
        self.n_left_out = n_left_out

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: Table,
        X_true: Table,
        *,
        columns: Sequence[Hashable] | None = None,
        levels: ArrayLike | None = None,
        n_draws: int = 100,
        feature_names: Sequence[str] | None = None,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Complete a table with hidden cells, compare with the truth and plot.

        Parameters
        ----------
        estimator : fitted imputer
            With ``sample``, as `QAVIImputer`.
        X : array-like or dataframe of shape (n_rows, n_features)
            Table with hidden cells.
        X_true : array-like or dataframe of shape (n_rows, n_features)
            The same table with their true values. Cells that are missing in it as well do not
            count.
        columns : list of str or int, default=None
            Columns to look at, by name or position; None takes all that are no categories.
        levels : array-like of float, default=None
            Nominal levels, between 0 and 1. None takes steps of 0.05, as far as the number of
            draws reaches.
        n_draws : int, default=100
            Completed tables to draw.
        feature_names : sequence of str, default=None
            Names of the columns. None takes those of ``X`` if it is a dataframe, otherwise
            x0, x1, ...
        name : str, default=None
            What to call the curve in the legend; None takes the estimator's class.
        ax : matplotlib.axes.Axes, default=None
            Where to draw, e.g. the ``ax_`` of another display; None makes a figure.

        Returns
        -------
        display : CoverageDisplay
            The display, plotted.

        Raises
        ------
        TypeError
            If the imputer has no ``sample``.
        ValueError
            If shapes differ, no number is hidden, or columns or levels are not as described.
        ImportError
            If matplotlib is not installed.
        """
        if not hasattr(estimator, "sample"):
            raise TypeError(f"{type(estimator).__name__} has no sample, so it has no intervals.")
        marker = missing_values_of(estimator)
        options = {"feature_names": feature_names, "estimator": estimator}
        hidden = read_columns(X, missing_values=marker, **options)
        missing = np.stack([column.missing for column in hidden], axis=1)
        draws, positions = completed_tables(estimator, X, n_draws)
        return cls._compared(
            read_columns(X_true, missing_values=marker, name="X_true", **options),
            draws,
            missing,
            positions=positions,
            columns=columns,
            levels=levels,
            name=type(estimator).__name__ if name is None else name,
        ).plot(ax=ax)

    @classmethod
    def from_draws(
        cls,
        X_true: Table,
        draws: Iterable[Table],
        missing: ArrayLike,
        *,
        columns: Sequence[Hashable] | None = None,
        levels: ArrayLike | None = None,
        feature_names: Sequence[str] | None = None,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Compare completed tables with the truth and plot.

        Parameters
        ----------
        X_true : array-like or dataframe of shape (n_rows, n_features)
            True values. Hidden cells that are missing in it as well do not count.
        draws : array-like of shape (n, n_rows, n_features) or iterable of tables
            Completed tables, from any imputer.
        missing : array-like of bool of shape (n_rows, n_features)
            True for a hidden cell.
        columns : list of str or int, default=None
            Columns to look at, by name or position; None takes all that are no categories.
        levels : array-like of float, default=None
            Nominal levels, between 0 and 1. None takes steps of 0.05, as far as the number of
            draws reaches.
        feature_names : sequence of str, default=None
            Names of the columns. None takes those of ``X_true`` if it is a dataframe, otherwise
            x0, x1, ...
        name : str, default=None
            What to call the curve in the legend.
        ax : matplotlib.axes.Axes, default=None
            Where to draw, e.g. the ``ax_`` of another display; None makes a figure.

        Returns
        -------
        display : CoverageDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If shapes differ, no number is hidden, or columns or levels are not as described.
        ImportError
            If matplotlib is not installed.
        """
        truth = read_columns(X_true, feature_names=feature_names, name="X_true")
        mask = as_mask(missing, (len(truth[0].values), len(truth)))
        return cls._compared(
            truth, draws, mask, positions=None, columns=columns, levels=levels, name=name
        ).plot(ax=ax)

    @classmethod
    def _compared(
        cls,
        truth: list[Column],
        draws: Iterable[Table],
        missing: NDArray[np.bool_],
        *,
        positions: Sequence[int | None] | None,
        columns: Sequence[Hashable] | None,
        levels: ArrayLike | None,
        name: str | None,
    ) -> Self:
        chosen = _chosen(truth, missing, columns, positions)
        hidden = [column.without(missing[:, j]) for j, column in enumerate(truth)]
        completed = read_completed(
            hidden, draws, positions=positions, chosen=chosen, check_observed=positions is not None
        )
        values, drawn = [], []
        for j, one in zip(chosen, completed, strict=True):
            cells = missing[:, j] & ~truth[j].missing
            values.append(truth[j].values[cells])
            drawn.append(one.draws[:, cells])
        known, draws_of_cells = np.concatenate(values), np.concatenate(drawn, axis=1)
        nominal = _checked_levels(levels, len(draws_of_cells))
        coverage = np.array([_coverage(known, draws_of_cells, level) for level in nominal])
        is_left_out = np.array([columns is None and one.is_categorical for one in truth])
        return cls(
            levels=nominal,
            coverage=coverage,
            n_cells=len(known),
            name=name,
            n_left_out=int(missing[:, is_left_out].sum()),
        )

    def plot(self, ax: Axes | None = None, *, band: float = 0.95) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure. On the axes of another display the band and the
            diagonal are not drawn again.
        band : float, default=0.95
            Share of what intervals of the right width show that lies in the band.

        Returns
        -------
        display : CoverageDisplay
            Itself, with ``ax_`` and ``figure_``.

        Raises
        ------
        ValueError
            If band is not between 0 and 1.
        ImportError
            If matplotlib is not installed.
        """
        if not 0.0 < band < 1.0:
            raise ValueError(f"band must be between 0 and 1, got {plain(band)}; 0.95 means 95%.")
        self.ax_ = new_axes(type(self).__name__, (4.6, 4.4)) if ax is None else ax
        self.figure_ = self.ax_.figure
        if not any(line.get_label() == _DIAGONAL for line in self.ax_.lines):
            self._plot_expected(band)
        label = as_entry(f"{self.name or 'intervals'} ({self.n_cells} cells)")
        (line,) = self.ax_.plot(self.levels, self.coverage, "o-", markersize=4, label=label)
        line.set(color=readable(line.get_color(), self.ax_), zorder=3)
        self.ax_.set(
            xlim=(0, 1),
            ylim=(0, 1),
            aspect="equal",
        )
        note = f"{self.n_left_out} hidden cells left out: categories have no intervals"
        if self.n_left_out or not self.ax_.get_xlabel():  # another display may have said it
            below = note if self.n_left_out else ""
            say_below(self.ax_, "nominal level of the interval", below)
        say_beside(self.ax_, "share of hidden cells inside")
        hide_frame(self.ax_)
        add_legend(self.ax_, "upper left")
        return self

    def _plot_expected(self, band: float) -> None:
        from scipy.stats import binom

        self.ax_.plot(
            [0, 1], [0, 1], color=faint(self.ax_, 0.6), linewidth=1, linestyle="--", label=_DIAGONAL
        )
        grid = np.linspace(0.0, 1.0, 201)
        lower, upper = (
            binom.ppf(p, self.n_cells, grid) / self.n_cells
            for p in ((1 - band) / 2, (1 + band) / 2)
        )
        self.ax_.fill_between(
            grid,
            lower,
            upper,
            color=faint(self.ax_),
            linewidth=0,
            label=f"{100 * band:g}% by chance",
        )


_DIAGONAL = "calibrated"


def _chosen(
    truth: list[Column],
    missing: NDArray[np.bool_],
    wanted: Sequence[Hashable] | None,
    positions: Sequence[int | None] | None,
) -> list[int]:
    """Return the positions of the columns whose hidden cells are compared."""
    names = [column.name for column in truth]
    if wanted is None:
        chosen = [
            j
            for j, column in enumerate(truth)
            if not (column.is_categorical or column.is_empty)
            and (positions is None or positions[j] is not None)
        ]
    else:
        chosen = [column_position(one, names) for one in wanted]
    for j in chosen:
        if truth[j].is_categorical:
            raise ValueError(f"Column {plain(names[j])} holds categories, which have no intervals.")
    chosen = [j for j in chosen if (missing[:, j] & ~truth[j].missing).any()]
    if not chosen:
        raise ValueError(
            "No cell with a number or time is both hidden and known, so there is nothing to "
            "compare. Hide some with sklearn_qavi.datasets.make_missing."
        )
    return chosen


def _checked_levels(levels: ArrayLike | None, n_draws: int) -> Array:
    if n_draws < 2:
        raise ValueError(f"Intervals need at least two draws, got {n_draws}.")
    widest = (n_draws - 1) / (n_draws + 1)  # from the smallest to the largest draw
    if levels is None:
        return _LEVELS[widest + 1e-9 >= _LEVELS]
    nominal = np.sort(np.asarray(levels, dtype=np.float64).ravel())
    if len(nominal) == 0 or not ((nominal > 0) & (nominal < 1)).all():
        raise ValueError(f"levels must be between 0 and 1, got {plain(levels)}; 0.9 means 90%.")
    if nominal[-1] > widest + 1e-9:
        raise ValueError(
            f"{n_draws} draws reach intervals of level {widest:.3f} at most, asked was "
            f"{nominal[-1]:g}. Draw more tables."
        )
    return nominal


def _coverage(truth: Array, draws: Array, level: float) -> float:
    """Return the share of cells (C,) in the central intervals of draws (S, C)."""
    # rank p (n + 1) makes the level right for few draws as well
    lower, upper = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0, method="weibull")
    return float(np.mean((truth >= lower) & (truth <= upper)))
