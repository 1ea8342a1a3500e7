"""Patterns, their counts, and shares of columns against counting by hand."""

from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest

from sklearn_qavi.plotting import MissingnessDisplay


def patterns_of(display):
    return {
        tuple(p): n for p, n in zip(display.patterns.tolist(), display.counts.tolist(), strict=True)
    }


def bars(ax, along):
    return [getattr(patch, f"get_{along}")() for patch in ax.patches]


def test_patterns_are_counted_and_shown_in_order(incomplete, is_missing):
    display = MissingnessDisplay.from_table(incomplete, max_patterns=6)
    assert patterns_of(display) == Counter(tuple(row) for row in is_missing.tolist())
    assert (np.diff(display.counts) <= 0).all()
    np.testing.assert_allclose(display.share_missing, is_missing.mean(axis=0))
    np.testing.assert_allclose(bars(display.share_ax_, "height"), is_missing.mean(axis=0))
    assert bars(display.count_ax_, "width") == display.counts[:6].tolist()
    (mesh,) = display.ax_.collections
    np.testing.assert_array_equal(mesh.get_array().reshape(6, -1), display.patterns[:6])
    rest = display.counts[6:]
    expected = f"{len(rest)} rarer patterns, in {rest.sum()} rows, are not shown"
    assert display.ax_.get_xlabel() == expected
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == list(incomplete.columns)


def test_equally_frequent_patterns_come_by_their_number_of_missing_cells():
    X = [[1, None, None], [1, 2, 3], [None, 2, 3], [None, None, None]]
    display = MissingnessDisplay.from_table(X)
    assert display.patterns.sum(axis=1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "convert",
    [
        lambda frame: frame,
        lambda frame: frame.astype(object).to_numpy(),
        lambda frame: frame.astype(object).to_numpy().tolist(),
        lambda frame: pl.DataFrame(
            {
                name: [None if pd.isna(v) else v for v in frame[name].tolist()]
                for name in frame.columns
            }
        ),
    ],
    ids=["pandas", "array", "lists", "polars"],
)
def test_every_container_gives_the_same_patterns(incomplete, is_missing, convert):
    display = MissingnessDisplay.from_table(convert(incomplete))
    assert patterns_of(display) == Counter(tuple(row) for row in is_missing.tolist())


@pytest.mark.parametrize("marker", [-1, "?"])
def test_a_marker_is_missing(marker):
    X = pd.DataFrame({"a": [1.0, 2.0, -1.0], "b": ["x", "?", None]})
    missing = np.stack([X["a"] == marker, (X["b"] == marker) | X["b"].isna()], axis=1)
    display = MissingnessDisplay.from_table(X, missing_values=marker)
    np.testing.assert_allclose(display.share_missing, missing.mean(axis=0))


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_nothing_and_everything_missing(value):
    display = MissingnessDisplay.from_table(np.full((4, 1), value), feature_names=["only"])
    assert patterns_of(display) == {(bool(np.isnan(value)),): 4}
    display.figure_.canvas.draw()


def test_axes_of_the_caller_are_used_again(incomplete):
    _, ax = plt.subplots()
    display = MissingnessDisplay.from_table(incomplete, ax=ax)
    assert display.ax_ is ax
    assert display.plot(max_patterns=3).ax_ is not ax
    assert len(bars(display.count_ax_, "width")) == 3


def test_nothing_is_plotted_over_the_names(incomplete):
    """Names of columns and figures of bars stay inside the figure and apart."""
    display = MissingnessDisplay.from_table(incomplete)
    display.figure_.canvas.draw()
    box = display.figure_.bbox
    texts = [*display.ax_.get_xticklabels(), *display.count_ax_.texts, *display.share_ax_.texts]
    extents = [text.get_window_extent() for text in texts if text.get_text()]
    assert all(box.contains(e.x0, e.y0) and box.contains(e.x1, e.y1) for e in extents)
    assert not any(a.overlaps(b) for k, a in enumerate(extents) for b in extents[:k])


@pytest.mark.parametrize(
    ("X", "options", "message"),
    [
        ([1.0, 2.0], {}, "two dimensions"),
        (np.empty((0, 2)), {}, "X is empty"),
        ([[1.0]], {"feature_names": ["a", "b"]}, "2 names, but X has 1 columns"),
        ([[1.0]], {"max_patterns": 0}, "max_patterns must be at least 1"),
        ([[{}]], {}, "cannot be plotted"),
    ],
)
def test_errors_say_what_was_expected(X, options, message):
    with pytest.raises(ValueError, match=message):
        MissingnessDisplay.from_table(X, **options)
