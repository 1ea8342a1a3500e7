"""What the displays share: axes, colours, axes of time, shares of categories."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Union, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._labels import LONGEST, SHORTEST, shorten

if TYPE_CHECKING:
    from types import ModuleType

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import ColorType, LegendLocType

__all__ = [
    "IMPUTED",
    "OBSERVED",
    "TRUTH",
    "Panels",
    "add_legend",
    "edges_of_bins",
    "faint",
    "figures_that_fit",
    "hide_frame",
    "inches_of",
    "ink",
    "label_places",
    "lines_that_fit",
    "most_common",
    "new_axes",
    "panel_axes",
    "readable",
    "say_below",
    "say_beside",
    "set_title",
    "set_value_axis",
    "short_names",
    "size_of_lines",
    "size_of_text",
]

Panels = Union["Axes", list["Axes"], tuple["Axes", ...], NDArray[np.object_], None]
"""Axes to divide, or an array of them, or None for a new figure."""

RGB = tuple[float, float, float]

OBSERVED, IMPUTED, TRUTH = "C0", "C1", "C3"  # blue, orange, red: told apart by the colour-blind
_MAX_WHOLE_BINS = 40
_LETTER = 0.56  # mean width of a letter in units of its height
_LEAST_CONTRAST = 3.0  # of lines and letters, as the guidelines of the web (WCAG) ask
_LINE = 1.25  # height of a line in units of that of its letters
_SMALLEST = 5.0  # points that letters have
_LABEL_SHARE = 0.4  # of the axes' height or width that labels beside them may take


def new_axes(owner: str, size: tuple[float, float]) -> Axes:
    """Return axes in a figure of their own, sized in inches."""
    ax: Axes = _pyplot(owner).subplots(figsize=size, layout="constrained")[1]
    return ax


def panel_axes(
    owner: str, ax: Panels, n: int, n_cols: int, size: tuple[float, float]
) -> list[Axes]:
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
            raise ValueError(f"Expected {n} axes, one per column, got {len(axes)}.")
        return axes
    else:
        figure = ax.figure
        place = ax.get_subplotspec()
        if place is None:
            raise ValueError("ax must be made by subplots, or be an array of axes, to be divided.")
        ax.set_axis_off()
        grid = place.subgridspec(*shape)
    return [figure.add_subplot(grid[k // n_cols, k % n_cols]) for k in range(n)]


def _pyplot(owner: str) -> ModuleType:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{owner} needs matplotlib, which is not installed; "
            "pip install 'sklearn-qavi[plot]' brings it."
        ) from error
    return plt


def hide_frame(ax: Axes, sides: Sequence[str] = ("top", "right")) -> None:
    """Leave out lines of the frame that carry nothing."""
    for side in sides:
        ax.spines[side].set_visible(False)


def set_value_axis(ax: Axes, *, dates: bool = False, whole: bool = False, n_ticks: int = 5) -> None:
    """Put few ticks on the axis of a column's values; days since 1970 are written as dates."""
    from matplotlib import dates as mdates
    from matplotlib import ticker

    if dates:
        locator = mdates.AutoDateLocator(maxticks=n_ticks)  # type: ignore[no-untyped-call]
        ax.xaxis.set_major_locator(locator)
        formatter = mdates.ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
        ax.xaxis.set_major_formatter(formatter)
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
    """Return the codes of the heaviest categories, in their own order."""
    return np.sort(np.argsort(-weight, kind="stable")[:limit])


def add_legend(ax: Axes, loc: str = "best", *, room: bool = False) -> None:
    """Put a legend into axes, and with ``room`` some room for it above what they show."""
    from ._legend import FittedLegend

    handles, labels = ax.get_legend_handles_labels()
    legend = FittedLegend(ax, handles, labels, cast("LegendLocType", loc), wide=room)
    # as ax.legend does
    ax.legend_, legend._remove_method = legend, ax._remove_legend  # type: ignore[attr-defined]
    if room:
        engine = ax.figure.get_layout_engine()
        if engine is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # drawing says it again
                engine.execute(_figure(ax))  # how high the axes will be
        bottom, top = ax.get_ylim()
        ax.set_ylim(bottom, bottom + (top - bottom) / (1.0 - legend.height_share()))


def say_below(ax: Axes, *lines: str) -> None:
    """Write what an axis shows, and what is left out, below axes, in lines that are no wider."""
    width = max(_letters(inches_of(ax)[0]), SHORTEST)
    said = "\n".join(fill(line, width) for line in lines if line)
    ax.set_xlabel(said, fontsize="small" if "\n" in said else "medium")


def say_beside(ax: Axes, *lines: str) -> None:
    """Write what an axis shows beside axes, in lines that are no longer than the axes are high."""
    height = max(_letters(0.95 * inches_of(ax)[1]), SHORTEST)
    said = "\n".join(fill(line, height) for line in lines)
    ax.set_ylabel(said, fontsize="medium" if said == "\n".join(lines) else "small")


def short_names(ax: Axes, names: Iterable[Hashable]) -> list[str]:
    """Return names that are not wider than axes."""
    width = _letters(0.9 * inches_of(ax)[0])
    return shorten(names, min(max(width, SHORTEST), 2 * LONGEST))


def set_title(ax: Axes, name: str, note: str = "") -> None:
    """Put a name and what there is to say of it above axes, on two lines if they are narrow."""
    width = max(_letters(0.9 * inches_of(ax)[0]), SHORTEST)
    join = " " if len(name) + len(note) < width else "\n"
    ax.set_title(f"{name}{join}{fill(note, width)}".strip(), fontsize="medium")


def label_places(
    ax: Axes,
    axis: str,
    places: ArrayLike,
    labels: Sequence[Hashable],
    *,
    share: float = 1.0,
    longest: int = LONGEST,
) -> None:
    """Name places on an axis, in letters and lengths that the axes have room for.

    ``share`` is the part of the axis over which the places are spread.
    """
    inches = inches_of(ax)
    along, across = inches if axis == "x" else inches[::-1]
    beside = 72.0 * _LABEL_SHARE * across / (_LETTER * SHORTEST)
    size = min(size_of_lines(ax, axis, len(labels), share), max(beside, _SMALLEST))
    short = shorten(labels, max(min(longest, _letters(_LABEL_SHARE * across, size)), SHORTEST))
    turned = axis == "x" and _letters(0.9 * share * along / len(labels)) < max(map(len, short))
    if axis == "x" and not turned:
        size = _font_size()
    getattr(ax, f"set_{axis}ticks")(places, short, rotation=90 if turned else 0, fontsize=size)


def figures_that_fit(ax: Axes, letters: int, share: float = 1.0) -> int:
    """Return how many small figures of so many letters fit side by side into this part of axes."""
    return _letters(share * inches_of(ax)[0], 0.9 * _font_size()) // letters


def size_of_lines(ax: Axes, axis: str, n: int, share: float = 1.0) -> float:
    """Return the size of letters, in points, of n lines on this part of an axis."""
    pitch = 72.0 * share * inches_of(ax)["xy".index(axis)] / n
    return float(np.clip(pitch / _LINE, _SMALLEST, _font_size()))


def size_of_text(ax: Axes, letters: int) -> float:
    """Return the size of so many letters, in points, that are as wide as axes at most."""
    return float(np.clip(72.0 * inches_of(ax)[0] / (_LETTER * letters), _SMALLEST, _font_size()))


def lines_that_fit(ax: Axes, axis: str, share: float = 1.0) -> int:
    """Return how many lines of the smallest letters have room along this part of an axis."""
    inches = inches_of(ax)["xy".index(axis)]
    return max(int(72.0 * share * inches / (_LINE * _SMALLEST)), 1)


def _font_size() -> float:
    import matplotlib as mpl

    return float(mpl.rcParams["font.size"])


def _letters(inches: float, size: float | None = None) -> int:
    """Return how many letters have room, of the usual size if none is given."""
    return int(72.0 * inches / (_LETTER * (size or _font_size())))


def _figure(ax: Axes) -> Figure:
    return cast("Figure", ax.get_figure(root=True))


def inches_of(ax: Axes) -> tuple[float, float]:
    """Return width and height of axes."""
    box, dpi = ax.get_window_extent(), _figure(ax).dpi
    return box.width / dpi, box.height / dpi


def ink(ax: Axes) -> ColorType:
    """Return the colour of text, or one like it that can be read on these axes."""
    import matplotlib as mpl

    return readable(mpl.rcParams["text.color"], ax)


def faint(ax: Axes, share: float = 0.15) -> ColorType:
    """Return the colour of the axes with this share of the colour of text."""
    from matplotlib.colors import to_rgb

    return _mixed(_background(ax), to_rgb(ink(ax)), share)


def readable(color: ColorType, ax: Axes) -> ColorType:
    """Return a colour, moved towards black or white until lines of it stand out from the axes."""
    from matplotlib.colors import to_hex, to_rgb

    ground = _background(ax)
    ends: list[RGB] = [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0)]
    end = max(ends, key=lambda one: _contrast(one, ground))
    if _contrast(to_rgb(color), ground) >= _LEAST_CONTRAST:
        return color
    steps = (_mixed(to_rgb(color), end, share) for share in np.linspace(0.0, 1.0, 41))
    return to_hex(next(one for one in steps if _contrast(one, ground) >= 1.02 * _LEAST_CONTRAST))


def _background(ax: Axes) -> RGB:
    from matplotlib.colors import to_rgb, to_rgba

    color = ax.get_facecolor()
    if to_rgba(color)[3] == 0.0:  # axes that show the figure
        color = _figure(ax).get_facecolor()
    return to_rgb(color)


def _mixed(color: RGB, other: RGB, share: float) -> RGB:
    red, green, blue = (1.0 - share) * np.asarray(color) + share * np.asarray(other)
    return red, green, blue


def _contrast(color: RGB, other: RGB) -> float:
    """Return the contrast of two colours from 1 to 21, as WCAG 2 defines it."""
    light, dark = sorted((_luminance(color), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: RGB) -> float:
    rgb = np.asarray(color)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))
