"""Noise: uniformity, keys, prefixes."""

import numpy as np
import pytest
import torch
from scipy import stats

from sklearn_qavi._random import derive_seed, row_uniforms, seed_from, sobol_uniform


def test_antithetic_sobol_points_mirror_each_other() -> None:
    u = sobol_uniform(64, 5, seed=0)
    torch.testing.assert_close(u[:32], 1 - u[32:])
    assert ((u > 0) & (u < 1)).all()
    assert stats.kstest(sobol_uniform(512, 1, seed=1).numpy().ravel(), "uniform").pvalue > 0.05
    assert sobol_uniform(0, 3, seed=0).shape == (0, 3)


def test_row_uniforms_are_keyed_by_seed_and_position() -> None:
    both = row_uniforms(5, np.array([3, 9]), 4, 6)
    np.testing.assert_array_equal(row_uniforms(5, np.array([9]), 4, 6)[0], both[1])
    np.testing.assert_array_equal(row_uniforms(5, np.array([3]), 2, 6)[0], both[0, :2])
    assert not np.array_equal(both[0], both[1])
    assert not np.array_equal(row_uniforms(6, np.array([3]), 4, 6)[0], both[0])
    many = row_uniforms(0, np.arange(200), 10, 5)
    assert stats.kstest(many.ravel(), "uniform").pvalue > 0.01
    assert abs(np.corrcoef(many[:-1].ravel(), many[1:].ravel())[0, 1]) < 0.05


@pytest.mark.global_rng
def test_seeds() -> None:
    assert seed_from(3) == seed_from(3)
    assert seed_from(None) != seed_from(None)
    assert derive_seed(1, 2) == derive_seed(1, 2)
    assert len({derive_seed(1, k) for k in range(100)}) == 100
