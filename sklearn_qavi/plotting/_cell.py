"""What may be in one missing cell."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Self, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from .._checks import plain
from .._typing import Array as AnyArray
from .._typing import Table
from ._axes import (
    IMPUTED,
    TRUTH,
    add_legend,
    figures_that_fit,
    hide_frame,
    ink,
    label_places,
    most_common,
    new_axes,
    readable,
    set_title,
    set_value_axis,
    short_names,
)
from ._columns import COLUMNS, Column
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

__all__ = ["CellDisplay"]

Array = NDArray[np.float64]

_ATOM = 0.02  # share of the draws that makes a repeated value a point mass
_MOST_WHOLE = 40  # whole numbers that get a bar each
_MOST_LEVELS = 12
_TICKS = 100  # draws that are shown one by one
_GRID = 400


class CellDisplay:
    """Draws of one missing cell, their density and interval, and the truth if it is known.

    Numbers and times have a density (a kernel estimate over the draws, which stays within their
    range), with a bar at each value that is drawn again and again; whole numbers and categories
    have their probabilities. Build one with `from_estimator` or `from_draws`.

    Parameters
    ----------
    draws : ndarray of shape (n,)
        Draws of the cell: numbers, codes of categories, or days of times.
    kind : {"numbers", "categories", "dates", "durations"}
        What the column holds.
    name : str
        Name of the column.
    row : int
        Position of the row.
    categories : tuple, default=()
        The category of each code.
    whole : bool, default=False
        Whether the column holds whole numbers.
    truth : float, default=None
        The true value, as the draws; None if unknown.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the picture, after `plot`.
    figure_ : matplotlib.figure.Figure
        Figure with the axes, after `plot`.

    See Also
    --------
    DrawsDisplay : Many cells at once, against their truth.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_qavi.plotting import CellDisplay
    >>> X = np.array([[1.0, 5.0], [2.0, np.nan]])
    >>> draws = np.tile(X, (200, 1, 1))
    >>> draws[:, 1, 1] = np.random.default_rng(0).normal(6.0, 0.5, size=200)
    >>> display = CellDisplay.from_draws(X, draws, row=1, column="x1", truth=6.2)
    >>> display.ax_.get_xlabel()
    'x1'
    """

    def __init__(
        self,
        *,
        draws: Array,
        kind: str,
        name: str,
        row: int,
        categories: tuple[Hashable, ...] = (),
        whole: bool = False,
        truth: float | None = None,
    ) -> None:
        self.draws = draws
        self.kind = kind
        self.name = name
        self.row = row
        self.categories = categories
        self.whole = whole
        self.truth = truth

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: Table,
        *,
        row: int,
        column: Hashable,
        truth: Table | None = None,
        n_draws: int = 1000,
        feature_names: Sequence[str] | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw a cell and plot.

        Parameters
        ----------
        estimator : fitted imputer
            With ``sample``, as `QAVIImputer`.
        X : array-like or dataframe of shape (n_rows, n_features)
            Table with missing cells. Only the one row is completed.
        row : int
            Position of the row.
        column : str or int
            Name or position of the column.
        truth : object, default=None
            The true value, in original units, if known.
        n_draws : int, default=1000
            How many draws to take; they are those of ``estimator.sample(X, n=n_draws)``.
        feature_names : sequence of str, default=None
            Names of the columns. None takes those of ``X`` if it is a dataframe, otherwise
            x0, x1, ...
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : CellDisplay
            The display, plotted.

        Raises
        ------
        TypeError
            If the imputer has no ``sample``.
        ValueError
            If the cell is not there or not missing, or its column cannot be plotted.
        ImportError
            If matplotlib is not installed.
        """
        if not hasattr(estimator, "sample"):
            raise TypeError(
                f"{type(estimator).__name__} has no sample, so a cell has no distribution to show."
            )
        read = read_columns(
            X,
            missing_values=missing_values_of(estimator),
            feature_names=feature_names,
            estimator=estimator,
        )
        j = _checked_cell(read, row, column)
        one_row = X.iloc[[row]] if hasattr(X, "iloc") else cast(AnyArray, X)[row : row + 1]
        _, positions = completed_tables(estimator, one_row, 0)
        draws = estimator.sample(one_row, n=n_draws, row_offset=row)
        # the row alone, with the kinds and categories of the whole columns
        (completed,) = read_completed(
            [one.at(row) for one in read], draws, positions=positions, chosen=[j]
        )
        return cls._of(completed, 0, row, read[j].is_whole, truth).plot(ax=ax)

    @classmethod
    def from_draws(
        cls,
        X: Table,
        draws: Iterable[Table],
        *,
        row: int,
        column: Hashable,
        truth: Table | None = None,
        missing_values: object = np.nan,
        feature_names: Sequence[str] | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Plot a cell of completed tables.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_rows, n_features)
            Table with missing cells.
        draws : array-like of shape (n, n_rows, n_features) or iterable of tables
            Completed versions of it, at least two.
        row : int
            Position of the row.
        column : str or int
            Name or position of the column.
        truth : object, default=None
            The true value, in original units, if known.
        missing_values : int, float, str or np.nan, default=np.nan
            What marks a missing cell besides NaN and None.
        feature_names : sequence of str, default=None
            Names of the columns. None takes those of ``X`` if it is a dataframe, otherwise
            x0, x1, ...
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : CellDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If shapes differ, the cell is not there or not missing, or its column cannot be plotted.
        ImportError
            If matplotlib is not installed.
        """
        read = read_columns(X, missing_values=missing_values, feature_names=feature_names)
        j = _checked_cell(read, row, column)
        (completed,) = read_completed(read, draws, chosen=[j])
        return cls._of(completed, row, row, read[j].is_whole, truth).plot(ax=ax)

    @classmethod
    def _of(
        cls, completed: CompletedColumn, place: int, row: int, whole: bool, truth: Table
    ) -> Self:
        column = completed.column
        return cls(
            draws=completed.draws[:, place],
            kind=column.kind,
            name=column.name,
            row=row,
            categories=column.categories,
            whole=whole,
            truth=None if truth is None else _truth_in(column, truth),
        )

    def plot(self, ax: Axes | None = None, *, level: float = 0.9) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.
        level : float, default=0.9
            Mass of the central interval of the draws, between 0 and 1.

        Returns
        -------
        display : CellDisplay
            Itself, with ``ax_`` and ``figure_``.

        Raises
        ------
        ValueError
            If level is not between 0 and 1, ``kind`` is not as described, or there are less than
            two draws.
        ImportError
            If matplotlib is not installed.
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"level must be between 0 and 1, got {plain(level)}; 0.9 means 90%.")
        if len(self.draws) < 2:
            raise ValueError(f"At least two draws are needed, got {len(self.draws)}.")
        self.ax_ = new_axes(type(self).__name__, (6.0, 3.2)) if ax is None else ax
        self.figure_ = self.ax_.figure
        if self._column.is_categorical:
            self._plot_categories()
        else:
            self._plot_numbers(level)
        (name,) = short_names(self.ax_, [self.name])
        set_title(self.ax_, name, f"in row {self.row}, {len(self.draws)} draws")
        unit = self._column.unit
        self.ax_.set_xlabel(f"{name} ({unit})" if unit else name)
        hide_frame(self.ax_)
        add_legend(self.ax_, "upper center", room=True)
        return self

    @property
    def _column(self) -> type[Column]:
        if self.kind not in COLUMNS:
            raise ValueError(f"kind must be one of {list(COLUMNS)}, got {plain(self.kind)}.")
        return COLUMNS[self.kind]

    def _plot_categories(self) -> None:
        share = np.bincount(self.draws.astype(int), minlength=len(self.categories)) / len(
            self.draws
        )
        weight = share.copy()
        if self.truth is not None:
            weight[int(self.truth)] += 1.0  # it is shown however unlikely
        shown = most_common(weight, _MOST_LEVELS)
        labels = [self.categories[k] for k in shown]
        bars = share[shown]
        if len(shown) < len(share):
            labels.append(f"{len(share) - len(shown)} others")
            bars = np.append(bars, 1.0 - bars.sum())
        places = np.arange(len(labels))
        drawn = self.ax_.bar(places, bars, 0.7, color=IMPUTED, alpha=0.6, label="probability")
        if len(bars) <= figures_that_fit(self.ax_, len("0.00")):
            self.ax_.bar_label(drawn, [f"{bar:.2f}" for bar in bars], padding=2, fontsize="small")
        if self.truth is not None:
            place = int(np.flatnonzero(shown == int(self.truth))[0])
            color = readable(TRUTH, self.ax_)
            self.ax_.plot(place, 0.0, "D", color=color, label="truth", clip_on=False, zorder=4)
        label_places(self.ax_, "x", places, labels)
        self.ax_.set(
            ylabel="probability",
            ylim=(0.0, bars.max() * 1.15),
        )

    def _plot_numbers(self, level: float) -> None:
        values, ax = self.draws, self.ax_
        if self._has_bars:
            numbers, counts = np.unique(values, return_counts=True)
            ax.bar(
                numbers, counts / len(values), 0.8, color=IMPUTED, alpha=0.6, label="probability"
            )
        else:
            self._plot_density()
        lower, upper = np.quantile(
            values, [(1 - level) / 2, (1 + level) / 2], method="weibull"
        )  # the ranks that sklearn_qavi.metrics.interval_coverage takes
        height = ax.get_ylim()[1]
        ax.hlines(
            -0.05 * height,
            lower,
            upper,
            color=ink(ax),
            linewidth=3,
            label=f"{100 * level:g}% interval",
        )
        ticks = values[:_TICKS]
        ax.plot(
            ticks,
            np.full(len(ticks), -0.12 * height),
            "|",
            color=readable(IMPUTED, ax),
            alpha=0.5,
            label="draws" if len(ticks) == len(values) else f"{_TICKS} of {len(values)} draws",
        )
        if self.truth is not None:
            ax.axvline(self.truth, color=readable(TRUTH, ax), linewidth=1.5, label="truth")
        ax.set_ylim(-0.18 * height, height)
        set_value_axis(ax, dates=self._column.is_date, whole=self.whole)
        if self._has_bars:
            ax.set_yticks([tick for tick in ax.get_yticks() if 0 <= tick <= height])
            ax.set_ylabel("probability")
        else:  # the height of a density depends on the unit and says nothing by itself
            ax.set_yticks([])
            ax.set_ylabel("density")

    @property
    def _has_bars(self) -> bool:
        """Return whether each value that was drawn gets a bar."""
        return self.whole and bool(np.ptp(self.draws) < _MOST_WHOLE)

    def _plot_density(self) -> None:
        numbers, counts = np.unique(self.draws, return_counts=True)
        is_atom = (counts > 1) & (counts >= _ATOM * len(self.draws))
        if self.whole:  # many whole numbers: their repetitions are no point masses
            is_atom[:] = False
        spread = self.draws[~np.isin(self.draws, numbers[is_atom])]
        top = 0.0
        if len(np.unique(spread)) > 1:
            grid, density = smooth_density(spread)
            density *= len(spread) / len(self.draws)
            self.ax_.fill_between(
                grid, density, color=IMPUTED, alpha=0.4, linewidth=0, label="density"
            )
            top = float(density.max())
        atoms, mass = numbers[is_atom], counts[is_atom] / len(self.draws)
        if len(atoms):
            # a point mass has no density: its bar is as high as its share of the axis
            scale = top / (1.0 - mass.sum()) if top else 1.0
            self.ax_.vlines(
                atoms,
                0.0,
                mass * scale,
                color=readable(IMPUTED, self.ax_),
                linewidth=4,
                label="repeated values",
            )
            self._name_atoms(atoms, mass, scale)
            top = max(top, float((mass * scale).max()))
        self.ax_.set_ylim(0.0, 1.15 * top)

    def _name_atoms(self, atoms: Array, mass: Array, scale: float) -> None:
        """Write the shares of the heaviest point masses that have room for it."""
        apart = np.ptp(self.draws) / max(figures_that_fit(self.ax_, len("100% ")), 1)
        named: list[float] = []
        for k in np.argsort(-mass, kind="stable"):
            if all(abs(atoms[k] - other) >= apart for other in named):
                named.append(atoms[k])
                at = (atoms[k], mass[k] * scale)
                self.ax_.annotate(f"{100 * mass[k]:.0f}%", at, ha="center", va="bottom")


def smooth_density(values: Array) -> tuple[Array, Array]:
    """Return a grid over the range of values and their kernel density there.

    What the kernels put beyond the range is reflected into it, so that the density ends where the
    values do and its area is 1.
    """
    from scipy.stats import gaussian_kde

    low, high = values.min(), values.max()
    kde = gaussian_kde(values)
    grid = np.linspace(low, high, _GRID)
    return grid, kde(grid) + kde(2 * low - grid) + kde(2 * high - grid)


def _checked_cell(columns: list[Column], row: int, column: Hashable) -> int:
    """Return the position of the column, if the cell is missing."""
    names = [one.name for one in columns]
    j = column_position(column, names)
    n = len(columns[j].values)
    if isinstance(row, bool) or not isinstance(row, int | np.integer) or not 0 <= row < n:
        raise ValueError(f"row must be a position from 0 to {n - 1}, got {plain(row)}.")
    if not columns[j].missing[row]:
        rows = np.flatnonzero(columns[j].missing)[:5].tolist()
        raise ValueError(
            f"Column {plain(names[j])} is observed in row {row}, so nothing is drawn there. Its "
            f"first missing cells are in rows {rows}."
        )
    return j


def _truth_in(column: Column, truth: Table) -> float:
    """Return a true value in the numbers or codes of a column."""
    if column.is_categorical:
        if truth not in column.categories:
            raise ValueError(
                f"truth {plain(truth)} is none of the categories of column {plain(column.name)}, "
                f"{plain(list(column.categories)[:10])}."
            )
        return float(column.categories.index(truth))
    table = np.empty((1, 1), dtype=object)
    table[0, 0] = truth
    (read,) = read_columns(table, name="truth")
    if type(read) is not type(column):
        raise ValueError(
            f"Column {plain(column.name)} holds {column.kind}, but truth is {plain(truth)}."
        )
    return float(read.values[0])
