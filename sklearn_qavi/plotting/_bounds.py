"""How the bound of each row rose while its posterior was fitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from .._checks import plain
from .._typing import Table
from ._axes import (
    add_legend,
    faint,
    hide_frame,
    new_axes,
    readable,
    say_below,
    say_beside,
    set_title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BoundTraceDisplay"]

Array = NDArray[np.float64]

_WIDE = 2.0  # nats
_MOST_LABELLED = 10  # rows that get a colour and a name of their own


class BoundTraceDisplay:
    """The bound of each row after each step of its inference.

    A row that still climbs at its end needs more steps (``max_iter``); one that has been flat for
    long took more than it needed (``tol``). Build one with `from_estimator`, or with
    `from_inference` from what ``infer(X, trace=True)`` returned.

    Parameters
    ----------
    bounds : ndarray of shape (n_rows, T)
        Bound in nats, NaN after a row's last step.
    steps : ndarray of int of shape (T,)
        Steps after which they were taken.
    rows : ndarray of int of shape (n_rows,)
        Positions of the rows.
    converged : ndarray of bool of shape (n_rows,)
        Whether each row stopped by itself.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the picture, after `plot`.
    figure_ : matplotlib.figure.Figure
        Figure with the axes, after `plot`.

    See Also
    --------
    sklearn_qavi.inference.fit_posterior : What climbs.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_qavi.plotting import BoundTraceDisplay
    >>> bounds = np.array([[-9.0, -4.0, -3.9], [-5.0, -4.5, np.nan]])
    >>> display = BoundTraceDisplay(
    ...     bounds=bounds, steps=np.arange(1, 4), rows=np.array([7, 8]), converged=np.array([1, 1])
    ... )
    >>> [line.get_label() for line in display.plot().ax_.lines]
    ['row 7', 'row 8']
    """

    def __init__(
        self,
        *,
        bounds: Array,
        steps: NDArray[np.intp],
        rows: NDArray[np.intp],
        converged: NDArray[np.bool_],
    ) -> None:
        self.bounds = bounds
        self.steps = steps
        self.rows = rows
        self.converged = converged

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: Table,
        *,
        rows: Sequence[int] | None = None,
        decoder: int = 0,
        ax: Axes | None = None,
    ) -> Self:
        """Infer a table once more, with traces, and plot them.

        Parameters
        ----------
        estimator : fitted QAVIImputer
            Its inference has to climb a bound: "gaussian", "mixture", "flow" or "feature".
        X : array-like or dataframe of shape (n_rows, n_features)
            Table with missing cells.
        rows : list of int, default=None
            Positions of the rows to show; None shows all.
        decoder : int, default=0
            Which of the model's decoders; each has a bound of its own.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : BoundTraceDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If the inference climbs no bound, or rows or decoder are not there.
        ImportError
            If matplotlib is not installed.
        """
        return cls.from_inference(estimator.infer(X, trace=True), rows=rows, decoder=decoder, ax=ax)

    @classmethod
    def from_inference(
        cls,
        pooled: object,
        *,
        rows: Sequence[int] | None = None,
        decoder: int = 0,
        ax: Axes | None = None,
    ) -> Self:
        """Plot the traces that an inference has kept.

        Parameters
        ----------
        pooled : PooledPosterior or InferenceResult
            What ``infer(X, trace=True)`` or ``fit_posterior(..., trace=True)`` returned.
        rows : list of int, default=None
            Positions of the rows to show; None shows all.
        decoder : int, default=0
            Which of the model's decoders; each has a bound of its own.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : BoundTraceDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If no trace was kept, or rows or decoder are not there.
        ImportError
            If matplotlib is not installed.
        """
        members = getattr(pooled, "results", [pooled])
        if not 0 <= decoder < len(members):
            raise ValueError(f"decoder must be from 0 to {len(members) - 1}, got {plain(decoder)}.")
        result = members[decoder]
        if result.trace is None:
            raise ValueError("No trace was kept; pass trace=True to infer or fit_posterior.")
        bounds, n_iter, converged = (
            np.asarray(values.cpu()) for values in (result.trace, result.n_iter, result.converged)
        )
        n_kept = (~np.isnan(bounds)).sum(axis=1)
        if not n_kept.any():
            raise ValueError("No row took a step, so there is no trace to show.")
        longest = n_kept.argmax()
        steps = np.arange(1, bounds.shape[1] + 1) * (n_iter[longest] // n_kept[longest])
        chosen = _checked_rows(rows, len(bounds))
        return cls(
            bounds=bounds[chosen].astype(np.float64),
            steps=steps,
            rows=chosen,
            converged=converged[chosen],
        ).plot(ax=ax)

    def plot(self, ax: Axes | None = None, *, relative: bool = True) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.
        relative : bool, default=True
            Whether to plot what each row still had to gain, so that rows can be compared, or the
            bounds themselves.

        Returns
        -------
        display : BoundTraceDisplay
            Itself, with ``ax_`` and ``figure_``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        self.ax_ = new_axes(type(self).__name__, (6.5, 3.6)) if ax is None else ax
        self.figure_ = self.ax_.figure
        named = len(self.rows) <= _MOST_LABELLED
        for k, bounds in enumerate(self.bounds):
            kept = ~np.isnan(bounds)
            if not kept.any():
                continue
            values = bounds[kept] - (bounds[kept][-1] if relative else 0.0)
            style = {"label": f"row {self.rows[k]}"} if named else {"alpha": 0.25}
            color = readable(f"C{k % 10}" if named else "C0", self.ax_)
            self.ax_.plot(self.steps[kept], values, linewidth=1.2, color=color, **style)
            marker: dict[str, Any] = {"color": color, "clip_on": False, "zorder": 3}
            if not self.converged[k]:
                self.ax_.scatter(self.steps[kept][-1], values[-1], marker="x", **marker)
        self._label(named, relative)
        return self

    def _label(self, named: bool, relative: bool) -> None:
        ax = self.ax_
        n_unseen = int(np.isnan(self.bounds).all(axis=1).sum())
        note = f"{n_unseen} of {len(self.rows)} rows took no step and are not shown"
        say_below(ax, "steps", note if n_unseen else "")
        ax.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
        ax.grid(axis="y", color=faint(ax), linewidth=0.8)
        if relative:
            if np.ptp(ax.get_ylim()) > _WIDE:  # first steps gain nats, last ones hundredths
                ax.set_yscale("symlog", linthresh=0.1)
            say_beside(ax, "bound less its last value (nats)")
        else:
            ax.set_ylabel("bound (nats)")
        n_left = int((~np.asarray(self.converged, dtype=bool)).sum())
        note = f"{n_left} not converged (crosses)" if n_left else ""
        set_title(ax, f"{len(self.rows)} rows{',' if note else ''}", note)
        hide_frame(ax)
        if named:
            add_legend(ax)


def _checked_rows(rows: Sequence[int] | None, n: int) -> NDArray[np.intp]:
    if rows is None:
        return np.arange(n)
    chosen = np.asarray(rows)
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or len(chosen) == 0:
        raise ValueError(f"rows must be a list of positions, got {plain(rows)}.")
    if (chosen < 0).any() or (chosen >= n).any():
        raise ValueError(f"rows must be positions from 0 to {n - 1}, got {plain(rows)}.")
    return chosen.astype(np.intp)
