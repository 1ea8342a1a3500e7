"""Whether imputation pays, column by column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .._checks import plain
from ._axes import (
    IMPUTED,
    add_legend,
    faint,
    hide_frame,
    ink,
    label_places,
    lines_that_fit,
    new_axes,
    readable,
    say_below,
    size_of_lines,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from .._typing import Table

__all__ = ["ExpectedErrorDisplay"]

_RIVALS = {"neighbors": ("nearest neighbors", "s"), "linear": ("linear models", "^")}
_SHARE = 0.5  # of the axes' height, at least, that the legend leaves to the columns
_MOST = 2.0  # times the error of the mean; what is beyond stands at the edge


class ExpectedErrorDisplay:
    """The expected error of each column, as a share of that of its mean.

    A point at 0.4 says that imputed values are 0.4 times as far from the truth as the column's mean
    (for categories, the most frequent one). Beside those of the imputer stand nearest neighbors and
    linear models. Distance is the continuous ranked probability score (CRPS), which for an imputer
    that gives one value is its mean absolute error. Build one with `from_estimator`.

    Parameters
    ----------
    errors : DataFrame
        What `QAVIImputer.expected_error` returns: one line for each column, with ``n_cells``,
        ``crps``, ``crps_mean``, ``crps_neighbors`` and ``crps_linear``.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the errors, after `plot`.
    figure_ : matplotlib.figure.Figure
        Figure with the axes, after `plot`.

    See Also
    --------
    CoverageDisplay : Whether intervals hold what they promise.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_qavi.plotting import ExpectedErrorDisplay
    >>> errors = pd.DataFrame(
    ...     {
    ...         "n_cells": [40, 38],
    ...         "crps": [0.2, 6.0],
    ...         "crps_mean": [0.8, 6.0],
    ...         "crps_neighbors": [0.4, 9.0],
    ...         "crps_linear": [0.6, 6.6],
    ...     },
    ...     index=["size", "age"],
    ... )
    >>> display = ExpectedErrorDisplay(errors=errors)
    >>> display.relative
          qavi  neighbors  linear
    size  0.25        0.5    0.75
    age   1.00        1.5    1.10
    """

    def __init__(self, *, errors: pd.DataFrame) -> None:
        self.errors = errors

    @property
    def relative(self) -> pd.DataFrame:
        """The CRPS of each column and imputer over that of the mean.

        Columns without a hidden cell, and those whose mean is always right, are left out.
        """
        mean = self.errors["crps_mean"]
        scored = (self.errors["n_cells"] > 0) & (mean > 0)
        names = {"crps": "qavi"} | {f"crps_{rival}": rival for rival in _RIVALS}
        kept = self.errors.loc[scored, list(names)].astype(float)
        return kept.div(mean[scored], axis=0).rename(columns=names)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Table | None = None,
        *,
        max_columns: int = 30,
        ax: Axes | None = None,
    ) -> Self:
        """Estimate the errors of an imputer and plot them.

        Parameters
        ----------
        estimator : QAVIImputer
            Fitted imputer.
        X : array-like or dataframe of shape (n_rows, n_features), default=None
            Rows that `fit` did not see, whose observed cells are hidden and inferred. None takes
            the rows that training was validated on, see `QAVIImputer.expected_error`.
        max_columns : int, default=30
            How many columns to show at most, see `plot`.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : ExpectedErrorDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If no row has two observed cells, or no column has an error to compare with.
        ImportError
            If matplotlib is not installed.
        """
        return cls(errors=estimator.expected_error(X)).plot(ax=ax, max_columns=max_columns)

    def plot(self, ax: Axes | None = None, *, max_columns: int = 30) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure that grows with the columns.
        max_columns : int, default=30
            How many columns to show at most: those of the lowest and of the highest errors.

        Returns
        -------
        display : ExpectedErrorDisplay
            Itself, with ``ax_`` and ``figure_``.

        Raises
        ------
        ValueError
            If max_columns is less than 2, or no column has an error to compare with.
        ImportError
            If matplotlib is not installed.
        """
        if max_columns < 2:
            raise ValueError(f"max_columns must be at least 2, got {plain(max_columns)}.")
        relative = self.relative.sort_values("qavi", kind="stable")
        if relative.empty:
            raise ValueError(
                "No column has an error to compare with: none was hidden, or their means are "
                "always right."
            )
        n_all = len(relative)
        if ax is None:
            n_lines = min(max_columns, n_all)
            ax = new_axes(type(self).__name__, (6.4, 1.8 + 0.26 * n_lines))
        self.ax_, self.figure_ = ax, ax.figure
        n_shown = min(max_columns, n_all, max(lines_that_fit(ax, "y", _SHARE), 2))
        n_lowest = -(-n_shown // 2)
        shown = relative.iloc[[*range(n_lowest), *range(n_all - (n_shown - n_lowest), n_all)]]
        self._plot_lines(shown)
        add_legend(ax, "upper left", room=True)
        said = f"{n_shown} of {n_all} columns shown, of lowest and highest errors"
        say_below(ax, "error (CRPS) over that of the mean", said if n_shown < n_all else "")
        return self

    def _plot_lines(self, shown: pd.DataFrame) -> None:
        ax, places = self.ax_, np.arange(len(shown))[::-1]  # the lowest error on top
        beyond = bool((shown > _MOST).any(axis=None))
        drawn = shown.clip(upper=_MOST)
        stem = readable(faint(ax, 0.3), ax)
        ax.hlines(places, 0.0, drawn["qavi"], color=stem, linewidth=0.6, zorder=1)
        ends = [-0.5, len(shown) - 0.5]
        ax.plot([1.0, 1.0], ends, color=ink(ax), linewidth=1.0, linestyle=":", label="mean")
        size = size_of_lines(ax, "y", len(shown), _SHARE)
        for rival, (label, marker) in _RIVALS.items():
            style: dict[str, Any] = {"color": faint(ax, 0.6), "markersize": 0.4 * size}
            ax.plot(drawn[rival], places, marker, label=label, **style)
        color = readable(IMPUTED, ax)
        ax.plot(drawn["qavi"], places, "o", color=color, markersize=0.6 * size, label="imputer")
        ax.set_xlim(0.0, max(1.1, 1.05 * float(drawn.max(axis=None))))
        ax.set_ylim(-0.7, len(shown) - 0.3)
        label_places(ax, "y", places, list(shown.index), share=_SHARE)
        if beyond:
            ticks = [0.0, 0.5, 1.0, 1.5, _MOST]
            ax.set_xticks(ticks, [*(f"{tick:g}" for tick in ticks[:-1]), f"≥{_MOST:g}"])
        ax.tick_params(axis="y", length=0)
        hide_frame(ax, ("top", "right", "left"))
