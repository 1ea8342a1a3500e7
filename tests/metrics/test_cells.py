"""Scores against closed forms, brute force and known coverage."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from sklearn_qavi.metrics import (
    energy_score,
    interval_coverage,
    interval_width,
    masked_crps,
    masked_mae,
    masked_rmse,
    minimum_nrmse,
)

TRUTH = np.array([[1.0, 10.0, 5.0], [2.0, 20.0, 6.0]])
IMPUTED = np.array([[1.0, 13.0, 5.0], [6.0, 20.0, 6.0]])  # errors 3 and 4 on the scored cells
MISSING = np.array([[False, True, False], [True, False, False]])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def gaussian_crps(y, mean=0.0, sd=1.0):
    """Closed form of the CRPS of a normal distribution, Gneiting and Raftery (2007)."""
    z = (y - mean) / sd
    return sd * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))


def brute_force_crps(truth, draws):
    """Mean over cells of E|X - y| - E|X - X'| / 2, over all pairs of different draws."""
    total = 0.0
    for cell, y in enumerate(truth):
        x = draws[:, cell]
        n = len(x)
        between = sum(abs(a - b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j)
        total += np.mean([abs(a - y) for a in x]) - between / (2 * n * (n - 1))
    return total / len(truth)


def test_rmse_and_mae_by_hand():
    assert masked_rmse(TRUTH, IMPUTED, MISSING) == pytest.approx(np.sqrt((9 + 16) / 2))
    assert masked_mae(TRUTH, IMPUTED, MISSING) == pytest.approx(3.5)


def test_scale_divides_the_errors_of_each_column():
    scale = [2.0, 30.0, 1.0]  # so the errors are 4 / 2 and 3 / 30
    assert masked_rmse(TRUTH, IMPUTED, MISSING, scale=scale) == pytest.approx(
        np.sqrt((2.0**2 + 0.1**2) / 2)
    )
    assert masked_mae(TRUTH, IMPUTED, MISSING, scale=scale) == pytest.approx(1.05)
    assert masked_mae(TRUTH, IMPUTED, MISSING, scale=2.0) == pytest.approx(1.75)


def test_scale_of_draws_is_that_of_the_table(rng):
    X, missing = rng.normal(size=(20, 3)), rng.random((20, 3)) < 0.5
    draws, scale = rng.normal(size=(30, 20, 3)), np.array([1.0, 10.0, 0.1])
    assert masked_crps(X * scale, draws * scale, missing, scale=scale) == pytest.approx(
        masked_crps(X, draws, missing)
    )
    assert interval_width(draws * scale, missing, scale=scale) == pytest.approx(
        interval_width(draws, missing)
    )


def test_crps_of_gaussian_draws_is_the_closed_form(rng):
    truth = np.array([[-2.0, -0.5, 0.0, 0.7, 3.0]])
    missing = np.ones_like(truth, dtype=bool)
    draws = 1.0 + 2.0 * rng.normal(size=(20_000, 1, 5))
    expected = gaussian_crps(truth, mean=1.0, sd=2.0).mean()
    assert masked_crps(truth, draws, missing) == pytest.approx(expected, rel=0.01)


def test_crps_is_unbiased_for_few_draws(rng):
    # the estimator that divides by n squared would give 0.23 + 0.56 / 3 = 0.42 here
    truth = np.zeros((40_000, 1))
    draws = rng.normal(size=(3, 40_000, 1))
    score = masked_crps(truth, draws, np.ones_like(truth, dtype=bool))
    assert score == pytest.approx(gaussian_crps(0.0), abs=0.01)


def test_crps_against_brute_force(rng):
    truth, missing = rng.normal(size=(4, 3)), rng.random((4, 3)) < 0.6
    draws = np.round(rng.normal(size=(7, 4, 3)), 1)  # with ties
    expected = brute_force_crps(truth[missing], draws[:, missing])
    assert masked_crps(truth, draws, missing) == pytest.approx(expected, rel=1e-12)


def test_crps_does_not_depend_on_the_block(rng, monkeypatch):
    truth, missing = rng.normal(size=(10, 3)), rng.random((10, 3)) < 0.6
    draws = rng.normal(size=(7, 10, 3))
    whole = masked_crps(truth, draws, missing)
    monkeypatch.setattr("sklearn_qavi.metrics._cells._BLOCK_CELLS", 4)
    assert masked_crps(truth, draws, missing) == pytest.approx(whole, rel=1e-12)


def test_crps_of_equal_draws_is_the_absolute_error():
    draws = np.stack([IMPUTED] * 5)
    assert masked_crps(TRUTH, draws, MISSING) == pytest.approx(3.5)


def test_crps_is_smallest_for_the_true_distribution(rng):
    truth, missing = rng.normal(size=(2_000, 2)), np.ones((2_000, 2), dtype=bool)
    draws = rng.normal(size=(50, 2_000, 2))
    right = masked_crps(truth, draws, missing)
    for wrong in (0.5 * draws, 2.0 * draws, draws + 0.5):
        assert masked_crps(truth, wrong, missing) > right + 0.01


@pytest.mark.parametrize("n_draws", [19, 20, 100])
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_coverage_of_exchangeable_draws_is_the_level(rng, n_draws, level):
    truth = rng.normal(size=(20_000, 1))
    draws = rng.normal(size=(n_draws, 20_000, 1))
    coverage = interval_coverage(truth, draws, np.ones_like(truth, dtype=bool), level=level)
    assert coverage == pytest.approx(level, abs=0.01)  # standard error 0.0035 at most


def test_coverage_on_known_quantiles():
    # of the draws 1 .. 99 the 90% interval is [5, 95]
    draws = np.arange(1.0, 100.0).reshape(99, 1, 1) * np.ones((1, 1, 5))
    truth = np.array([[4.9, 5.0, 50.0, 95.0, 95.1]])
    missing = np.ones_like(truth, dtype=bool)
    for cell, inside in enumerate([False, True, True, True, False]):
        only = np.arange(5)[None] == cell
        assert interval_coverage(truth, draws, only) == float(inside)
    assert interval_coverage(truth, draws, missing) == pytest.approx(0.6)
    assert interval_width(draws, missing) == pytest.approx(90.0)
    assert interval_width(draws, missing, level=0.5) == pytest.approx(50.0)


def test_width_of_gaussian_draws(rng):
    draws = 3.0 * rng.normal(size=(5_000, 20, 1))
    missing = np.ones((20, 1), dtype=bool)
    expected = 3.0 * 2 * norm.ppf(0.95)
    assert interval_width(draws, missing, level=0.9) == pytest.approx(expected, rel=0.02)


def test_only_missing_cells_count(rng):
    truth, missing = rng.normal(size=(10, 3)), rng.random((10, 3)) < 0.5
    imputed, draws = rng.normal(size=(10, 3)), rng.normal(size=(25, 10, 3))
    before = (
        masked_rmse(truth, imputed, missing),
        masked_mae(truth, imputed, missing),
        masked_crps(truth, draws, missing),
        interval_coverage(truth, draws, missing),
        interval_width(draws, missing),
    )
    truth[~missing], imputed[~missing], draws[:, ~missing] = np.nan, 1e9, np.inf
    after = (
        masked_rmse(truth, imputed, missing),
        masked_mae(truth, imputed, missing),
        masked_crps(truth, draws, missing),
        interval_coverage(truth, draws, missing),
        interval_width(draws, missing),
    )
    assert before == after


def test_dataframes_and_lists_of_them_are_taken(rng):
    draws = rng.normal(size=(25, 2, 3))
    frames = [pd.DataFrame(draw, columns=list("abc")) for draw in draws]
    X, missing = pd.DataFrame(TRUTH, columns=list("abc")), pd.DataFrame(MISSING)
    assert masked_crps(X, frames, missing) == masked_crps(TRUTH, draws, MISSING)
    assert interval_coverage(X, frames, missing) == interval_coverage(TRUTH, draws, MISSING)
    assert masked_rmse(X, pd.DataFrame(IMPUTED), missing) == masked_rmse(TRUTH, IMPUTED, MISSING)


def test_inputs_are_not_changed(rng):
    truth, draws, missing = TRUTH.copy(), rng.normal(size=(25, 2, 3)), MISSING.copy()
    kept = draws.copy()
    for array in (truth, draws, missing):
        array.flags.writeable = False
    masked_crps(truth, draws, missing, scale=[1.0, 2.0, 3.0])
    interval_coverage(truth, draws, missing)
    np.testing.assert_array_equal(draws, kept)


DRAWS = np.zeros((25, 2, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: masked_rmse(TRUTH, IMPUTED[:, :2], MISSING), r"X_imputed has shape \(2, 2\)"),
        (lambda: masked_rmse(TRUTH[0], IMPUTED, MISSING), "X_true must have two dimensions"),
        (lambda: masked_rmse(TRUTH, IMPUTED, MISSING[:1]), r"missing has shape \(1, 3\)"),
        (lambda: masked_rmse(TRUTH, IMPUTED, MISSING * 1.0), "boolean mask.*np.isnan"),
        (lambda: masked_rmse(TRUTH, IMPUTED, MISSING & False), "marks no cell"),
        (lambda: masked_mae(TRUTH * np.nan, IMPUTED, MISSING), "X_true holds NaN.*2 of 2"),
        (lambda: masked_mae(TRUTH, IMPUTED * np.nan, MISSING), "X_imputed holds NaN"),
        (lambda: masked_mae(TRUTH, IMPUTED, MISSING, scale=[1.0, 0.0, 1.0]), "scale must be pos"),
        (lambda: masked_mae(TRUTH, IMPUTED, MISSING, scale=[1.0, 2.0]), "each of the 3 columns"),
        (lambda: masked_crps(TRUTH, IMPUTED, MISSING), "at least two tables.*masked_mae"),
        (lambda: masked_crps(TRUTH, DRAWS[:1], MISSING), "at least two tables"),
        (lambda: masked_crps(TRUTH[:1], DRAWS, MISSING[:1]), r"draws holds tables of shape \(2, 3"),
        (lambda: interval_coverage(TRUTH, DRAWS[:18], MISSING), "at least 19 draws, got 18"),
        (lambda: interval_width(DRAWS, MISSING, level=0.95), "at least 39 draws, got 25"),
        (lambda: interval_width(DRAWS, MISSING, level=90), "level must be between 0 and 1, got 90"),
    ],
)
def test_errors_say_what_was_expected_and_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_energy_score_of_one_cell_a_row_is_the_crps():
    rng = np.random.default_rng(0)
    truth, draws = rng.normal(size=(300, 3)), rng.normal(size=(12, 300, 3))
    missing = np.zeros((300, 3), dtype=bool)
    missing[np.arange(300), rng.integers(3, size=300)] = True
    missing[7] = False  # a row without a cell to score does not count
    assert energy_score(truth, draws, missing) == pytest.approx(masked_crps(truth, draws, missing))


def test_energy_score_prefers_draws_that_go_together():
    rng = np.random.default_rng(0)
    missing = np.ones((400, 2), dtype=bool)
    common, alone = rng.normal(size=(61, 400, 1)), rng.normal(size=(61, 400, 2))
    truth, *right = 0.95 * common + np.sqrt(1 - 0.95**2) * alone
    wrong = np.array(right)
    wrong[:, :, 1] = np.roll(wrong[:, :, 1], 1, axis=0)  # with the next draw's first cell
    assert energy_score(truth, right, missing) < energy_score(truth, wrong, missing) - 0.02
    # each cell alone has the same draws, so the CRPS cannot tell
    assert masked_crps(truth, right, missing) == pytest.approx(masked_crps(truth, wrong, missing))


def test_energy_score_is_unbiased_for_any_number_of_draws():
    rng = np.random.default_rng(0)
    truth, missing = rng.normal(size=(4000, 2)), np.ones((4000, 2), dtype=bool)
    few = energy_score(truth, rng.normal(size=(3, 4000, 2)), missing)
    many = energy_score(truth, rng.normal(size=(60, 4000, 2)), missing)
    assert few == pytest.approx(many, abs=0.03)


def test_minimum_nrmse_takes_the_best_draw_of_each_row():
    truth = [[0.0, 0.0], [0.0, 5.0], [9.0, 9.0]]
    draws = [[[3.0, 3.0], [2.0, 99.0], [0.0, 0.0]], [[1.0, -1.0], [4.0, 99.0], [0.0, 0.0]]]
    missing = [[True, True], [True, False], [False, False]]
    assert minimum_nrmse(truth, draws, np.array(missing)) == pytest.approx((1.0 + 2.0) / 2)
    halved = minimum_nrmse(truth, draws, np.array(missing), scale=2.0)
    assert halved == pytest.approx(0.75)
