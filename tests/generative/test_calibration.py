"""What draws are spread by and means pulled undoes what is wrong, as far as the rows can tell."""

import numpy as np
import pytest

from sklearn_qavi._spread import center_of, spread_column
from sklearn_qavi.generative._calibration import (
    _LOG_FACTORS,
    _crps,
    _interval_score,
    _limits,
    _mean_scores,
    _scores,
    learn_factors,
    learn_pulls,
)

NO_ATOMS = np.array([], dtype=np.float32)


def _problem(
    spread: np.ndarray | float, n_rows: int = 4000, scale: np.ndarray | float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return draws whose deviation is that of the truth times ``spread``, and the truth."""
    rng = np.random.default_rng(0)
    mean = 5.0 * rng.normal(size=(n_rows, 1))
    truth = mean + scale * rng.normal(size=mean.shape)
    return mean + spread * scale * rng.normal(size=(50, n_rows, 1)), truth


@pytest.mark.parametrize("spread", [0.7, 1.0, 1.4])
def test_the_factor_undoes_what_is_too_narrow_or_too_wide(spread: float) -> None:
    draws, truth = _problem(spread)
    factor, _ = learn_factors(draws, truth, np.ones(truth.shape), [NO_ATOMS])
    # seven tenths of the logarithm, within two steps of a grid of 1/8 of an octave
    np.testing.assert_allclose(np.log2(factor[:, 0]), -0.7 * np.log2(spread), atol=2 * 0.7 / 8)


def test_sure_cells_that_are_too_wide_are_drawn_together_and_others_not() -> None:
    # half of the cells ten times as sure as the others, and not sure enough
    sure = np.arange(4000)[:, None] % 2 == 0
    draws, truth = _problem(np.where(sure, 2.0, 1.0), scale=np.where(sure, 0.1, 1.0))
    factor, deviation = learn_factors(draws, truth, np.ones(truth.shape), [NO_ATOMS])
    of_sure, of_others = np.log2(factor[:, 0])
    assert of_sure == pytest.approx(-0.7, abs=2 * 0.7 / 8)
    assert of_others == pytest.approx(0.0, abs=2 * 0.7 / 8)
    # mean distances of normal draws from their median, at the 2nd and 98th percentile of the cells
    np.testing.assert_allclose(deviation[:, 0], np.array([0.2, 1.0]) * 0.8, rtol=0.25)


def test_few_rows_of_a_column_count_less_than_all_columns() -> None:
    narrow, truth = _problem(0.6)
    wide, of_wide = _problem(1.4)
    draws, truth = np.concatenate([narrow, wide], axis=2), np.concatenate([truth, of_wide], axis=1)
    weight = np.ones(truth.shape)
    many, _ = learn_factors(draws, truth, weight, [NO_ATOMS] * 2)
    assert (many[:, 0] > 1.0).all()
    assert (many[:, 1] < 1.0).all()
    weight[20:] = 0.0
    few = learn_factors(draws, truth, weight, [NO_ATOMS] * 2)
    assert (np.ptp(np.log(few[0]), axis=1) < 0.3 * np.ptp(np.log(many), axis=1)).all()
    # the same rows several times say no more
    again = (np.tile(t, (1,) * (t.ndim - 2) + (9, 1)) for t in (draws[:, :20], truth[:20]))
    nine = learn_factors(*again, np.ones((180, 2)), [NO_ATOMS] * 2, 9)
    np.testing.assert_allclose(nine[0], few[0], rtol=1e-12)


def test_cells_that_were_not_hidden_and_atoms_say_nothing() -> None:
    draws, truth = _problem(0.5)
    weight = np.zeros(truth.shape)
    assert (learn_factors(draws, truth, weight, [NO_ATOMS])[0] == 1.0).all()
    whole, atoms = np.round(draws), np.unique(np.round(draws)).astype(np.float32)
    assert (learn_factors(whole, np.round(truth), weight + 1.0, [atoms])[0] == 1.0).all()


@pytest.mark.parametrize("has_atoms", [False, True])
def test_scores_of_all_factors_are_those_of_draws_spread_by_each(has_atoms: bool) -> None:
    draws, truth = (array[..., 0] for array in _problem(0.8, n_rows=30))
    atoms = draws.astype(np.float32).ravel()[:1] if has_atoms else NO_ATOMS
    draws = np.where(draws == draws.flat[0], atoms[0], draws) if has_atoms else draws
    center = center_of(draws)
    spread = [spread_column(draws, center.median, f, atoms) for f in np.exp(_LOG_FACTORS)]
    expected = [
        [_crps(d, truth) for d in spread],
        [_interval_score(_limits(d), truth) for d in spread],
    ]
    np.testing.assert_allclose(_scores(draws, truth, center, atoms), expected, rtol=0, atol=1e-11)


def test_an_interval_pays_for_its_width_and_for_what_it_misses() -> None:
    limits = np.array([[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]])
    score = _interval_score(limits, np.array([1.0, -1.0, 2.5]))
    np.testing.assert_allclose(score, [2.0, 2.0 + 1.0 / 0.05, 2.0 + 0.5 / 0.05])


def test_scores_between_factors_are_linear_and_follow_the_place_of_a_cell() -> None:
    # a score that is the logarithm of the factor itself: the mean is that of the cells' logarithms
    scores = np.broadcast_to(_LOG_FACTORS[None, :, None], (2, len(_LOG_FACTORS), 3))
    place, weight = np.array([-0.3, 0.0, 0.5]), np.array([1.0, 2.0, 1.0])
    mean = _mean_scores(scores, place, weight)
    tried = np.array([-0.2, 0.0, 0.2, 0.4, 0.6])[:, None], _LOG_FACTORS[4:33]
    expected = tried[1] + tried[0] * np.average(place, weights=weight)
    np.testing.assert_allclose(mean, [expected] * 2, atol=1e-12)


def test_means_are_pulled_most_of_the_way_to_what_is_best() -> None:
    rng = np.random.default_rng(0)
    median = rng.normal(size=(4000, 3))
    mean = median + rng.normal(size=median.shape)  # of a few draws far out, in all columns
    weight = np.ones(median.shape)
    truth = np.stack([median[:, 0], mean[:, 1], (median + mean)[:, 2] / 2], axis=1)
    truth += 0.5 * rng.normal(size=truth.shape)
    pull = learn_pulls(mean, median, truth, weight)
    np.testing.assert_allclose(pull, [0.7, 0.0, 0.35], atol=0.7 / 8)
    # cells that were not hidden say nothing, neither do means without an error
    truth[:, 1], weight[:, 2] = mean[:, 1], 0.0
    pull = learn_pulls(mean, median, truth, weight)
    np.testing.assert_allclose(pull, [0.7, 0.0, 0.0], atol=0.7 / 8)


def test_few_rows_are_pulled_like_the_other_columns() -> None:
    rng = np.random.default_rng(1)
    median = rng.normal(size=(1000, 2))
    mean, weight = median + rng.normal(size=median.shape), np.ones(median.shape)
    truth = np.stack([median[:, 0], mean[:, 1]], axis=1) + rng.normal(size=median.shape)
    assert learn_pulls(mean, median, truth, weight)[1] < 0.1
    weight[2:, 1] = 0.0
    assert learn_pulls(mean, median, truth, weight)[1] > 0.1
