"""Pools of decoders, modes, and densities of what was hidden."""

import numpy as np
import pytest
import torch

from _linear_gaussian import LinearGaussian
from sklearn_qavi import _plan
from sklearn_qavi.generative import PretrainedDecoder
from sklearn_qavi.inference import Adam, Context, Gaussian
from sklearn_qavi.sampling import DecoderPool, PooledPosterior, half_sample_mode


def _pool(models: list[LinearGaussian], settings: Adam | None = None) -> DecoderPool:
    members = [
        PretrainedDecoder(m.decoder(), "gaussian", m.n_features).decoders_[0] for m in models
    ]
    method = Gaussian(optimizer=settings or Adam())
    return DecoderPool(members, method, [None] * len(members), Context())


def _constant(level: float) -> LinearGaussian:
    """Return a decoder of one column that is near ``level`` whatever the code."""
    return LinearGaussian(np.full((1, 1), 1e-6), np.array([level]), np.array([0.1]))


def _infer(pool: DecoderPool, n_rows: int) -> PooledPosterior:
    return pool.infer(torch.zeros(n_rows, 1), torch.zeros(n_rows, 1, dtype=torch.bool))


def test_draws_visit_every_decoder_equally() -> None:
    pooled = _infer(_pool([_constant(0.0), _constant(10.0), _constant(20.0)]), 40)
    draws = pooled.keyed_draws(9, np.arange(40), seed=0)[:, :, 0]
    levels = np.round(draws / 10)
    for level in range(3):
        assert ((levels == level).sum(0) == 3).all()
    # a single draw comes from any of them, depending on the row
    assert set(np.unique(levels[0])) == {0.0, 1.0, 2.0}
    assert pooled.mean()[0, 0] == pytest.approx(10.0, abs=0.01)
    in_turn = pooled.keyed_draws(9, np.arange(40), seed=0, in_turn=True)[:, :, 0]
    np.testing.assert_array_equal(np.round(in_turn / 10), np.tile([[0], [1], [2]], (3, 40)))
    later = pooled.keyed_draws(4, np.arange(40), seed=0, first=4, in_turn=True)[:, :, 0]
    np.testing.assert_array_equal(later, in_turn[4:8])
    shared = np.round(pooled.shared_draws(30)[:, 0, 0] / 10)
    assert [(shared == level).sum() for level in range(3)] == [10, 10, 10]


def test_predictive_density_is_the_exact_conditional_of_a_linear_model() -> None:
    model = LinearGaussian.random(3, 1)
    x = model.draw_rows(6)
    observed = np.array([[True, True, False]] * 6)
    pool = _pool([model], Adam(max_iter=600, n_draws=16, min_learning_rate=0.003, tol=0.003))
    values = torch.tensor(x, dtype=torch.float32)
    density = pool.infer(values, torch.tensor(observed)).log_predictive(values, n_codes=1024)
    for i in range(6):
        mean, covariance = model.missing_given_observed(x[i], observed[i])
        exact = -0.5 * ((x[i, 2] - mean[0]) ** 2 / covariance[0, 0])
        exact -= 0.5 * np.log(2 * np.pi * covariance[0, 0])
        assert density[i, 2] == pytest.approx(exact, abs=0.05)


def test_density_of_a_pool_is_the_mean_density() -> None:
    pools = [[_constant(0.0)], [_constant(0.3)], [_constant(0.0), _constant(0.3)]]
    x = torch.tensor([[0.2]])
    first, second, both = (_infer(_pool(models), 1).log_predictive(x)[0, 0] for models in pools)
    assert both == pytest.approx(np.log((np.exp(first) + np.exp(second)) / 2), abs=1e-4)


def test_half_sample_mode_finds_peaks_and_atoms() -> None:
    rng = np.random.default_rng(0)
    skewed = rng.gamma(3.0, size=(4000, 2))  # mode 2, mean 3
    assert half_sample_mode(skewed) == pytest.approx([2.0, 2.0], abs=0.5)
    with_atom = np.where(rng.random(500) < 0.3, 7.0, rng.normal(size=500) * 5)
    assert half_sample_mode(with_atom) == 7.0
    assert half_sample_mode(np.array([4.0])) == 4.0


def test_draws_and_means_do_not_depend_on_how_many_codes_are_decoded_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = _pool([LinearGaussian.random(3, 2), LinearGaussian.random(3, 2)])
    posterior = pool.infer(torch.ones(5, 3), torch.tensor([[True, False, True]] * 5))
    whole = posterior.keyed_draws(7, np.arange(5), seed=0), posterior.shared_draws(9)
    whole += (posterior.mean(),)
    monkeypatch.setattr(_plan, "_CPU_DECODED", 1)
    parts = posterior.keyed_draws(7, np.arange(5), seed=0), posterior.shared_draws(9)
    parts += (posterior.mean(),)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)  # rounding in single precision
