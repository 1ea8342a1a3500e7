"""A legend that stays inside its axes. Imports matplotlib, so it is imported when it is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, cast

from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from ._labels import LONGEST, SHORTEST, as_entry, shorten

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from matplotlib.typing import LegendLocType

__all__ = ["FittedLegend"]

_SIZES = ("small", "x-small", "xx-small")
_LENGTHS = (2 * LONGEST, LONGEST, SHORTEST)  # of names
_COUNTS = (12, 8, 6, 4, 3, 2, 1)  # of entries
_MOST_COLUMNS = 5
_HEIGHT = 0.4  # share of the axes' height that it may take
_WIDTH = {True: 1.0, False: 0.62}  # share of their width, if it is wide and if not


class FittedLegend(Legend):
    """A legend that is arranged anew whenever the size of its axes has changed, so that it fits.

    It takes as many columns as it needs, then smaller letters, then shorter names, then fewer
    entries, the last of which counts those left out. Axes too small for one entry have none.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Its axes.
    handles : sequence of artists
        What the entries stand for.
    labels : sequence of str
        What they are called.
    loc : str
        Where in the axes.
    wide : bool
        Whether many columns are better than few.
    """

    def __init__(
        self,
        ax: Axes,
        handles: Sequence[Artist | tuple[Artist, ...]],
        labels: Sequence[str],
        loc: LegendLocType,
        *,
        wide: bool,
    ) -> None:
        self._entries, self._place, self._wide = (list(handles), list(labels)), loc, wide
        self._last: tuple[tuple[float, ...] | None, Legend | None] = (None, None)
        super().__init__(ax, [], [], loc=loc)
        self.set_in_layout(False)  # it takes the room there is

    def arranged(self) -> Legend | None:
        """Return the first arrangement that the axes hold."""
        figure = cast("Figure", self.axes.get_figure(root=True))
        box = self.axes.get_window_extent()
        size = (box.width, box.height, figure.dpi)
        if self._last[0] != size:
            room = _WIDTH[self._wide] * box.width, _HEIGHT * box.height
            found = next((one for one in self._arrangements(*room) if _fits(one, *room)), None)
            if found is not None:
                found.set_loc(self._place)
            self._last = (size, found)
        return self._last[1]

    def _arrangements(self, width: float, height: float) -> Iterator[Legend]:
        """Yield arrangements, the best ones first, but those that are too large for certain."""
        figure = cast("Figure", self.axes.get_figure(root=True))
        n = len(self._entries[0])
        counts = dict.fromkeys(min(n, count) for count in _COUNTS)
        for n_shown, longest, size in product(counts, _LENGTHS, _SIZES):
            handles, labels = self._shown(n_shown, longest)
            em = FontProperties(size=size).get_size_in_points() * figure.dpi / 72
            columns = range(1, min(len(labels), _MOST_COLUMNS) + 1)
            for n_columns in reversed(columns) if self._wide else columns:
                rows = -(-len(labels) // n_columns)
                letters = sum(map(len, labels)) / rows
                if 1.2 * rows * em > height or (2.3 * n_columns + 0.4 * letters) * em > width:
                    continue
                yield Legend(
                    self.axes,
                    handles,
                    labels,
                    ncols=n_columns,
                    fontsize=size,
                    loc="upper left",
                    framealpha=0.7,
                    edgecolor="none",
                    handlelength=1.5,
                    borderaxespad=0.3,
                    columnspacing=1.2,
                    labelspacing=0.3,
                )

    def _shown(
        self, n_shown: int, longest: int
    ) -> tuple[list[Artist | tuple[Artist, ...]], list[str]]:
        """Return handles and labels of the first entries and, if there are more, their number."""
        handles, labels = self._entries
        n_more = len(labels) - n_shown
        short = [as_entry(label) for label in shorten(labels, longest)[:n_shown]]
        if not n_more:
            return handles, short
        nothing = Line2D([], [], linestyle="none")
        return [*handles[:n_shown], nothing], [*short, f"and {n_more} more"]

    def height_share(self) -> float:
        """Return the part of the axes' height that it takes, with its distance to their edge."""
        legend = self.arranged()
        if legend is None:
            return 0.0
        height = legend.get_window_extent().height + _margin(legend)
        return float(height / self.axes.get_window_extent().height)

    def draw(self, renderer: RendererBase) -> None:
        """Draw the arrangement that fits."""
        legend = self.arranged()
        if legend is not None and self.get_visible():
            legend.set_zorder(self.get_zorder())
            legend.draw(renderer)
        self.stale = False

    def get_window_extent(self, renderer: RendererBase | None = None) -> Bbox:
        """Return where the arrangement is."""
        legend = self.arranged()
        return Bbox.null() if legend is None else legend.get_window_extent(renderer)

    def get_texts(self) -> list[Text]:
        """Return the texts of the arrangement."""
        legend = self.arranged()
        return [] if legend is None else list(legend.get_texts())


def _margin(legend: Legend) -> float:
    """Return twice its distance to the edge of the axes."""
    return float(2 * legend.borderaxespad * legend.prop.get_size() * legend.figure.dpi / 72)


def _fits(legend: Legend, width: float, height: float) -> bool:
    extent, margin = legend.get_window_extent(), _margin(legend)
    return bool(extent.width + margin <= width and extent.height + margin <= height)
