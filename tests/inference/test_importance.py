"""Pareto smoothing agrees with arviz-stats; weights and resampling with closed forms."""

import math

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats
from torch import Tensor

from sklearn_qavi.inference._importance import (
    effective_sample_size,
    pareto_smooth,
    systematic_resample,
)


def _normal(n_draws: int, n_rows: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_draws, n_rows, generator=generator, dtype=torch.float64)


def _log_pareto(n_draws: int, n_rows: int, k: float, seed: int = 0) -> Tensor:
    """Return log weights whose tail is a generalised Pareto of shape k: U^-k, or 2 - U^-k."""
    generator = torch.Generator().manual_seed(seed)
    power = torch.rand(n_draws, n_rows, generator=generator, dtype=torch.float64) ** -k
    return (power if k > 0 else 2 - power).log()


def _arviz(log_weights: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return what arviz-stats makes of the weights, with a tail of ceil(3 sqrt(S)) draws.

    It takes floor(3 sqrt(S / r_eff)) where the paper rounds up; r_eff makes up for that.
    """
    n_draws = len(log_weights)
    n_tail = math.ceil(3 * math.sqrt(n_draws))
    r_eff = 9 * n_draws / n_tail**2 * (1 - 1e-12) if n_draws > 225 else 1.0
    # it smooths 1 / likelihood, so that weights come with the sign turned
    smoothed, k_hat = array_stats.psislw(-log_weights.T.numpy(), r_eff=r_eff, axis=-1)
    return smoothed.T, k_hat


@pytest.mark.parametrize("n_draws", [25, 100, 225, 400, 1000, 1024, 3000])
def test_weights_and_k_hat_are_those_of_arviz(n_draws: int) -> None:
    lognormal = _normal(n_draws, 8) * torch.tensor([0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 20.0, 200.0])
    pareto = [_log_pareto(n_draws, 1, k, seed) for seed, k in enumerate((-1.0, 0.2, 0.7, 1.0, 3.0))]
    with_zeros = torch.where(_normal(n_draws, 1) < 0, -torch.inf, _normal(n_draws, 1, seed=1))
    log_weights = torch.cat([lognormal, *pareto, with_zeros], dim=1) + 1000.0
    smoothed, k_hat = pareto_smooth(log_weights)
    expected, expected_k_hat = _arviz(log_weights)
    np.testing.assert_allclose(k_hat.numpy(), expected_k_hat, atol=1e-9)
    np.testing.assert_allclose(smoothed.numpy(), expected, atol=1e-9)


def test_single_precision_goes_in_and_out_with_double_inside() -> None:
    log_weights = (100 + 2 * _normal(500, 5)).float()
    smoothed, k_hat = pareto_smooth(log_weights)
    in_double, k_hat_in_double = pareto_smooth(log_weights.double())
    assert torch.equal(smoothed, in_double.float())
    assert torch.equal(k_hat, k_hat_in_double.float())
    assert effective_sample_size(smoothed).dtype == torch.float32


@pytest.mark.parametrize("k", [-0.5, 0.3, 0.7, 1.2])
def test_k_hat_is_the_shape_of_a_pareto_tail(k: float) -> None:
    n_draws, n_tail = 10_000, 300
    _, k_hat = pareto_smooth(_log_pareto(n_draws, 200, k))
    expected = (n_tail * k + 10 * 0.5) / (n_tail + 10)  # the prior at 0.5 counts as ten weights
    assert float(k_hat.mean()) == pytest.approx(expected, abs=0.02)
    assert float(k_hat.std()) < 1.5 * (1 + abs(k)) / math.sqrt(n_tail)


def test_smoothing_corrects_a_gaussian_proposal_with_less_noise_than_raw_weights() -> None:
    # draws of N(0.5, 0.7^2) for N(0, 1): a tail of shape about 1 - 0.7^2
    z = 0.5 + 0.7 * _normal(1000, 400)
    log_weights = -0.5 * z.square() + 0.5 * ((z - 0.5) / 0.7).square()
    smoothed, k_hat = pareto_smooth(log_weights)
    assert 0.4 < float(k_hat.mean()) < 0.8
    for power, exact in ((1, 0.0), (2, 1.0)):
        values = z**power
        raw_error = (log_weights.softmax(0) * values).sum(0) - exact
        error = (smoothed.exp() * values).sum(0) - exact
        assert error.square().mean() < raw_error.square().mean()
        assert abs(float(error.mean())) < 0.5 * abs(float(values.mean()) - exact)


def test_effective_sample_size_of_a_gaussian_proposal() -> None:
    # for q = N(0, 2^2) and p = N(0, 1) it is S E_q[w]^2 / E_q[w^2] = S sqrt(7) / 4
    z = 2.0 * _normal(200_000, 1)
    log_weights = (-0.5 * z.square() + 0.125 * z.square()).log_softmax(0)
    share = float(effective_sample_size(log_weights)) / len(z)
    assert share == pytest.approx(math.sqrt(7) / 4, rel=0.01)


@pytest.mark.parametrize("noise", [0.0, 1e-5])
def test_equal_weights_are_perfectly_reliable(noise: float) -> None:
    log_weights = (123.0 + noise * _normal(1024, 3)).float()
    smoothed, k_hat = pareto_smooth(log_weights)
    assert torch.equal(k_hat, torch.full((3,), -torch.inf))
    assert torch.allclose(smoothed, torch.tensor(-math.log(1024)), atol=1e-4)
    assert torch.allclose(effective_sample_size(smoothed), torch.tensor(1024.0))
    if not noise:
        each_once = torch.arange(1024)[:, None].expand(1024, 3)
        assert torch.equal(systematic_resample(smoothed, 1024), each_once)


def test_a_flat_tail_above_other_weights_is_reliable() -> None:
    log_weights = torch.zeros(1000, 1)
    log_weights[:700] = _normal(700, 1) - 10
    smoothed, k_hat = pareto_smooth(log_weights)
    assert k_hat.tolist() == [-math.inf]
    assert torch.allclose(smoothed, log_weights.log_softmax(0))


@pytest.mark.parametrize("n_draws", [1, 4, 20])
def test_few_draws_are_normalised_but_not_smoothed(n_draws: int) -> None:
    log_weights = _normal(n_draws, 2)
    smoothed, k_hat = pareto_smooth(log_weights)
    assert torch.allclose(smoothed, log_weights.log_softmax(0))
    assert k_hat.tolist() == [math.inf, math.inf]


def test_weights_without_a_fit_are_unreliable_and_leave_their_neighbours_alone() -> None:
    log_weights = _normal(100, 6)
    whole, k_hat_of_whole = pareto_smooth(log_weights)
    log_weights[1:, 0] = -torch.inf  # one weight
    log_weights[10:, 1] = -torch.inf  # ten
    log_weights[:, 2] = -torch.inf  # none
    log_weights[3, 3] = torch.nan
    log_weights[3, 4] = torch.inf
    smoothed, k_hat = pareto_smooth(log_weights)
    assert torch.equal(k_hat[:5], torch.full((5,), torch.inf, dtype=torch.float64))
    assert torch.equal(smoothed[:, 5], whole[:, 5])
    assert k_hat[5] == k_hat_of_whole[5]
    assert torch.allclose(smoothed[:, :2], log_weights[:, :2].log_softmax(0))
    assert smoothed[:, 2:5].isnan().all()
    size = effective_sample_size(smoothed)
    assert float(size[0]) == pytest.approx(1.0)
    assert size[2:5].isnan().all()
    index = systematic_resample(smoothed, 50)
    assert (index[:, 0] == 0).all()
    assert (index[:, 1] < 10).all()
    assert torch.equal(index[:, 2], torch.arange(1, 100, 2))


def test_ties_keep_the_tail_in_order() -> None:
    log_weights = (2 * _normal(1000, 20)).round(decimals=1)
    smoothed, k_hat = pareto_smooth(log_weights)
    assert k_hat.isfinite().all()
    order = log_weights.sort(dim=0, stable=True).indices
    assert (smoothed.gather(0, order).diff(dim=0) >= -1e-12).all()
    # the largest raw weight bounds the tail
    below = log_weights.topk(200, dim=0).indices[-1:]
    span = smoothed.amax(0) - smoothed.gather(0, below).squeeze(0)
    assert (span <= log_weights.amax(0) - log_weights.gather(0, below).squeeze(0) + 1e-12).all()


@pytest.mark.parametrize("n_draws", [50, 1000, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_is_the_same_to_the_bit_whatever_its_neighbours(
    n_draws: int, dtype: torch.dtype
) -> None:
    log_weights = (2 * _normal(n_draws, 40)).to(dtype)
    whole = _everything(log_weights)
    for rows in ([0], [39], [3, 4, 5], list(range(17)), list(range(39, -1, -1))):
        for part, of_whole in zip(_everything(log_weights[:, rows]), whole, strict=True):
            assert torch.equal(part, of_whole[..., rows])


def _everything(log_weights: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    smoothed, k_hat = pareto_smooth(log_weights)
    return smoothed, k_hat, effective_sample_size(smoothed), systematic_resample(smoothed, 100)


@pytest.mark.parametrize("offset", [0.0, 0.3, 0.5, 1 - 1e-9])
@pytest.mark.parametrize("n", [1, 7, 256, 5000])
def test_resampling_gives_each_draw_its_share_up_to_one(n: int, offset: float) -> None:
    log_weights = (2 * _normal(1000, 10)).log_softmax(0)
    log_weights[-100:] = log_weights[:5] = -torch.inf
    log_weights = log_weights.log_softmax(0)
    index = systematic_resample(log_weights, n, offset)
    assert index.shape == (n, 10)
    assert index.dtype == torch.int64
    assert (index.diff(dim=0) >= 0).all()
    count = torch.zeros_like(log_weights).scatter_add_(0, index, torch.ones(n, 10).double())
    share = n * log_weights.exp()
    assert ((count - share).abs() < 1 + 1e-6).all()
    assert (count[share == 0] == 0).all()


def test_resampled_draws_follow_the_target() -> None:
    z = 1.5 * _normal(4096, 20)
    smoothed, _ = pareto_smooth(-0.5 * (z - 1).square() + 0.5 * (z / 1.5).square())
    draws = z.gather(0, systematic_resample(smoothed, 2048))
    assert torch.allclose(draws.mean(0), torch.tensor(1.0).double(), atol=0.1)
    assert torch.allclose(draws.std(0), torch.tensor(1.0).double(), atol=0.1)
