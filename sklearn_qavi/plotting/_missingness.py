"""Which cells are missing together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from .._checks import plain
from .._typing import Table
from ._axes import (
    IMPUTED,
    faint,
    figures_that_fit,
    hide_frame,
    label_places,
    lines_that_fit,
    new_axes,
    say_below,
    size_of_lines,
)
from ._tables import read_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MissingnessDisplay"]


class MissingnessDisplay:
    """Patterns of missing cells: which columns are missing together, and how often.

    Each line is a pattern, with the number of rows that have it; the bars on top are the share of
    missing cells in each column. Build one with `from_table`.

    Parameters
    ----------
    patterns : ndarray of bool of shape (n_patterns, n_features)
        Distinct patterns, True where missing, the most frequent first.
    counts : ndarray of int of shape (n_patterns,)
        Rows that have each pattern.
    feature_names : sequence of str
        Names of the columns.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the patterns, after `plot`.
    count_ax_, share_ax_ : matplotlib.axes.Axes
        Axes with the rows of each pattern and the shares of each column, after `plot`.
    figure_ : matplotlib.figure.Figure
        Figure with the axes, after `plot`.

    See Also
    --------
    DistributionDisplay : What an imputer puts into the missing cells.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_qavi.plotting import MissingnessDisplay
    >>> X = [[1.0, np.nan, 3.0], [4.0, 5.0, 6.0], [7.0, np.nan, 9.0]]
    >>> display = MissingnessDisplay.from_table(X)
    >>> display.counts
    array([2, 1])
    >>> display.share_missing.round(2)
    array([0.  , 0.67, 0.  ])
    """

    def __init__(
        self,
        *,
        patterns: NDArray[np.bool_],
        counts: NDArray[np.intp],
        feature_names: Sequence[str],
    ) -> None:
        self.patterns = patterns
        self.counts = counts
        self.feature_names = feature_names

    @property
    def share_missing(self) -> NDArray[np.float64]:
        """Share of missing cells in each column, (n_features,)."""
        return np.asarray(self.counts @ self.patterns / self.counts.sum())

    @classmethod
    def from_table(
        cls,
        X: Table,
        *,
        missing_values: object = np.nan,
        feature_names: Sequence[str] | None = None,
        max_patterns: int = 20,
        ax: Axes | None = None,
    ) -> Self:
        """Count the patterns of a table and plot them.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_rows, n_features)
            Table with missing cells; columns of any type.
        missing_values : int, float, str or np.nan, default=np.nan
            What marks a missing cell besides NaN and None.
        feature_names : sequence of str, default=None
            Names of the columns. None takes those of ``X`` if it is a dataframe, otherwise
            x0, x1, ...
        max_patterns : int, default=20
            How many patterns to show at most, see `plot`.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : MissingnessDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If the table is empty, or has not as many columns as names.
        ImportError
            If matplotlib is not installed.
        """
        columns = read_columns(X, missing_values=missing_values, feature_names=feature_names)
        missing = np.stack([column.missing for column in columns], axis=1)
        patterns, counts = np.unique(missing, axis=0, return_counts=True)
        # the most frequent first, of those the ones with fewer missing cells
        order = np.lexsort((patterns.sum(axis=1), -counts))
        return cls(
            patterns=patterns[order],
            counts=counts[order],
            feature_names=[column.name for column in columns],
        ).plot(ax=ax, max_patterns=max_patterns)

    def plot(self, ax: Axes | None = None, *, max_patterns: int = 20) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure that grows with columns and patterns.
        max_patterns : int, default=20
            How many patterns to show at most; a line below counts the rarer ones.

        Returns
        -------
        display : MissingnessDisplay
            Itself, with ``ax_``, ``count_ax_``, ``share_ax_`` and ``figure_``.

        Raises
        ------
        ValueError
            If max_patterns is less than 1.
        ImportError
            If matplotlib is not installed.
        """
        if max_patterns < 1:
            raise ValueError(f"max_patterns must be at least 1, got {plain(max_patterns)}.")
        n_shown = min(max_patterns, len(self.counts))
        n_columns = len(self.feature_names)
        if ax is None:
            width = float(np.clip(2.0 + 0.5 * n_columns, 4.5, 14.0))
            ax = new_axes(type(self).__name__, (width, 2.6 + 0.28 * n_shown))
        self.ax_, self.figure_ = ax, ax.figure
        box, inch = ax.get_window_extent(), self.figure_.dpi
        # the shares of the axes that the bars beside and above the patterns do not take
        wide = 1.0 - min(1.0 * inch / box.width, 0.3)
        high = 1.0 - min(0.9 * inch / box.height, 0.35)
        n_shown = min(n_shown, lines_that_fit(ax, "y", 0.8 * high))
        columns = self._columns_that_fit(lines_that_fit(ax, "x", 0.9 * wide))
        self._plot_patterns(n_shown, columns, wide, high)
        self._plot_counts(n_shown, wide, high)
        self._plot_shares(columns, wide, high)
        return self

    def _columns_that_fit(self, n: int) -> NDArray[np.intp]:
        """Return the positions of the columns that miss most, in their order."""
        return np.sort(np.argsort(-self.share_missing, kind="stable")[:n])

    def _plot_patterns(
        self, n_shown: int, columns: NDArray[np.intp], wide: float, high: float
    ) -> None:
        from matplotlib.colors import ListedColormap

        ax, n_columns = self.ax_, len(columns)
        ax.pcolormesh(
            self.patterns[:n_shown, columns].astype(int),
            cmap=ListedColormap([faint(ax, 0.12), IMPUTED]),
            vmin=0,
            vmax=1,
            edgecolors=ax.get_facecolor(),
            linewidth=1,
        )
        ax.set_xlim(0, n_columns / wide)
        ax.set_ylim(n_shown, n_shown - n_shown / high)  # the most frequent on top
        names = [self.feature_names[j] for j in columns]
        label_places(ax, "x", np.arange(n_columns) + 0.5, names, share=0.9 * wide)
        ax.set_yticks([])
        ax.tick_params(length=0)
        hide_frame(ax, ("top", "right", "left", "bottom"))
        ax.set_ylabel("patterns", y=high / 2)
        n_rare, n_all = len(self.counts) - n_shown, len(self.feature_names)
        rows = int(self.counts[n_shown:].sum())
        say_below(
            ax,
            f"{n_columns} of {n_all} columns shown" if n_columns < n_all else "",
            f"{n_rare} rarer patterns, in {rows} rows, are not shown" if n_rare else "",
        )

    def _plot_counts(self, n_shown: int, wide: float, high: float) -> None:
        ax = self.ax_.inset_axes((wide + 0.02, 0.0, 0.98 - wide, high))
        counts = self.counts[:n_shown]
        places = np.arange(n_shown) + 0.5
        bars = ax.barh(places, counts, height=0.7, color=faint(self.ax_, 0.4))
        size = min(size_of_lines(self.ax_, "y", n_shown, 0.8 * high), 8.0)
        ax.bar_label(bars, [str(n) for n in counts], padding=2, fontsize=size)
        ax.set_xlim(0, counts.max() * 2.0)  # room for the figures
        ax.set_ylim(n_shown, 0)
        ax.set_title("rows", fontsize="small")
        ax.set_xticks([])
        ax.tick_params(left=False, labelleft=False)
        hide_frame(ax, ("top", "right", "bottom"))
        self.count_ax_ = ax

    def _plot_shares(self, columns: NDArray[np.intp], wide: float, high: float) -> None:
        ax = self.ax_.inset_axes((0.0, high + 0.03, wide, 0.97 - high))
        share = self.share_missing[columns]
        places = np.arange(len(share)) + 0.5
        bars = ax.bar(places, share, width=0.7, color=IMPUTED)
        if len(share) <= figures_that_fit(self.ax_, len("100%"), wide):
            labels = [f"{100 * s:.0f}%" if s else "" for s in share]
            ax.bar_label(bars, labels, padding=1, fontsize="small")
        ax.set_xlim(0, len(share))
        ax.set_ylim(0, max(share.max() * 1.4, 0.01))
        ax.set_title("missing", loc="left", fontsize="small")
        ax.set_yticks([])
        ax.tick_params(bottom=False, labelbottom=False)
        hide_frame(ax, ("top", "right", "left"))
        self.share_ax_ = ax
