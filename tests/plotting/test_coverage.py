"""Empirical coverage and the binomial band against independent computation."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.impute import SimpleImputer

from sklearn_qavi.metrics import interval_coverage
from sklearn_qavi.plotting import CoverageDisplay


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    X, missing = rng.normal(size=(80, 3)), rng.random((80, 3)) < 0.4
    draws = np.where(missing, 1.3 * rng.normal(size=(99, 80, 3)), X)
    return X, draws, missing


def curve(display, start):
    (line,) = [one for one in display.ax_.lines if one.get_label().startswith(start)]
    return line.get_xdata(), line.get_ydata()


def test_curve_is_the_coverage_at_each_level(drawn):
    X, draws, missing = drawn
    display = CoverageDisplay.from_draws(X, draws, missing, name="mine")
    levels, shares = curve(display, f"mine ({missing.sum()} cells)")
    np.testing.assert_allclose(levels, np.arange(1, 20) / 20)
    for level, share in zip(levels, shares, strict=True):
        assert share == pytest.approx(interval_coverage(X, draws, missing, level=level))


def test_band_holds_what_a_binomial_test_does_not_reject(drawn):
    display = CoverageDisplay.from_draws(*drawn)
    (band,) = display.ax_.collections
    n = display.n_cells
    outline = band.get_paths()[0].vertices
    for level in (0.3, 0.5, 0.9):
        y = np.unique(outline[np.isclose(outline[:, 0], level), 1])
        lower, upper = round(y.min() * n), round(y.max() * n)
        assert binomtest(lower, n, level, "less").pvalue >= 0.025
        assert binomtest(lower - 1, n, level, "less").pvalue < 0.025
        assert binomtest(upper, n, level, "greater").pvalue >= 0.025
        assert binomtest(upper + 1, n, level, "greater").pvalue < 0.025


def test_a_second_display_joins_the_first(drawn):
    X, draws, missing = drawn
    first = CoverageDisplay.from_draws(X, draws, missing, name="one")
    second = CoverageDisplay.from_draws(X, 0.1 * draws, missing, name="two", ax=first.ax_)
    assert second.ax_ is first.ax_
    assert len(first.ax_.collections) == 1  # one band
    assert (curve(second, "two")[1] < curve(second, "one")[1]).all()


def test_only_numbers_and_times_that_are_known_count(mixed, incomplete, is_missing, resampler):
    truth = mixed.astype({"flag": object})
    truth.loc[:29, "size"] = np.nan
    seen = incomplete.copy()
    seen.loc[:29, "size"] = np.nan
    display = CoverageDisplay.from_estimator(resampler, seen, truth, n_draws=19)
    expected = is_missing[30:, 0].sum() + is_missing[:, [1, 5, 6]].sum()
    assert display.n_cells == expected
    assert display.name == "Resampler"
    draws = resampler.sample(seen, 19)
    one = CoverageDisplay.from_estimator(resampler, seen, truth, n_draws=19, columns=["count"])
    numbers = np.stack([draw[["count"]].to_numpy(float) for draw in draws])
    mask = is_missing[:, [1]]
    for level, share in zip(one.levels, one.coverage, strict=True):
        assert share == pytest.approx(
            interval_coverage(mixed[["count"]], numbers, mask, level=level)
        )


def test_levels_reach_as_far_as_the_draws(drawn):
    X, draws, missing = drawn
    assert CoverageDisplay.from_draws(X, draws[:9], missing).levels[-1] == pytest.approx(0.8)
    with pytest.raises(ValueError, match=r"9 draws reach intervals of level 0\.800 at most"):
        CoverageDisplay.from_draws(X, draws[:9], missing, levels=[0.9])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, d, m: (X, d[:, :-1], m), r"draws must have shape \(n, 80, 3\)"),
        (lambda X, d, m: (X, d[:1], m), "at least two draws"),
        (lambda X, d, m: (X, d, m[:-1]), "boolean mask of shape"),
        (lambda X, d, m: (X, d, m & False), "both hidden and known"),
    ],
)
def test_errors_say_what_was_expected(drawn, change, message):
    with pytest.raises(ValueError, match=message):
        CoverageDisplay.from_draws(*change(*drawn))


def test_what_has_no_intervals(drawn, mixed, incomplete, resampler):
    X, draws, missing = drawn
    with pytest.raises(ValueError, match="'text' holds categories, which have no intervals"):
        CoverageDisplay.from_estimator(resampler, incomplete, mixed, columns=["text"])
    with pytest.raises(TypeError, match="SimpleImputer has no sample"):
        CoverageDisplay.from_estimator(SimpleImputer().fit(X), X, X)
    with pytest.raises(ValueError, match="levels must be between 0 and 1"):
        CoverageDisplay.from_draws(X, draws, missing, levels=[90])
    with pytest.raises(ValueError, match="band must be between 0 and 1"):
        CoverageDisplay.from_draws(X, draws, missing).plot(band=95)
