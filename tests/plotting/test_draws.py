"""What DrawsDisplay shows, where, and that it is the truth."""

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from sklearn_qavi.plotting import DrawsDisplay

CELLS = [(3, 1), (0, 0), (7, 2)]


@pytest.fixture
def table():
    """Truth (40, 3) in very different units, draws (30, 40, 3) and what is hidden."""
    rng = np.random.default_rng(0)
    units = np.array([1.0, 100.0, 0.01])
    X = (rng.normal(size=(40, 3)) + 5.0) * units
    draws = (rng.normal(size=(30, 40, 3)) + 5.0) * units
    missing = rng.random((40, 3)) < 0.5
    for row, column in CELLS:
        missing[row, column] = True
    return X, draws, missing


def line(display, label):
    (found,) = [one for one in display.ax_.lines if one.get_label() == label]
    return found


def names(display):
    return [label.get_text() for label in display.ax_.get_yticklabels()]


def standardized(X, values, column):
    return (values - X[:, column].mean()) / X[:, column].std()


def test_chosen_cells_are_shown_in_standardized_units(table):
    X, draws, missing = table
    display = DrawsDisplay.from_draws(X, draws, missing, cells=CELLS)
    assert names(display) == ["x1, row 3", "x0, row 0", "x2, row 7"]
    truth, mean = line(display, "truth"), line(display, "mean")
    for place, (i, j) in enumerate(CELLS):
        assert truth.get_ydata()[place] == place
        assert truth.get_xdata()[place] == pytest.approx(standardized(X, X[i, j], j))
        expected = standardized(X, draws[:, i, j].mean(), j)
        assert mean.get_xdata()[place] == pytest.approx(expected)


def test_every_draw_is_on_the_line_of_its_cell(table):
    X, draws, missing = table
    dots = line(DrawsDisplay.from_draws(X, draws, missing, cells=CELLS), "draws")
    for place, (i, j) in enumerate(CELLS):
        mine = np.abs(dots.get_ydata() - place) < 0.5
        shown = np.sort(dots.get_xdata()[mine])
        np.testing.assert_allclose(shown, np.sort(standardized(X, draws[:, i, j], j)))


def test_bar_is_the_interval_of_the_draws():
    draws = np.arange(1.0, 100.0)[:, None]
    display = DrawsDisplay(draws=draws, truth=np.array([50.0]), labels=["a"])
    for level, expected in [(0.9, [5.0, 95.0]), (0.5, [25.0, 75.0])]:
        (bar,) = display.plot(level=level).ax_.collections
        assert bar.get_label() == f"{100 * level:g}% interval"
        np.testing.assert_allclose(bar.get_segments()[0][:, 0], expected)


def test_random_cells_are_hidden_ones_and_follow_the_seed(table):
    X, draws, missing = table
    shown = names(DrawsDisplay.from_draws(X, draws, missing, random_state=1))
    assert len(set(shown)) == len(shown) == 12
    assert set(shown) <= {f"x{j}, row {i}" for i, j in np.argwhere(missing)}
    assert names(DrawsDisplay.from_draws(X, draws, missing, random_state=1)) == shown
    assert names(DrawsDisplay.from_draws(X, draws, missing, random_state=2)) != shown


def test_no_more_cells_than_are_hidden(table):
    X, draws, missing = table
    missing = np.zeros_like(missing)
    missing[2:4, 1] = True
    display = DrawsDisplay.from_draws(X, draws, missing, random_state=0)
    assert names(display) == ["x1, row 2", "x1, row 3"]


def test_names_come_from_the_dataframe_or_the_caller(table):
    X, draws, missing = table
    frame = pd.DataFrame(X, columns=["age", "bmi", "s1"])
    frames = [frame * 0 + draw for draw in draws]
    assert names(DrawsDisplay.from_draws(frame, frames, missing, cells=CELLS))[0] == "bmi, row 3"
    display = DrawsDisplay.from_draws(X, draws, missing, cells=CELLS, feature_names=list("uvw"))
    assert names(display) == ["v, row 3", "u, row 0", "w, row 7"]


def test_axes_of_the_caller_are_used(table):
    X, draws, missing = table
    _, ax = plt.subplots()
    display = DrawsDisplay.from_draws(X, draws, missing, cells=CELLS, ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert plt.get_fignums() == [ax.figure.number]


def test_figure_can_be_saved(table, tmp_path):
    X, draws, missing = table
    display = DrawsDisplay.from_draws(X, draws, missing, random_state=0)
    display.figure_.savefig(tmp_path / "draws.png")
    image = plt.imread(tmp_path / "draws.png")
    assert image[..., :3].std() > 0  # something is on it


def test_constant_column_and_unknown_truth_elsewhere(table):
    X, draws, missing = table
    X[:, 1] = 100.0
    X[20:, 0] = np.nan
    display = DrawsDisplay.from_draws(X, draws, missing, cells=CELLS)
    assert np.isfinite(line(display, "draws").get_xdata()).all()
    known = X[:20, 0]
    expected = (X[0, 0] - known.mean()) / known.std()
    assert line(display, "truth").get_xdata()[1] == pytest.approx(expected)


def test_inputs_are_not_changed(table):
    before = [array.copy() for array in table]
    for array in table:
        array.flags.writeable = False
    DrawsDisplay.from_draws(*table, random_state=0)
    for array, kept in zip(table, before, strict=True):
        np.testing.assert_array_equal(array, kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {"X_true": t["X_true"][0]}, "X_true must have two dimensions"),
        (lambda t: {"draws": t["draws"][0]}, r"draws must have shape \(n, 40, 3\)"),
        (lambda t: {"missing": t["missing"] * 1}, "missing must be a boolean mask"),
        (lambda t: {"missing": t["missing"] & False}, "at least one hidden cell"),
        (lambda t: {"n_cells": 0}, "n_cells=0"),
        (lambda t: {"cells": [(0, 3)]}, "inside the table"),
        (lambda t: {"cells": [0, 1]}, "pairs of whole numbers"),
        (lambda t: {"cells": np.argwhere(~t["missing"])[:1]}, "must be hidden cells"),
        (lambda t: {"feature_names": ["a"]}, "1 names, but X_true has 3 columns"),
    ],
)
def test_errors_say_what_was_expected(table, change, message):
    arguments = dict(zip(["X_true", "draws", "missing"], table, strict=True))
    with pytest.raises(ValueError, match=message):
        DrawsDisplay.from_draws(**{**arguments, **change(arguments)})


def test_bad_level(table):
    display = DrawsDisplay.from_draws(*table, cells=CELLS)
    with pytest.raises(ValueError, match="level must be between 0 and 1, got 90"):
        display.plot(level=90)


def test_categories_are_left_out_and_times_are_shown(table):
    X, _, missing = table
    frame = pd.DataFrame(X, columns=list("abc")).assign(
        kind=["u", "v"] * 20, when=pd.date_range("2020-01-01", periods=40)
    )
    mask = np.column_stack([missing, missing[:, :2]])
    display = DrawsDisplay.from_draws(frame, [frame] * 3, mask, n_cells=1000, random_state=0)
    expected = [f"{frame.columns[j]}, row {i}" for i, j in np.argwhere(mask) if j != 3]
    assert names(display) == expected
    np.testing.assert_allclose(
        line(display, "truth").get_xdata(), line(display, "mean").get_xdata()
    )
    cell = np.argwhere(mask[:, 3])[0][0]
    with pytest.raises(ValueError, match="known truth that is no category"):
        DrawsDisplay.from_draws(frame, [frame] * 3, mask, cells=[(cell, 3)])


def test_missing_matplotlib_is_named(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'sklearn-qavi\[plot\]'"):
        DrawsDisplay.from_draws(*table, cells=CELLS)


def test_matplotlib_is_imported_on_use_only():
    code = "import sys, sklearn_qavi.plotting; print('matplotlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "False"
