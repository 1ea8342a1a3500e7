"""The factor that draws are spread by undoes what is wrong, as far as the rows can tell."""

import numpy as np
import pytest

from sklearn_qavi._spread import spread_column
from sklearn_qavi.generative._calibration import _FACTORS, _crps, _scores, learn_factors

NO_ATOMS = np.array([], dtype=np.float32)


def _problem(spread: float, n_rows: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Return draws whose deviation is that of the truth times ``spread``, and the truth."""
    rng = np.random.default_rng(0)
    mean = 5.0 * rng.normal(size=(n_rows, 1))
    truth = mean + rng.normal(size=mean.shape)
    return mean + spread * rng.normal(size=(50, n_rows, 1)), truth


@pytest.mark.parametrize("spread", [0.7, 1.0, 1.4])
def test_the_factor_undoes_what_is_too_narrow_or_too_wide(spread: float) -> None:
    draws, truth = _problem(spread)
    (factor,) = learn_factors(draws, truth, np.ones(truth.shape), [NO_ATOMS])
    # seven tenths of the logarithm, within two steps of a grid of 1/12 of an octave
    assert np.log2(factor) == pytest.approx(-0.7 * np.log2(spread), abs=2 * 0.7 / 12)


def test_few_rows_of_a_column_count_less_than_all_columns() -> None:
    narrow, truth = _problem(0.6)
    wide, of_wide = _problem(1.4)
    draws, truth = np.concatenate([narrow, wide], axis=2), np.concatenate([truth, of_wide], axis=1)
    weight = np.ones(truth.shape)
    many = learn_factors(draws, truth, weight, [NO_ATOMS] * 2)
    assert many[0] > 1.0 > many[1]
    weight[20:] = 0.0
    few = learn_factors(draws, truth, weight, [NO_ATOMS] * 2)
    assert np.ptp(np.log(few)) < 0.3 * np.ptp(np.log(many))
    # the same rows several times say no more
    again = (np.tile(t, (1,) * (t.ndim - 2) + (9, 1)) for t in (draws[:, :20], truth[:20]))
    nine = learn_factors(*again, np.ones((180, 2)), [NO_ATOMS] * 2, 9)
    np.testing.assert_array_equal(nine, few)


def test_cells_that_were_not_hidden_and_atoms_say_nothing() -> None:
    draws, truth = _problem(0.5)
    weight = np.zeros(truth.shape)
    assert learn_factors(draws, truth, weight, [NO_ATOMS]) == 1.0
    whole, atoms = np.round(draws), np.unique(np.round(draws)).astype(np.float32)
    assert learn_factors(whole, np.round(truth), weight + 1.0, [atoms]) == 1.0


@pytest.mark.parametrize("has_atoms", [False, True])
def test_scores_of_all_factors_are_those_of_draws_spread_by_each(has_atoms: bool) -> None:
    draws, truth = (array[..., 0] for array in _problem(0.8, n_rows=30))
    atoms = draws.astype(np.float32).ravel()[:1] if has_atoms else NO_ATOMS
    draws = np.where(draws == draws.flat[0], atoms[0], draws) if has_atoms else draws
    spread = [spread_column(draws, draws.mean(axis=0), factor, atoms) for factor in _FACTORS]
    expected = [_crps(moved, truth) for moved in spread]
    np.testing.assert_allclose(_scores(draws, truth, atoms), expected, rtol=0, atol=1e-12)
