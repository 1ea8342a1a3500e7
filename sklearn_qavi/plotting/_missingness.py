"""Which cells are missing together."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .._checks import plain
from ._axes import IMPUTED, hide_frame, new_axes, shorten
from ._tables import read_columns

__all__ = ["MissingnessDisplay"]

_FEW_COLUMNS = 20  # that still have room for their shares in figures


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
        return self.counts @ self.patterns / self.counts.sum()

    @classmethod
    def from_table(
        cls,
        X: Any,
        *,
        missing_values: Any = np.nan,
        feature_names: Sequence[str] | None = None,
        max_patterns: int = 20,
        ax: Any = None,
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
        # the most frequent first, of those the ones with fewer holes
        order = np.lexsort((patterns.sum(axis=1), -counts))
        return cls(
            patterns=patterns[order],
            counts=counts[order],
            feature_names=[column.name for column in columns],
        ).plot(ax=ax, max_patterns=max_patterns)

    def plot(self, ax: Any = None, *, max_patterns: int = 20) -> Self:
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
        self._plot_patterns(n_shown)
        box = ax.get_window_extent()
        inch = self.figure_.dpi
        self._plot_counts(n_shown, 1.1 * inch / box.width)
        self._plot_shares(0.9 * inch / box.height)
        return self

    def _plot_patterns(self, n_shown: int) -> None:
        from matplotlib.colors import ListedColormap

        self.ax_.pcolormesh(
            self.patterns[:n_shown].astype(int),
            cmap=ListedColormap(["#dfe8f0", IMPUTED]),
            vmin=0,
            vmax=1,
            edgecolors="white",
            linewidth=1,
        )
        names = [shorten(name) for name in self.feature_names]
        self.ax_.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90)
        self.ax_.set_yticks([])
        self.ax_.tick_params(length=0)
        self.ax_.invert_yaxis()  # the most frequent on top
        hide_frame(self.ax_, ("top", "right", "left", "bottom"))
        self.ax_.set_ylabel("patterns")
        n_rare = len(self.counts) - n_shown
        if n_rare:
            rows = int(self.counts[n_shown:].sum())
            self.ax_.set_xlabel(f"{n_rare} rarer patterns, in {rows} rows, are not shown")

    def _plot_counts(self, n_shown: int, width: float) -> None:
        ax = self.ax_.inset_axes((1.02, 0.0, min(width, 0.6), 1.0), sharey=self.ax_)
        counts = self.counts[:n_shown]
        places = np.arange(n_shown) + 0.5
        bars = ax.barh(places, counts, height=0.7, color="0.6")
        ax.bar_label(bars, [str(n) for n in counts], padding=2, fontsize="small")
        ax.set_xlim(0, counts.max() * 1.6)  # room for the figures
        ax.set_title("rows", fontsize="medium")
        ax.set_xticks([])
        ax.tick_params(left=False, labelleft=False)
        hide_frame(ax, ("top", "right", "bottom"))
        self.count_ax_ = ax

    def _plot_shares(self, height: float) -> None:
        ax = self.ax_.inset_axes((0.0, 1.03, 1.0, min(height, 0.8)), sharex=self.ax_)
        share = self.share_missing
        places = np.arange(len(share)) + 0.5
        bars = ax.bar(places, share, width=0.7, color=IMPUTED)
        if len(share) <= _FEW_COLUMNS:
            labels = [f"{100 * s:.0f}%" if s else "" for s in share]
            ax.bar_label(bars, labels, padding=1, fontsize="small")
        ax.set_ylim(0, max(share.max() * 1.3, 0.01))
        ax.set_ylabel("missing", rotation=0, ha="right", va="center")
        ax.set_yticks([])
        ax.tick_params(bottom=False, labelbottom=False)
        hide_frame(ax, ("top", "right", "left"))
        self.share_ax_ = ax
