"""Noise: uniformity, keys, prefixes."""

import numpy as np
import pytest
import torch
from scipy import stats

from sklearn_qavi import _plan
from sklearn_qavi._random import (
    SobolPoints,
    derive_seed,
    philox,
    row_uniforms,
    seed_from,
    sobol_uniform,
    uniform_from_bits,
)


def test_antithetic_sobol_points_mirror_each_other() -> None:
    u = sobol_uniform(64, 5, seed=0)
    torch.testing.assert_close(u[:32], 1 - u[32:])
    assert ((u > 0) & (u < 1)).all()
    assert stats.kstest(sobol_uniform(512, 1, seed=1).numpy().ravel(), "uniform").pvalue > 0.05
    assert sobol_uniform(0, 3, seed=0).shape == (0, 3)


@pytest.mark.parametrize("antithetic", [True, False])
@pytest.mark.parametrize(("n_draws", "n_dims"), [(37, 5), (3, 21_210), (0, 2)])
def test_points_in_parts_are_those_of_one_piece(
    n_draws: int, n_dims: int, antithetic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = sobol_uniform(n_draws, n_dims, 5, antithetic=antithetic)
    for held in (2**22, 0):
        monkeypatch.setattr(_plan, "_POINTS", held)
        points = SobolPoints(n_draws, n_dims, 5, antithetic=antithetic)
        parts = list(points.parts(8, cuts=[11, 12] if n_draws > 12 else []))
        assert all(len(part) <= 8 for part in parts)
        if n_draws:
            torch.testing.assert_close(torch.cat(parts), expected, rtol=0, atol=0)
    if n_draws > 12:
        assert [len(part) for part in parts] == [8, 3, 1, 8, 8, 8, 1]


def test_row_uniforms_are_keyed_by_seed_and_position() -> None:
    both = row_uniforms(5, np.array([3, 9]), 4, 6).numpy()
    np.testing.assert_array_equal(row_uniforms(5, np.array([9]), 4, 6)[0].numpy(), both[1])
    np.testing.assert_array_equal(row_uniforms(5, np.array([3]), 2, 6)[0].numpy(), both[0, :2])
    assert not np.array_equal(both[0], both[1])
    assert not np.array_equal(row_uniforms(6, np.array([3]), 4, 6)[0].numpy(), both[0])
    many = row_uniforms(0, np.arange(200), 10, 5).numpy()
    assert stats.kstest(many.ravel(), "uniform").pvalue > 0.01
    assert abs(np.corrcoef(many[:-1].ravel(), many[1:].ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("seed", [0, 5, 2**31 - 2, 2**63 - 1])
def test_philox_of_many_rows_is_that_of_numpy(seed: int) -> None:
    positions, counter = np.array([0, 1, 77, 2**31, 2**40 + 3]), np.array([0, 1, 2, 1000])
    bits = philox(seed, torch.from_numpy(positions), torch.from_numpy(counter)).numpy()
    for i, position in enumerate(positions):
        key = np.array([seed, position], dtype=np.uint64)
        for j, block in enumerate(counter):
            expected = np.random.Philox(key=key).advance(int(block)).random_raw(4)
            np.testing.assert_array_equal(bits[i, j].view(np.uint64), expected)


@pytest.mark.parametrize("first", [0, 3, 8])
def test_all_devices_make_the_numbers_of_numpys_generator(first: int) -> None:
    positions = np.array([4, 0, 2**33])
    ours = row_uniforms(7, positions, 5, 3, first=first)
    for row, position in zip(ours, positions, strict=True):
        bits = np.random.Philox(key=np.array([7, position], dtype=np.uint64))
        expected = np.random.Generator(bits).random((first + 5, 3))[first:]
        np.testing.assert_array_equal(row.numpy(), expected)
    blocks, rest = divmod(3 * first, 4)
    counter = torch.arange(blocks, blocks + 5)
    bits = philox(7, torch.from_numpy(positions), counter).flatten(1)[:, rest : rest + 15]
    assert uniform_from_bits(bits).view(3, 5, 3).equal(ours)


@pytest.mark.global_rng
def test_seeds() -> None:
    assert seed_from(3) == seed_from(3)
    assert seed_from(None) != seed_from(None)
    assert derive_seed(1, 2) == derive_seed(1, 2)
    assert len({derive_seed(1, k) for k in range(100)}) == 100
