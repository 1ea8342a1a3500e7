"""Density, bars, interval and truth of one cell against the draws."""

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import trapezoid
from sklearn.impute import SimpleImputer

from sklearn_qavi.plotting import CellDisplay


def number_display(draws, **options):
    return CellDisplay(
        draws=np.asarray(draws, dtype=float), kind="numbers", name="a", row=0, **options
    ).plot()


def area_of(display):
    (filled,) = [c for c in display.ax_.collections if c.get_label() == "density"]
    outline = filled.get_paths()[0].vertices
    n = len(outline) // 2
    return outline[1:n], trapezoid(outline[1:n, 1], outline[1:n, 0])


def interval_of(display):
    (line,) = [c for c in display.ax_.collections if "interval" in c.get_label()]
    return line.get_segments()[0][:, 0]


def missing_row(incomplete, name):
    return int(np.flatnonzero(incomplete[name].isna())[0])


def test_density_integrates_to_one_and_follows_the_draws():
    rng = np.random.default_rng(0)
    draws = rng.normal(3.0, 2.0, size=4000)
    outline, area = area_of(number_display(draws))
    assert area == pytest.approx(1.0, abs=0.01)
    expected = np.exp(-0.5 * ((outline[:, 0] - 3.0) / 2.0) ** 2) / (2.0 * np.sqrt(2 * np.pi))
    assert np.abs(outline[:, 1] - expected).max() < 0.02


def test_density_stays_within_the_draws():
    draws = np.random.default_rng(0).uniform(0.0, 1.0, size=4000)
    outline, area = area_of(number_display(draws))
    assert outline[:, 0].min() >= 0.0
    assert area == pytest.approx(1.0, abs=0.01)
    assert outline[:, 1].min() > 0.8  # no fall towards the ends, which reflection prevents


def test_a_repeated_value_is_a_point_mass():
    rng = np.random.default_rng(0)
    draws = np.concatenate([np.zeros(300), rng.normal(5.0, 1.0, size=700)])
    display = number_display(draws)
    (stems,) = [c for c in display.ax_.collections if c.get_label() == "repeated values"]
    assert [s[0, 0] for s in stems.get_segments()] == [0.0]
    assert [t.get_text() for t in display.ax_.texts] == ["30%"]
    assert area_of(display)[1] == pytest.approx(0.7, abs=0.01)


def test_all_draws_alike():
    display = number_display(np.full(20, 4.5))
    assert [t.get_text() for t in display.ax_.texts] == ["100%"]
    np.testing.assert_allclose(interval_of(display), [4.5, 4.5])


def test_whole_numbers_have_bars_of_their_shares():
    draws = np.array([2, 3, 3, 5, 5, 5, 5, 5])
    ax = number_display(draws, whole=True).ax_
    centers = [bar.get_x() + bar.get_width() / 2 for bar in ax.patches]
    np.testing.assert_allclose(centers, [2, 3, 5])
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], [0.125, 0.25, 0.625])


def test_interval_and_truth():
    display = number_display(np.arange(1.0, 100.0), truth=12.5)
    np.testing.assert_allclose(interval_of(display), [5.0, 95.0])
    np.testing.assert_allclose(interval_of(display.plot(level=0.5)), [25.0, 75.0])
    (truth,) = [line for line in display.ax_.lines if line.get_label() == "truth"]
    assert list(truth.get_xdata()) == [12.5, 12.5]


@pytest.mark.parametrize("name", ["size", "count", "text", "grade", "flag", "date", "wait"])
def test_only_the_row_is_drawn_and_as_in_the_whole_table(incomplete, resampler, mixed, name):
    row = missing_row(incomplete, name)
    options = {"row": row, "column": name, "truth": mixed[name][row]}
    one = CellDisplay.from_estimator(resampler, incomplete, n_draws=30, **options)
    draws = resampler.sample(incomplete, 30)
    whole = CellDisplay.from_draws(incomplete, draws, **options)
    np.testing.assert_array_equal(one.draws, whole.draws)
    assert one.truth == whole.truth
    if one.kind == "categories":
        assert [one.categories[int(k)] for k in one.draws] == [draw[name][row] for draw in draws]
        assert one.categories[int(one.truth)] == mixed[name][row]
    one.figure_.canvas.draw()


def test_categories_are_bars_of_shares_with_the_truth_marked(incomplete, resampler):
    row = missing_row(incomplete, "text")
    draws = resampler.sample(incomplete, 40)
    ax = CellDisplay.from_draws(incomplete, draws, row=row, column="text", truth="yes").ax_
    labels = [label.get_text() for label in ax.get_xticklabels()]
    drawn = [draw["text"][row] for draw in draws]
    heights = [bar.get_height() for bar in ax.patches]
    np.testing.assert_allclose(heights, [drawn.count(label) / 40 for label in labels])
    (truth,) = [line for line in ax.lines if line.get_label() == "truth"]
    assert labels[int(truth.get_xdata()[0])] == "yes"


def test_an_unlikely_truth_is_among_the_categories_that_are_shown():
    categories = tuple(f"l{k:02d}" for k in range(30))
    draws = np.repeat(np.arange(29.0), 2)
    ax = (
        CellDisplay(
            draws=draws, kind="categories", name="a", row=0, categories=categories, truth=29.0
        )
        .plot()
        .ax_
    )
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels[-2:] == ["l29", "18 others"]
    assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"row": 60, "column": "size"}, "row must be a position from 0 to 59"),
        ({"row": -1, "column": "size"}, "row must be a position"),
        ({"row": 0, "column": "nothing"}, "'nothing' is not among the columns"),
        ({"row": None, "column": "size"}, "is observed in row"),
        ({"row": None, "column": "text", "truth": "of course"}, "none of the categories"),
        ({"row": None, "column": "date", "truth": 3.0}, "holds dates, but truth is 3.0"),
    ],
)
def test_errors_say_what_was_expected(incomplete, resampler, options, message):
    if options["row"] is None:
        name = options["column"]
        cells = incomplete[name].notna() if "truth" not in options else incomplete[name].isna()
        options = {**options, "row": int(np.flatnonzero(cells)[0])}
    with pytest.raises(ValueError, match=message):
        CellDisplay.from_estimator(resampler, incomplete, n_draws=5, **options)


def test_what_cannot_be_drawn():
    X = pd.DataFrame({"a": [1.0, np.nan, 3.0]})
    with pytest.raises(TypeError, match="SimpleImputer has no sample"):
        CellDisplay.from_estimator(SimpleImputer().fit(X), X, row=1, column="a")
    with pytest.raises(ValueError, match="At least two draws"):
        CellDisplay.from_draws(X, [X.fillna(2.0)], row=1, column="a")
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        number_display([1.0, 2.0]).plot(level=90)
    with pytest.raises(ValueError, match=r"kind must be one of .*'numbers'.* got 'number'"):
        CellDisplay(draws=np.array([1.0, 2.0]), kind="number", name="a", row=0).plot()
