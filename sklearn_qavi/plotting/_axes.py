"""What the displays share: axes, colours, axes of time, shares of levels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "IMPUTED",
    "OBSERVED",
    "TRUTH",
    "edges_of_bins",
    "hide_frame",
    "most_common",
    "new_axes",
    "panel_axes",
    "set_value_axis",
    "shorten",
]

OBSERVED, IMPUTED, TRUTH = "C0", "C1", "C3"  # blue, orange, red: told apart by the colour-blind
_MAX_WHOLE_BINS = 40
_LONGEST_LABEL = 18


def new_axes(owner: str, size: tuple[float, float]) -> Any:
    """Return axes in a figure of their own, sized in inches."""
    _, ax = _pyplot(owner).subplots(figsize=size, layout="constrained")
    return ax


def panel_axes(owner: str, ax: Any, n: int, n_cols: int, size: tuple[float, float]) -> list[Any]:
    """Return n axes in rows of ``n_cols``.

    ``ax`` None makes a figure with panels of this size in inches, axes are divided, and an array
    of n axes is taken as it is.
    """
    n_cols = min(n_cols, n)
    shape = (-(-n // n_cols), n_cols)
    if ax is None:
        figure = _pyplot(owner).figure(
            figsize=(size[0] * shape[1], size[1] * shape[0] + 0.4), layout="constrained"
        )
        grid = figure.add_gridspec(*shape)
    elif isinstance(ax, np.ndarray | list | tuple):
        axes = list(np.ravel(np.asarray(ax, dtype=object)))
        if len(axes) != n:
            raise ValueError(f"Expected {n} axes, one a column, got {len(axes)}.")
        return axes
    else:
        figure = ax.figure
        place = ax.get_subplotspec()
        if place is None:
            raise ValueError("ax must be made by subplots, or be an array of axes, to be divided.")
        ax.set_axis_off()
        grid = place.subgridspec(*shape)
    return [figure.add_subplot(grid[k // n_cols, k % n_cols]) for k in range(n)]


def _pyplot(owner: str) -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{owner} needs matplotlib, which is not installed; "
            "pip install 'sklearn-qavi[plot]' brings it."
        ) from error
    return plt


def hide_frame(ax: Any, sides: Sequence[str] = ("top", "right")) -> None:
    """Leave out lines of the frame that carry nothing."""
    for side in sides:
        ax.spines[side].set_visible(False)


def set_value_axis(ax: Any, kind: str, *, whole: bool = False, n_ticks: int = 5) -> None:
    """Put few ticks on the axis of a column's values; days since 1970 are written as dates."""
    from matplotlib import dates, ticker

    if kind == "dates":
        locator = dates.AutoDateLocator(maxticks=n_ticks)
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
        return
    ax.xaxis.set_major_locator(ticker.MaxNLocator(n_ticks, integer=whole))
    low, high = ax.get_xlim()
    if 10_000 <= max(abs(low), abs(high)) < 10_000_000:
        ax.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))


def edges_of_bins(values: NDArray[np.float64], whole: bool) -> NDArray[np.float64]:
    """Return edges of bins for a histogram; whole numbers of a small range get a bin each."""
    low, high = values.min(), values.max()
    if whole and high - low < _MAX_WHOLE_BINS and (values == np.round(values)).all():
        return np.arange(low - 0.5, high + 1.0)
    if low == high:
        return np.array([low - 0.5, low + 0.5])
    n_bins = int(np.clip(np.ceil(2.0 * np.cbrt(len(values))), 8, 40))
    return np.linspace(low, high, n_bins + 1)


def most_common(weight: NDArray[np.float64], limit: int) -> NDArray[np.intp]:
    """Return the codes of the heaviest levels, in their own order."""
    return np.sort(np.argsort(-weight, kind="stable")[:limit])


def shorten(label: Any) -> str:
    """Return a label that is not too long for an axis."""
    text = str(label)
    return text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 1] + "…"
