"""What every display looks like with names, categories and curves that are long and many.

Legends stay inside their axes, labels differ, what is left out is said, and all of it can be read
on light and on dark ground, in figures of their own and in small ones.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb, to_rgba

from sklearn_qavi.plotting import (
    BoundTraceDisplay,
    CellDisplay,
    CoverageDisplay,
    DistributionDisplay,
    DrawsDisplay,
    ExpectedErrorDisplay,
    InpaintingDisplay,
    MissingnessDisplay,
    ScoreCurveDisplay,
)

RNG = np.random.default_rng(0)
N = 60


def name(k: int) -> str:
    return f"measurement_of_the_first_sensor_{k:02d}_in_the_long_corridor_value"


def column(k: int) -> Any:
    categories = [f"a category with a long name number {i:02d} of all of them" for i in range(40)]
    days = pd.to_timedelta(RNG.integers(0, 300, N), "D")
    kinds = [RNG.normal(1e5, 3e4, N), RNG.choice(categories, N), pd.Timestamp("2024-01-01") + days]
    return [*kinds, RNG.poisson(3.0, N).astype(float)][k % 4]


TRUTH = pd.DataFrame({name(k): column(k) for k in range(24)})
MISSING = RNG.random(TRUTH.shape) < np.linspace(0.05, 0.4, 24)
X = TRUTH.mask(MISSING)


def completed() -> pd.DataFrame:
    filled = {}
    for one in X:
        values = X[one].to_numpy(copy=True)
        values[X[one].isna()] = RNG.choice(X[one].dropna().to_numpy(), X[one].isna().sum())
        filled[one] = values
    return pd.DataFrame(filled)


DRAWS = [completed() for _ in range(120)]
IMAGES, MISSING_PART = RNG.random((2, 8, 8)), np.zeros((8, 8), dtype=bool)
MISSING_PART[2:6, 3:7] = True
INPAINTED = np.where(MISSING_PART, RNG.random((20, 2, 8, 8)), IMAGES)


def cell(k: int) -> Callable[[Any], CellDisplay]:
    row = int(np.flatnonzero(MISSING[:, k])[0])
    truth = X[name(k)].dropna().iloc[0]
    return lambda ax: CellDisplay.from_draws(X, DRAWS, row=row, column=k, truth=truth, ax=ax)


def coverages(ax: Any) -> CoverageDisplay:
    label = "query-adaptive variational inference with a mixture of {} components"
    first = CoverageDisplay.from_draws(TRUTH, DRAWS[:19], MISSING, name=label.format(0), ax=ax)
    for k in range(1, 6):
        CoverageDisplay(
            levels=first.levels,
            coverage=first.coverage**k,
            n_cells=first.n_cells,
            name=label.format(k),
        ).plot(first.ax_)
    return first


def bounds(n: int) -> Callable[[Any], BoundTraceDisplay]:
    steps = np.arange(1, 101)
    values = -np.exp(-steps / np.linspace(5.0, 60.0, n)[:, None]) * 20.0
    values[0] = np.nan
    options = {"rows": 1000 * np.arange(n), "converged": np.arange(n) % 2 == 0}
    return lambda ax: BoundTraceDisplay(bounds=values, steps=steps, **options).plot(ax)


def scores(n: int) -> Callable[[Any], ScoreCurveDisplay]:
    curves = {f"_inference with {k} components of a mixture": [-3.0, k] for k in range(n)}
    return lambda ax: ScoreCurveDisplay.from_scores([1, 10], curves, ax=ax)


def errors(n: int) -> Callable[[Any], ExpectedErrorDisplay]:
    names = ["crps", "crps_mean", "crps_neighbors", "crps_linear"]
    values = RNG.gamma(2.0, size=(n, len(names)))
    table = pd.DataFrame(values, columns=names, index=[name(k) for k in range(n)])
    return lambda ax: ExpectedErrorDisplay(errors=table.assign(n_cells=9)).plot(ax)


DISPLAYS: dict[str, Callable[[Any], Any]] = {
    "missingness": lambda ax: MissingnessDisplay.from_table(X, ax=ax),
    "distributions": lambda ax: DistributionDisplay.from_draws(X, DRAWS[:5], ax=ax),
    "cell of a number": cell(20),
    "cell of categories": cell(21),
    "cell of a date": cell(22),
    "cell of a whole number": cell(23),
    "coverage": coverages,
    "expected errors": errors(6),
    "many expected errors": errors(60),
    "bounds": bounds(9),
    "many bounds": bounds(40),
    "draws": lambda ax: DrawsDisplay.from_draws(
        TRUTH, DRAWS[:30], MISSING, n_cells=14, random_state=0, ax=ax
    ),
    "inpainting": lambda ax: InpaintingDisplay.from_draws(
        np.where(MISSING_PART, np.nan, IMAGES), INPAINTED, truth=IMAGES, mean=IMAGES, ax=ax
    ),
    "scores": scores(4),
    "many scores": scores(30),
}
FIGURES = ["own", "small", "four"]


def draw(display: str, figure: str) -> Any:
    """Return a figure with a display in it, drawn."""
    make = DISPLAYS[display]
    if figure == "own":
        found = make(None).figure_
    else:
        size, shape = {"small": ((3.0, 2.5), (1, 1)), "four": ((8.0, 6.0), (2, 2))}[figure]
        found, axes = plt.subplots(*shape, figsize=size, layout="constrained", squeeze=False)
        for ax in axes.flat:
            make(ax)
    found.canvas.draw()
    return found


drawn = functools.cache(draw)  # for tests that only look


def all_axes(figure: Any) -> Iterator[Any]:
    """Yield the axes of a figure and those inset into them, but those that are switched off."""
    for ax in figure.axes:
        if ax.axison:
            yield from [ax, *ax.child_axes]


def inside(extent: Any, box: Any, slack: float = 1.0) -> bool:
    return bool(
        extent.x0 >= box.x0 - slack
        and extent.x1 <= box.x1 + slack
        and extent.y0 >= box.y0 - slack
        and extent.y1 <= box.y1 + slack
    )


def tick_labels(ax: Any) -> Iterator[Any]:
    """Yield the labels of the ticks that are within the limits of axes."""
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        for place, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False):
            if low <= place <= high:
                yield label


def texts_of(legend: Any) -> list[str]:
    return [text.get_text() for text in legend.get_texts()]


every_display = pytest.mark.parametrize("display", DISPLAYS)
every_figure = pytest.mark.parametrize("figure", FIGURES)


@every_display
@every_figure
def test_legends_stay_inside_their_axes_and_labels_differ(display: str, figure: str) -> None:
    found = drawn(display, figure)
    legends = [ax.get_legend() for ax in all_axes(found) if ax.get_legend() is not None]
    without = {"missingness", "inpainting", "many bounds"}
    assert bool(legends) == (display not in without)
    assert not found.legends
    for legend in legends:
        assert inside(legend.get_window_extent(), legend.axes.get_window_extent())
        assert len(texts_of(legend)) == len(set(texts_of(legend))) > 1
    for ax in all_axes(found):
        for axis in (ax.xaxis, ax.yaxis):
            labels = [one.get_text() for one in axis.get_ticklabels() if one.get_text()]
            assert len(labels) == len(set(labels))
            assert max(map(len, labels), default=0) <= 30


@every_display
@every_figure
def test_no_text_is_cut_off_at_the_edge_of_the_figure(display: str, figure: str) -> None:
    found = drawn(display, figure)
    for ax in all_axes(found):
        for text in [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts, *tick_labels(ax)]:
            if text.get_text() and text.get_visible():
                assert inside(text.get_window_extent(), found.bbox, slack=3.0), text


def luminance(color: Any) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(color: Any, ground: Any) -> float:
    """Return the contrast ratio of the guidelines of the web (WCAG 2)."""
    high, low = sorted([luminance(color), luminance(ground)], reverse=True)
    return (high + 0.05) / (low + 0.05)


def coloured(ax: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield what is written or drawn in lines, its colour and the ground it lies on.

    Artists with an opacity of their own are clouds, which are read by how dense they are.
    """
    paper = ax.figure.get_facecolor()
    for text in [ax.title, ax.xaxis.label, ax.yaxis.label]:
        yield text.get_text(), text.get_color(), paper
    for text in tick_labels(ax):
        yield text.get_text(), text.get_color(), paper
    ground = ax.get_facecolor()
    legend = ax.get_legend()
    for text in [*ax.texts, *(legend.get_texts() if legend else [])]:
        yield text.get_text(), text.get_color(), ground
    for line in ax.lines:
        if line.get_alpha() is None:
            yield str(line.get_label()), line.get_color(), ground
    for lines in ax.collections:
        if isinstance(lines, LineCollection) and not ax.images:  # pictures have their own ground
            for color in lines.get_colors():
                yield str(lines.get_label()), color, ground


@every_display
@pytest.mark.parametrize("style", ["default", "dark_background", "Solarize_Light2", "own"])
def test_text_and_lines_stand_out(display: str, style: str) -> None:
    own = {"axes.facecolor": "#203040", "figure.facecolor": "#203040", "text.color": "#f0f0f0"}
    labels = {"axes.labelcolor": "w", "xtick.color": "w", "ytick.color": "w"}
    with plt.style.context({**own, **labels} if style == "own" else style):
        written = {"text.color", "axes.labelcolor", "xtick.color", "ytick.color"}
        given = {to_rgba(mpl.rcParams[key]) for key in written}
        for ax in all_axes(draw(display, "own")):
            for what, color, ground in coloured(ax):
                if what and to_rgba(color) not in given:  # those are the style's own choice
                    assert contrast(color, ground) >= 3.0, (what, color)


NOTES = {
    "distributions": "12 of 24 incomplete columns shown",
    "coverage": "hidden cells left out: categories have no intervals",
    "many expected errors": "of 60 columns shown, of lowest and highest errors",
    "bounds": "1 of 9 rows took no step and are not shown",
    "draws": "hidden cells shown",
    "inpainting": "5 of 20 draws shown",
}


@pytest.mark.parametrize("display", NOTES)
def test_what_is_left_out_is_said(display: str) -> None:
    said = [" ".join(ax.get_xlabel().split()) for ax in drawn(display, "own").axes]
    assert any(NOTES[display] in one for one in said)


def test_columns_and_patterns_that_have_no_room_are_counted() -> None:
    _, ax = plt.subplots(figsize=(3.0, 2.5))
    display = MissingnessDisplay.from_table(X, ax=ax)
    n = len(ax.get_xticks())
    shown = [label.get_text() for label in ax.get_xticklabels()]
    said = " ".join(ax.get_xlabel().split())
    assert n < 24
    assert f"{n} of 24 columns shown" in said
    most = np.sort(np.argsort(-display.share_missing, kind="stable")[:n])
    assert all(f"{k:02d}" in label for k, label in zip(most, shown, strict=True))
    n_patterns = len(display.count_ax_.patches)
    assert f"{len(display.counts) - n_patterns} rarer patterns" in said


def test_panels_that_have_no_room_are_counted_unless_they_were_asked_for() -> None:
    _, ax = plt.subplots(figsize=(3.0, 2.5))
    display = DistributionDisplay.from_draws(X, DRAWS[:3], ax=ax)
    assert len(display.axes_) == 1
    assert f"{MISSING.sum(axis=0).max()} of {N}" in display.ax_.get_title()
    assert "1 of 24 incomplete" in display.ax_.get_xlabel()
    _, ax = plt.subplots(figsize=(3.0, 2.5))
    asked = DistributionDisplay.from_draws(X, DRAWS[:3], columns=[0, 1, 2], ax=ax)
    assert len(asked.axes_) == 3
    assert not any("shown" in ax.get_xlabel() for ax in asked.axes_)


def test_draws_and_entries_that_are_left_out_are_counted() -> None:
    legend = drawn("cell of a number", "own").axes[0].get_legend()
    assert "100 of 120 draws" in texts_of(legend)
    legend = drawn("many scores", "own").axes[0].get_legend()
    *entries, last = texts_of(legend)
    assert last == f"and {30 - len(entries)} more"


def test_nothing_is_said_where_nothing_is_left_out() -> None:
    cells = np.argwhere(MISSING & np.array([k % 4 != 1 for k in range(24)]))[:3]
    display = DrawsDisplay.from_draws(TRUTH, DRAWS[:9], MISSING, cells=cells)
    assert "shown" not in display.ax_.get_xlabel()
    display = InpaintingDisplay.from_draws(np.where(MISSING_PART, np.nan, IMAGES), INPAINTED[:5])
    assert not any(ax.get_xlabel() for ax in display.axes_.flat)


def test_a_legend_follows_the_size_of_its_axes() -> None:
    display = DISPLAYS["scores"](None)
    for size in [(6.0, 4.0), (2.0, 1.6), (10.0, 2.0)]:
        display.figure_.set_size_inches(size)
        display.figure_.canvas.draw()
        legend = display.ax_.get_legend()
        assert inside(legend.get_window_extent(), display.ax_.get_window_extent())
    display.figure_.set_size_inches(12.0, 9.0)
    display.figure_.canvas.draw()
    assert len(texts_of(display.ax_.get_legend())) == 4
