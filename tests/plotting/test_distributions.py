"""Histograms and bars against counting by hand, for every kind of column and container."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib.patches import Polygon, Rectangle
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from _factories import tiny_imputer
from sklearn_qavi.plotting import DistributionDisplay


def panel(display, name):
    (found,) = [ax for ax in display.axes_ if ax.get_title().startswith(f"{name} (")]
    return found


def observed_bars(ax):
    return [p for p in ax.patches if isinstance(p, Rectangle) and p.get_alpha() is not None]


def days(times):
    return (times - pd.Timestamp("1970-01-01")) / pd.Timedelta("1D")


def values_of(series):
    if series.dtype.kind == "M":
        return days(series).to_numpy()
    if series.dtype.kind == "m":
        return (series / pd.Timedelta("1D")).to_numpy()
    return series.to_numpy(dtype=float)


@pytest.mark.parametrize("name", ["size", "count", "date", "wait"])
def test_numbers_are_two_histograms_over_the_same_bins(incomplete, is_missing, resampler, name):
    draws = resampler.sample(incomplete, 7)
    ax = panel(DistributionDisplay.from_draws(incomplete, draws), name)
    hidden = is_missing[:, incomplete.columns.get_loc(name)]
    observed = values_of(incomplete[name])[~hidden]
    imputed = np.concatenate([values_of(draw[name])[hidden] for draw in draws])
    bars = observed_bars(ax)
    both = np.concatenate([observed, imputed])
    margin = 0.5 if name == "count" else 0.0
    edges = np.linspace(both.min() - margin, both.max() + margin, len(bars) + 1)
    np.testing.assert_allclose([b.get_x() for b in bars], edges[:-1], atol=1e-9)
    heights = [b.get_height() for b in bars]
    np.testing.assert_allclose(heights, np.histogram(observed, edges, density=True)[0], atol=1e-12)
    (step,) = [p for p in ax.patches if isinstance(p, Polygon)]
    outline = step.get_xy()[1:-1:2, 1]
    np.testing.assert_allclose(
        outline[: len(bars)], np.histogram(imputed, edges, density=True)[0], atol=1e-12
    )


def test_whole_numbers_have_a_bin_each(incomplete, resampler):
    ax = panel(DistributionDisplay.from_estimator(resampler, incomplete), "count")
    assert {b.get_width() for b in observed_bars(ax)} == {1.0}


@pytest.mark.parametrize("name", ["text", "grade", "flag"])
def test_categories_are_two_bars_each(incomplete, is_missing, resampler, name):
    draws = resampler.sample(incomplete, 7)
    ax = panel(DistributionDisplay.from_draws(incomplete, draws), name)
    labels = [label.get_text() for label in ax.get_xticklabels()]
    expected = {"text": ["maybe", "no", "yes"], "grade": ["low", "mid", "high"]}
    assert labels == expected.get(name, ["False", "True"])
    hidden = is_missing[:, incomplete.columns.get_loc(name)]
    observed = [str(v) for v in incomplete[name][~hidden]]
    imputed = [str(v) for draw in draws for v in draw[name][hidden]]
    for values, bars in zip([observed, imputed], ax.containers, strict=True):
        shares = [values.count(label) / len(values) for label in labels]
        np.testing.assert_allclose([bar.get_height() for bar in bars], shares)


def test_many_categories_share_a_last_bar():
    rng = np.random.default_rng(0)
    weight = np.arange(1.0, 31.0)
    words = rng.choice([f"w{k:02d}" for k in range(30)], 400, p=weight / weight.sum())
    truth = pd.DataFrame({"word": words})
    X = truth.mask(rng.random((400, 1)) < 0.3)
    ax = DistributionDisplay.from_draws(X, [truth]).ax_
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels[-1] == "20 others"
    for bars in ax.containers:
        assert sum(bar.get_height() for bar in bars) == pytest.approx(1.0)
    counts = X["word"].value_counts(normalize=True)
    for label, bar in zip(labels[:-1], ax.containers[0], strict=False):
        assert bar.get_height() == pytest.approx(counts.get(label, 0.0))


def test_categories_that_only_the_draws_have_are_put_in_order():
    X = pd.DataFrame({"a": ["b", "d", None]})
    draws = [X.fillna("c"), X.fillna("a"), X.fillna("c")]
    ax = DistributionDisplay.from_draws(X, draws).ax_
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c", "d"]
    heights = [[bar.get_height() for bar in bars] for bars in ax.containers]
    np.testing.assert_allclose(heights, [[0, 0.5, 0, 0.5], [1 / 3, 0, 2 / 3, 0]])


def test_containers_give_the_same_picture(incomplete, resampler):
    draws = resampler.sample(incomplete, 3)
    pandas = DistributionDisplay.from_draws(incomplete, draws)
    objects = [draw.astype(object).to_numpy() for draw in draws]
    array = DistributionDisplay.from_draws(
        incomplete.astype(object).to_numpy(), objects, feature_names=incomplete.columns
    )

    def in_polars(frame):
        return pl.DataFrame(
            {n: [None if pd.isna(v) else v for v in frame[n].tolist()] for n in frame.columns}
        )

    polars = DistributionDisplay.from_draws(in_polars(incomplete), [in_polars(d) for d in draws])
    for other in (array, polars):
        for mine, theirs in zip(pandas.columns, other.columns, strict=True):
            assert mine.column.name == theirs.column.name
            if mine.column.name != "grade":  # its order is not known there
                np.testing.assert_allclose(mine.draws, theirs.draws, rtol=1e-9)
                np.testing.assert_allclose(mine.column.values, theirs.column.values, rtol=1e-9)


def test_draws_in_another_order_of_columns(incomplete, resampler):
    draws = resampler.sample(incomplete, 2)
    turned = [draw[draw.columns[::-1]] for draw in draws]
    mine, other = (DistributionDisplay.from_draws(incomplete, d) for d in (draws, turned))
    for a, b in zip(mine.columns, other.columns, strict=True):
        np.testing.assert_array_equal(a.draws, b.draws)


def test_an_imputer_without_draws_is_shown_with_its_values():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    X[:10, 2], X[:, 1] = np.nan, np.nan  # the second column is dropped
    imputer = SimpleImputer().fit(X)
    with pytest.warns(UserWarning, match="Skipping features without any observed values"):
        display = DistributionDisplay.from_estimator(imputer, X)
    assert [one.column.name for one in display.columns] == ["x2"]
    np.testing.assert_allclose(display.columns[0].draws[0, :10], X[10:, 2].mean())
    with (
        pytest.warns(UserWarning, match="Skipping features"),
        pytest.raises(ValueError, match="'x1' is not part of the completed tables"),
    ):
        DistributionDisplay.from_estimator(imputer, X, columns=["x1"])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_imputer_says_which_numbers_are_categories():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=60), rng.integers(0, 3, size=60)])
    X[:20, 1] = np.nan
    imputer = tiny_imputer(column_types={1: "nominal"}, max_iter=None).fit(X)
    display = DistributionDisplay.from_estimator(imputer, X, n_draws=5)
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["0.0", "1.0", "2.0"]
    drawn = imputer.sample(X, n=5)[:, :20, 1]
    shares = [bar.get_height() for bar in display.ax_.containers[1]]
    np.testing.assert_allclose(shares, [(drawn == k).mean() for k in range(3)])


def test_an_empty_column_shows_what_was_imputed():
    X = pd.DataFrame({"a": [None] * 4, "b": [1.0, 2.0, 3.0, 4.0]})
    ax = DistributionDisplay.from_draws(X, [X.fillna({"a": 0.0})], columns=["a"]).ax_
    assert ax.get_legend_handles_labels()[1] == ["imputed"]
    words = X.assign(a=["u", "v", "v", "v"])
    ax = DistributionDisplay.from_draws(X, [words], columns=["a"]).ax_
    (bars,) = ax.containers
    assert [bar.get_height() for bar in bars] == [0.25, 0.75]


def test_the_columns_that_miss_most_are_shown():
    X = np.arange(300.0).reshape(20, 15)
    truth = X.copy()
    for j in range(15):
        X[: j + 1, j] = np.nan
    display = DistributionDisplay.from_draws(X, [truth])
    assert [one.column.name for one in display.columns] == [f"x{j}" for j in range(3, 15)]
    display = DistributionDisplay.from_draws(X, [truth], columns=["x1", -1])
    assert [ax.get_title() for ax in display.axes_] == [
        "x1 (2 of 20 missing)",
        "x14 (15 of 20 missing)",
    ]


def test_axes_are_divided_or_taken(incomplete, resampler):
    draws = resampler.sample(incomplete, 2)
    figure, axes = plt.subplots(1, 2)
    display = DistributionDisplay.from_draws(incomplete, draws, columns=[0, 2], ax=axes)
    assert list(display.axes_) == list(axes)
    display.plot(axes[0])
    assert len(display.axes_) == 2
    assert display.figure_ is figure
    with pytest.raises(ValueError, match="Expected 2 axes"):
        display.plot(axes[:1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, d: (X, [d[0].iloc[1:]]), r"draws must have shape \(n, 60, 7\)"),
        (lambda X, d: (X, []), r"draws must have shape \(n, 60, 7\).*got none"),
        (lambda X, d: (X, d[0].to_numpy()), r"draws must have shape \(n, 60, 7\)"),
        (lambda X, d: (X, [X]), "have missing cells"),
        (lambda X, d: (d[0], d[:1]), "No cell of the table is missing"),
        (lambda X, d: (X, [d[0].assign(size=d[0]["size"] + 1)]), "Observed cells.*'size' differ"),
        (lambda X, d: (X.assign(size=np.inf), d), "'size' holds infinity"),
    ],
)
def test_errors_say_what_was_expected(incomplete, resampler, change, message):
    X, draws = change(incomplete, resampler.sample(incomplete, 2))
    with pytest.raises(ValueError, match=message):
        DistributionDisplay.from_draws(X, draws)


def test_unknown_and_complete_columns(incomplete, resampler):
    draws = resampler.sample(incomplete, 2)
    with pytest.raises(ValueError, match="column 'weight' is not among the columns"):
        DistributionDisplay.from_draws(incomplete, draws, columns=["weight"])
    with pytest.raises(ValueError, match="column 7 lies outside"):
        DistributionDisplay.from_draws(incomplete, draws, columns=[7])
    full = incomplete.assign(size=1.0)
    with pytest.raises(ValueError, match="'size' has no missing cell"):
        DistributionDisplay.from_draws(full, draws, columns=["size"])


def test_a_pipeline_that_changes_units_is_refused():
    X = np.random.default_rng(0).normal(3.0, 2.0, size=(30, 2))
    X[:5, 0] = np.nan
    pipe = make_pipeline(StandardScaler(), SimpleImputer()).fit(X)
    with pytest.raises(ValueError, match="Pass the table that the imputer itself was handed"):
        DistributionDisplay.from_estimator(pipe, X)
