"""Errors relative to those of the mean, what is left out, and what is drawn of many columns."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from _factories import quick_imputer, with_missing
from sklearn_qavi.plotting import ExpectedErrorDisplay


def table(relative: list[float], mean: float = 2.0) -> pd.DataFrame:
    crps = mean * np.asarray(relative)
    names = [f"x{j}" for j in range(len(crps))]
    return pd.DataFrame(
        {
            "n_cells": 10,
            "crps": crps,
            "crps_mean": mean,
            "crps_neighbors": 0.5 * mean,
            "crps_linear": 0.25 * mean,
        },
        index=names,
    )


def points(display: ExpectedErrorDisplay) -> dict[str, Any]:
    """Return the places of what the legend names."""
    return {str(line.get_label()): line.get_xydata() for line in display.ax_.lines}


def labels(display: ExpectedErrorDisplay) -> list[str]:
    ticks = zip(display.ax_.get_yticks(), display.ax_.get_yticklabels(), strict=True)
    return [label.get_text() for _, label in sorted(ticks, key=lambda tick: -tick[0])]


def test_errors_are_shares_of_that_of_the_mean_and_the_lowest_is_on_top() -> None:
    display = ExpectedErrorDisplay(errors=table([0.9, 0.3, 0.6])).plot()
    assert labels(display) == ["x1", "x2", "x0"]
    drawn = points(display)
    np.testing.assert_allclose(drawn["imputer"][:, 0], [0.3, 0.6, 0.9])
    np.testing.assert_allclose(drawn["nearest neighbors"][:, 0], 0.5)
    np.testing.assert_allclose(drawn["linear models"][:, 0], 0.25)
    np.testing.assert_allclose(drawn["mean"][:, 0], 1.0)
    np.testing.assert_array_equal(drawn["imputer"][:, 1], [2, 1, 0])


def test_columns_without_an_error_to_compare_with_are_left_out() -> None:
    errors = table([0.5, 0.5, 0.5])
    errors.loc["x0", "n_cells"] = 0
    errors.loc["x1", "crps_mean"] = 0.0
    assert list(ExpectedErrorDisplay(errors=errors).relative.index) == ["x2"]
    with pytest.raises(ValueError, match="No column has an error to compare with"):
        ExpectedErrorDisplay(errors=errors.iloc[:2]).plot()


def test_of_many_columns_the_best_and_the_worst_are_drawn() -> None:
    display = ExpectedErrorDisplay(errors=table(list(np.linspace(0.1, 0.9, 9))))
    display.plot(max_columns=5)
    assert labels(display) == ["x0", "x1", "x2", "x7", "x8"]
    assert "5 of 9 columns shown" in display.ax_.get_xlabel()
    with pytest.raises(ValueError, match="max_columns must be at least 2"):
        display.plot(max_columns=1)


def test_errors_far_above_that_of_the_mean_stand_at_the_edge_and_say_so() -> None:
    display = ExpectedErrorDisplay(errors=table([0.5, 40.0])).plot()
    np.testing.assert_allclose(points(display)["imputer"][:, 0], [0.5, 2.0])
    display.figure_.canvas.draw()
    assert "≥2" in [tick.get_text() for tick in display.ax_.get_xticklabels()]
    assert display.relative.loc["x1", "qavi"] == 40.0


def test_of_an_imputer_it_is_what_the_imputer_expects() -> None:
    X = with_missing(np.random.default_rng(0).normal(size=(60, 3)))
    imputer = quick_imputer().fit(X)
    ax = plt.figure().subplots()
    display = ExpectedErrorDisplay.from_estimator(imputer, ax=ax)
    assert display.ax_ is ax
    pd.testing.assert_frame_equal(display.errors, imputer.expected_error())
