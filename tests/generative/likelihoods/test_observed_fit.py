"""Log densities of what rows have observed: those of the decoder's output, in any company."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from sklearn_qavi import _plan
from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative._likelihoods import ColumnLikelihoods
from sklearn_qavi.generative._network import TabularNetwork
from sklearn_qavi.inference import DecoderTarget

FAMILIES = {
    "histogram": ["histogram"] * 6,
    "student_t": ["student_t"] * 6,
    "gaussian": ["gaussian"] * 6,
    "mixed": ["student_t", "histogram", "bernoulli", "histogram", "categorical", "student_t"],
}
N_ROWS, LATENT_DIM = 64, 3


def _table() -> np.ndarray:
    """Return smooth columns, one with an atom, one of few values, one of two, one of categories."""
    rng = np.random.default_rng(0)
    smooth = rng.normal(size=(N_ROWS, 2))
    atom = np.where(rng.random(N_ROWS) < 0.5, -1.0, rng.gamma(2.0, size=N_ROWS))
    two, few, codes = (rng.integers(k, size=N_ROWS) for k in (2, 3, 5))
    columns = [smooth[:, 0], atom, two, few, codes, smooth[:, 1]]
    return np.column_stack(columns).astype(np.float32).astype(float)  # the same numbers in both


def _network(kind: str, dtype: torch.dtype, spread: float = 1.0) -> TabularNetwork:
    """Return a network whose parameters are spread by a factor."""
    families = FAMILIES[kind]
    n_categories = [5 if family == "categorical" else None for family in families]
    likelihood = ColumnLikelihoods(families, {"histogram": {"n_bins": 7}}, n_categories)
    likelihood.fit_columns(_table())
    network = TabularNetwork(likelihood, LATENT_DIM, (20, 12), "tanh", torch_generator(0))
    with torch.no_grad():
        last = network.decoder.layers[-1]
        last.weight *= spread
    return network.to(dtype).requires_grad_(False)


def _target(network: TabularNetwork, dtype: torch.dtype) -> DecoderTarget:
    """Return rows that have observed everything, nothing, and something between."""
    observed = torch.rand(N_ROWS, 6, generator=torch_generator(1)) < 0.5
    observed[0], observed[1] = True, False
    return DecoderTarget.of(network, torch.from_numpy(_table()).to(dtype), observed)


def _codes(n_draws: int, dtype: torch.dtype) -> Tensor:
    codes = torch.randn(n_draws, N_ROWS, LATENT_DIM, generator=torch_generator(2))
    return codes.to(dtype).requires_grad_()


def _with_slope(log_prob: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """Return log densities, and the gradient of a weighted sum of them."""
    values = log_prob(z)
    weight = torch.linspace(0.5, 2.0, values.numel(), dtype=z.dtype).view(values.shape)
    (slope,) = torch.autograd.grad((weight * values).sum(), z)
    return values.detach(), slope


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("spread", [1.0, 300.0])
@pytest.mark.parametrize("cached", [2**17, 1])
def test_values_and_gradients_are_those_of_the_decoded_parameters(
    kind: str, spread: float, cached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_plan, "_CACHED_LOGITS", cached)
    dtype = torch.float64
    network = _network(kind, dtype, spread)
    block = _target(network, dtype).block(torch.arange(N_ROWS))
    assert block.log_prob is not None
    z = _codes(5, dtype)
    values, slope = _with_slope(block.log_prob, z)
    expected, steepness = _with_slope(lambda z: block.of_decoded(network.decode(z)), z)
    # with a large spread some bins have a probability below the smallest number of some precision
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(slope, steepness, rtol=1e-7, atol=1e-7 * spread)
    assert values[:, 1].abs().max() == 0  # nothing observed
    with torch.no_grad():
        torch.testing.assert_close(block(z), values, rtol=0, atol=0)
    torch.testing.assert_close(block(z[:1]), expected[:1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("n_draws", [1, 2, 5, 32])
def test_a_row_has_the_same_bits_in_any_company(kind: str, n_draws: int) -> None:
    network = _network(kind, torch.float32)
    target, z = _target(network, torch.float32), _codes(n_draws, torch.float32)

    def fit(rows: Tensor) -> tuple[Tensor, Tensor]:
        codes = z[:, rows].detach().requires_grad_()
        values = target.block(rows)(codes)
        (slope,) = torch.autograd.grad(values.sum(), codes)
        return values.detach(), slope

    everything = fit(torch.arange(N_ROWS))
    shuffled = torch.randperm(N_ROWS, generator=torch_generator(3))
    for rows in (shuffled, shuffled[:32], torch.full((32,), 7)):
        for whole, part in zip(everything, fit(rows), strict=True):
            assert whole[:, rows].equal(part)


def test_what_is_next_to_impossible_has_a_logarithm_and_a_slope() -> None:
    exact, rounded = (_network("histogram", dtype, 1e3) for dtype in (torch.float64, torch.float32))
    target, z = _target(exact, torch.float64), _codes(8, torch.float64)
    block = target.block(torch.arange(N_ROWS))
    expected, _ = _with_slope(lambda z: block.of_decoded(exact.decode(z)), z)
    fast = _target(rounded, torch.float32).block(torch.arange(N_ROWS))
    values, slope = _with_slope(fast, z.detach().float().requires_grad_())
    cells = exact.likelihood.log_prob(exact.decode(z), block.prepared)
    least = torch.finfo(torch.float32).smallest_normal
    assert (cells[:, target.observed] < 1.5 * np.log(least)).any()  # 0 in single precision
    torch.testing.assert_close(values.double(), expected, rtol=1e-4, atol=1e-2)
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize("kind", ["histogram", "student_t", "mixed"])
def test_what_overflows_in_a_missing_column_does_not_matter(kind: str) -> None:
    network = _network(kind, torch.float32)
    target, z = _target(network, torch.float32), _codes(4, torch.float32)
    observed = target.observed.clone()
    observed[:, 0] = False
    block = replace(target, observed=observed).block(torch.arange(N_ROWS))
    expected = _with_slope(block, z)
    start = 0 if kind != "mixed" else network.likelihood.n_outputs - 4  # of Student t, the last
    with torch.no_grad():
        network.decoder.layers[-1].bias[start] = torch.inf  # of the first column
    for values, others in zip(_with_slope(block, z), expected, strict=True):
        assert values.equal(others)


def test_only_codes_get_gradients() -> None:
    network = _network("mixed", torch.float32).requires_grad_(True)
    block = _target(network, torch.float32).block(torch.arange(N_ROWS))
    z = _codes(4, torch.float32)
    block(z).sum().backward()
    assert z.grad is not None
    assert all(p.grad is None for p in network.decoder.layers[-1].parameters())


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("cached", [2**17, 1])
def test_scores_of_codes_are_the_log_densities_of_each(
    kind: str, cached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_plan, "_CACHED_CELLS", cached)
    network = _network(kind, torch.float64, 10.0)
    target = _target(network, torch.float64)
    codes = torch.randn(9, LATENT_DIM, generator=torch_generator(4), dtype=torch.float64)
    rows = torch.arange(N_ROWS).flip(0)
    decoded = network.decode(codes).unsqueeze(1).expand(-1, N_ROWS, -1)
    expected = target.block(rows).of_decoded(decoded)
    scores = target.score_codes(codes)(rows)
    torch.testing.assert_close(scores, expected, rtol=1e-9, atol=1e-9)
