"""What was observed in a column beside what was put into its missing cells."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Self, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from .._checks import plain
from .._typing import Table
from ._axes import (
    IMPUTED,
    OBSERVED,
    Panels,
    add_legend,
    edges_of_bins,
    hide_frame,
    inches_of,
    label_places,
    most_common,
    panel_axes,
    readable,
    say_below,
    set_title,
    set_value_axis,
    short_names,
)
from ._columns import Column
from ._tables import (
    CompletedColumn,
    column_position,
    completed_tables,
    missing_values_of,
    read_columns,
    read_completed,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DistributionDisplay"]

_MOST_PANELS = 12
_MOST_LEVELS = 10
_PANEL, _SMALLEST_PANEL = (3.2, 2.4), (2.2, 1.9)  # inches


class DistributionDisplay:
    """Observed and imputed values of columns.

    One panel per column: of numbers and times two histograms of equal area, of categories two bars
    per category. The distributions need not agree: where large values are missing more often,
    imputed ones are larger. A peak that the observed values do not have is a reason to look again.
    Build one with `from_estimator` or `from_draws`.

    Parameters
    ----------
    columns : list of CompletedColumn
        Incomplete columns, as numbers, and their completed versions.
    n_incomplete : int, default=None
        Number of incomplete columns that they were chosen from, for a note if not all are shown;
        None says that these were asked for.

    Attributes
    ----------
    axes_ : list of matplotlib.axes.Axes
        One for each column that is shown, after `plot`.
    ax_ : matplotlib.axes.Axes
        The first of them.
    figure_ : matplotlib.figure.Figure
        Figure with the axes, after `plot`.

    See Also
    --------
    CellDisplay : What may be in a single cell.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.impute import SimpleImputer
    >>> from sklearn_qavi.plotting import DistributionDisplay
    >>> X = np.random.default_rng(0).normal(size=(50, 2))
    >>> X[:10, 1] = np.nan
    >>> display = DistributionDisplay.from_estimator(SimpleImputer().fit(X), X)
    >>> display.ax_.get_title()
    'x1 (10 of 50 missing)'
    """

    def __init__(self, *, columns: list[CompletedColumn], n_incomplete: int | None = None) -> None:
        self.columns = columns
        self.n_incomplete = n_incomplete

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: Table,
        *,
        columns: Sequence[Hashable] | None = None,
        n_draws: int = 20,
        feature_names: Sequence[str] | None = None,
        ax: Panels = None,
    ) -> Self:
        """Complete a table and plot what was observed and what was imputed.

        Parameters
        ----------
        estimator : fitted imputer
            Its draws are shown if it has ``sample``, otherwise its ``transform``.
        X : array-like or dataframe of shape (n_rows, n_features)
            Table with missing cells.
        columns : list of str or int, default=None
            Columns to show, by name or position. None takes those with missing cells, of more than
            twelve the ones that miss most.
        n_draws : int, default=20
            Completed tables to draw.
        feature_names : sequence of str, default=None
            Names of the columns. None takes those of ``X`` if it is a dataframe, otherwise
            x0, x1, ...
        ax : matplotlib.axes.Axes or array of them, default=None
            Axes to divide, or one for each column; None makes a figure.

        Returns
        -------
        display : DistributionDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If no cell is missing, or a column is unknown or cannot be plotted.
        ImportError
            If matplotlib is not installed.
        """
        read = read_columns(
            X,
            missing_values=missing_values_of(estimator),
            feature_names=feature_names,
            estimator=estimator,
        )
        draws, positions = completed_tables(estimator, X, n_draws)
        kept = [j for j, place in enumerate(positions) if place is not None]
        chosen = _chosen(read, columns, kept)
        return cls(
            columns=read_completed(read, draws, positions=positions, chosen=chosen),
            n_incomplete=_n_incomplete(read, kept) if columns is None else None,
        ).plot(ax)

    @classmethod
    def from_draws(
        cls,
        X: Table,
        draws: Iterable[Table],
        *,
        columns: Sequence[Hashable] | None = None,
        missing_values: object = np.nan,
        feature_names: Sequence[str] | None = None,
        ax: Panels = None,
    ) -> Self:
        """Plot what was observed and what completed tables have in its place.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_rows, n_features)
            Table with missing cells.
        draws : array-like of shape (n, n_rows, n_features) or iterable of tables
            Completed versions of it, from any imputer.
        columns : list of str or int, default=None
            Columns to show, by name or position. None takes those with missing cells, of more than
            twelve the ones that miss most.
        missing_values : int, float, str or np.nan, default=np.nan
            What marks a missing cell besides NaN and None.
        feature_names : sequence of str, default=None
            Names of the columns. None takes those of ``X`` if it is a dataframe, otherwise
            x0, x1, ...
        ax : matplotlib.axes.Axes or array of them, default=None
            Axes to divide, or one for each column; None makes a figure.

        Returns
        -------
        display : DistributionDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If no cell is missing, shapes differ, or a column is unknown or cannot be plotted.
        ImportError
            If matplotlib is not installed.
        """
        read = read_columns(X, missing_values=missing_values, feature_names=feature_names)
        kept = list(range(len(read)))
        chosen = _chosen(read, columns, kept)
        return cls(
            columns=read_completed(read, draws, chosen=chosen),
            n_incomplete=_n_incomplete(read, kept) if columns is None else None,
        ).plot(ax)

    def plot(self, ax: Panels = None, *, n_cols: int = 3) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or array of them, default=None
            Axes to divide, or one for each column; None makes a figure. Small axes are divided
            for those columns only that miss most, unless ``columns`` were asked for.
        n_cols : int, default=3
            Panels side by side.

        Returns
        -------
        display : DistributionDisplay
            Itself, with ``axes_``, ``ax_`` and ``figure_``.

        Raises
        ------
        ValueError
            If the axes cannot be divided, or are not one per column.
        ImportError
            If matplotlib is not installed.
        """
        columns, n_cols = self._with_room(ax, n_cols)
        self.axes_ = panel_axes(type(self).__name__, ax, len(columns), n_cols, _PANEL)
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        names = short_names(self.ax_, [completed.column.name for completed in columns])
        for axes, name, completed in zip(self.axes_, names, columns, strict=True):
            if completed.column.is_categorical:
                _plot_categories(axes, completed)
            else:
                _plot_numbers(axes, completed)
            missing = completed.column.missing
            set_title(axes, name, f"({missing.sum()} of {len(missing)} missing)")
            hide_frame(axes)
        n, n_incomplete = len(columns), self.n_incomplete or 0
        if n < n_incomplete:
            last = self.axes_[-1]
            say_below(last, last.get_xlabel(), f"{n} of {n_incomplete} incomplete columns shown")
        self._legend()
        return self

    def _with_room(self, ax: Panels, n_cols: int) -> tuple[list[CompletedColumn], int]:
        """Return the columns that axes to be divided have room for, and panels side by side."""
        if self.n_incomplete is None or not hasattr(ax, "get_subplotspec"):
            return self.columns, n_cols
        width, height = inches_of(cast("Axes", ax))
        n_cols = max(min(n_cols, int(width / _SMALLEST_PANEL[0])), 1)
        n = n_cols * max(int(height / _SMALLEST_PANEL[1]), 1)
        n_missing = [completed.column.missing.sum() for completed in self.columns]
        most = most_common(np.array(n_missing), n)
        return [self.columns[k] for k in most], n_cols

    def _legend(self) -> None:
        """Put a legend into the first of the panels that have most to name."""
        entries = [len(axes.get_legend_handles_labels()[1]) for axes in self.axes_]
        add_legend(self.axes_[int(np.argmax(entries))], "upper center", room=True)


def _n_incomplete(columns: list[Column], kept: list[int]) -> int:
    return sum(bool(columns[j].missing.any()) for j in kept)


def _chosen(columns: list[Column], wanted: Sequence[Hashable] | None, kept: list[int]) -> list[int]:
    """Return the positions of the columns to show."""
    n_missing = np.array([column.missing.sum() for column in columns])
    if wanted is None:
        incomplete = [j for j in kept if n_missing[j]]
        if not incomplete:
            raise ValueError("No cell of the table is missing, so nothing was imputed.")
        most = sorted(incomplete, key=lambda j: -n_missing[j])[:_MOST_PANELS]
        return sorted(most)
    names = [column.name for column in columns]
    chosen = [column_position(one, names) for one in wanted]
    if not chosen:
        raise ValueError("columns names no column to show.")
    for j in chosen:
        if not n_missing[j]:
            raise ValueError(
                f"Column {plain(names[j])} has no missing cell, so nothing was imputed."
            )
    return chosen


def _plot_numbers(ax: Axes, completed: CompletedColumn) -> None:
    column = completed.column
    observed = column.values[~column.missing]
    imputed = completed.draws[:, column.missing].ravel()
    edges = edges_of_bins(np.concatenate([observed, imputed]), column.is_whole)
    if len(observed):
        ax.hist(
            observed,
            cast(Sequence[float], edges),
            density=True,
            color=OBSERVED,
            alpha=0.45,
            label="observed",
            zorder=1,
        )
    ax.hist(
        imputed,
        cast(Sequence[float], edges),
        density=True,
        histtype="step",
        color=readable(IMPUTED, ax),
        linewidth=2,
        label="imputed",
        zorder=2,
    )
    ax.set_yticks([])
    ax.set_ylabel("density")
    set_value_axis(ax, dates=column.is_date, whole=column.is_whole, n_ticks=4)
    ax.set_xlabel(column.unit)


def _plot_categories(ax: Axes, completed: CompletedColumn) -> None:
    column, n_categories = completed.column, len(completed.column.categories)
    observed = _shares(column.values[~column.missing], n_categories)
    imputed = _shares(completed.draws[:, column.missing].ravel(), n_categories)
    shown = most_common(observed + imputed, _MOST_LEVELS)
    labels = [column.categories[k] for k in shown]
    bars = [observed[shown], imputed[shown]]
    if len(shown) < n_categories:
        labels.append(f"{n_categories - len(shown)} others")
        bars = [np.append(s[shown], s.sum() - s[shown].sum()) for s in (observed, imputed)]
    places = np.arange(len(labels))
    if (~column.missing).any():
        ax.bar(places - 0.2, bars[0], 0.4, color=OBSERVED, alpha=0.45, label="observed")
    ax.bar(
        places + 0.2,
        bars[1],
        0.4,
        facecolor="none",
        edgecolor=readable(IMPUTED, ax),
        linewidth=2,
        label="imputed",
    )
    label_places(ax, "x", places, labels)
    ax.set(xlabel="", ylabel="share")


def _shares(codes: NDArray[np.float64], n_categories: int) -> NDArray[np.float64]:
    counts = np.bincount(codes.astype(int), minlength=n_categories)
    return np.asarray(counts / max(counts.sum(), 1))
