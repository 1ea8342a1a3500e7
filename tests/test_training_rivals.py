"""The rivals' bounds against a decoder with one code, whose every posterior is a known normal."""

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor, nn

from _linear_gaussian import LinearGaussian
from sklearn_qavi.generative._likelihoods import ColumnLikelihoods

D, N = 4, 3


def _load() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "_training_rivals.py"
    spec = importlib.util.spec_from_file_location("_training_rivals", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rivals = _load()


class Network(nn.Module):
    """The exact decoder with a posterior of each row, or a mixture, that is shifted and widened."""

    def __init__(
        self,
        model: LinearGaussian,
        posterior: tuple[Tensor, Tensor],
        shift: list[float],
        widen: list[float],
        log_share: list[float] | None = None,
    ) -> None:
        super().__init__()
        self.latent_dim, self.likelihood = 1, ColumnLikelihoods(["gaussian"] * D)
        self.decoder = model.decoder(torch.float64)
        self.decoder.weight = nn.Parameter(self.decoder.weight.clone())
        mean, scale = posterior
        self.mean = nn.Parameter(mean + torch.tensor(shift).double().view(-1, 1, 1))
        self.scale = nn.Parameter(scale * torch.tensor(widen).double().view(-1, 1, 1))
        share = torch.tensor(log_share or [0.0] * len(shift)).double().log_softmax(0)
        self.log_share = nn.Parameter(share.unsqueeze(1).repeat(1, N))

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def encode(self, x: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        _, mean, scale = self.encode_mixture(x, visible)
        return mean.squeeze(0), scale.squeeze(0)

    def encode_mixture(self, x: Tensor, visible: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        times = len(x) // N  # the rows may stand there several times
        parts = (self.log_share.unsqueeze(-1), self.mean, self.scale)
        log_share, mean, scale = (part.repeat(1, times, 1) for part in parts)
        return log_share.squeeze(-1), mean, scale


class Rows:
    """Three incomplete rows and what is exact about them."""

    def __init__(self) -> None:
        self.model = LinearGaussian.random(D, 1, seed=1)
        x = self.model.draw_rows(N, seed=2)
        observed = np.array([[1, 1, 0, 1], [0, 1, 0, 0], [1, 1, 1, 1]], dtype=bool)
        self.x, self.observed = torch.from_numpy(x), torch.from_numpy(observed)
        pairs = list(zip(x, observed, strict=True))
        moments = [self.model.code_posterior(*pair) for pair in pairs]
        self.mean = torch.tensor(np.array([m for m, _ in moments]))
        self.scale = torch.tensor(np.array([np.sqrt(np.diag(c)) for _, c in moments]))
        self.log_prob = np.array([self.model.log_prob_observed(*pair) for pair in pairs])
        self.no_noise = torch.zeros(N, D, dtype=torch.float64)

    def network(self, shift: Any = (0.0,), widen: Any = (1.0,), **kwargs: Any) -> Network:
        return Network(self.model, (self.mean, self.scale), list(shift), list(widen), **kwargs)


@pytest.fixture(name="rows")
def _rows() -> Rows:
    return Rows()


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def kl_of_normals(shift: Tensor, widen: float) -> np.ndarray:
    """KL to a normal from one moved by these many of its standard deviations, and widened."""
    return (0.5 * (widen**2 + shift**2 - 1) - np.log(widen)).sum(-1).numpy()


def mean_bound(rows: Rows, bound: Callable[..., Tensor], n_codes: int, repeats: int) -> np.ndarray:
    """Mean of a bound over noise, by row."""
    x, observed = rows.x.repeat(repeats, 1), rows.observed.repeat(repeats, 1)
    with torch.no_grad():
        values = bound(x, observed, 0.0, normal(n_codes, repeats * N, 1))
    return values.view(repeats, N).mean(0).numpy()


class TestImportanceWeightedBound:
    @pytest.mark.parametrize("n_samples", [1, 7])
    def test_exact_posterior_gives_log_p_without_noise(self, rows: Rows, n_samples: int) -> None:
        bound = rivals.importance_weighted_bound(
            rows.network(), rows.x, rows.observed, rows.no_noise, normal(n_samples, N, 1)
        )
        assert_allclose(bound.detach(), rows.log_prob, rtol=1e-6)

    def test_one_sample_is_the_elbo_and_more_tighten_it(self, rows: Rows) -> None:
        network = rows.network([0.3], [1.5])
        elbo = rows.log_prob - kl_of_normals(0.3 / rows.scale, 1.5)
        bound = partial(rivals.importance_weighted_bound, network)
        one, five, hundred = (mean_bound(rows, bound, k, 40_000 // k) for k in (1, 5, 100))
        assert_allclose(one, elbo, atol=0.03)
        assert (one + 0.02 < five).all()
        assert (five + 0.02 < hundred).all()
        assert_allclose(hundred, rows.log_prob, atol=0.02)


class TestStratifiedBound:
    @pytest.mark.parametrize("importance", [False, True])
    def test_exact_components_give_log_p_and_no_gradient(
        self, rows: Rows, importance: bool
    ) -> None:
        network = rows.network([0.0] * 3, [1.0] * 3, log_share=[0.0, 1.0, -1.0])
        bound = rivals.stratified_bound(
            network, rows.x, rows.observed, 0.0, normal(3, N, 1), importance=importance
        )
        assert_allclose(bound.detach(), rows.log_prob, rtol=1e-6)
        bound.sum().backward()
        assert network.mean.grad is not None
        assert network.scale.grad is not None
        assert network.mean.grad.abs().max() < 1e-4
        assert network.scale.grad.abs().max() < 1e-4

    def test_is_the_bound_of_the_whole_mixture(self, rows: Rows) -> None:
        shift, widen, log_share = [-1.0, 0.5], [0.7, 1.3], [0.0, 1.0]
        network = rows.network(shift, widen, log_share=log_share)
        bound = partial(rivals.stratified_bound, network)
        plain = mean_bound(rows, partial(bound, importance=False), 2, 40_000)
        weighted = mean_bound(rows, partial(bound, importance=True), 2, 40_000)
        # E_q[log p(x_O, z) - log q(z)] on a grid
        z = torch.linspace(-8, 8, 4001, dtype=torch.float64).view(-1, 1, 1).expand(-1, N, 1)
        with torch.no_grad():
            log_q = rivals.log_mixture(z, network.log_share, network.mean, network.scale)
            log_p = rivals.log_joint(network, z, rows.x, rows.observed)
            exact = ((log_p - log_q) * log_q.exp()).sum(0).numpy() * 16 / 4000
        assert_allclose(plain, exact, atol=0.03)
        assert (plain < weighted).all()
        assert (weighted < rows.log_prob + 0.01).all()


class TestDecomposedBound:
    def completed(self, rows: Rows, n: int = 2) -> Tensor:
        return torch.where(rows.observed, rows.x, normal(n, N, D, seed=3))

    def network(self, rows: Rows) -> Network:
        network = rows.network([0.2, -0.4], [1.1, 0.8])
        network.encode = lambda x, visible: (network.mean, network.scale)  # type: ignore[method-assign]
        return network

    def test_value_is_the_bound_of_the_mixture(self, rows: Rows) -> None:
        network, noise = self.network(rows), normal(2, N, 1)
        bound = rivals.decomposed_bound(
            network, rows.x, rows.observed, self.completed(rows), 0.0, noise
        )
        same = rivals.stratified_bound(network, rows.x, rows.observed, 0.0, noise, importance=False)
        assert_allclose(bound.detach(), same.detach(), rtol=1e-6)

    def test_exact_posteriors_give_log_p(self, rows: Rows) -> None:
        network = rows.network([0.0, 0.0], [1.0, 1.0])
        network.encode = lambda x, visible: (network.mean, network.scale)  # type: ignore[method-assign]
        bound = rivals.decomposed_bound(
            network, rows.x, rows.observed, self.completed(rows), 0.0, normal(2, N, 1)
        )
        assert_allclose(bound.detach(), rows.log_prob, rtol=1e-6)

    def test_decoder_learns_from_observed_cells_and_encoder_from_completed_rows(
        self, rows: Rows
    ) -> None:
        network, imputed, noise = self.network(rows), self.completed(rows), normal(2, N, 1)
        rivals.decomposed_bound(
            network, rows.x, rows.observed, imputed, 0.0, noise
        ).sum().backward()
        found = [p.grad for p in (network.decoder.weight, network.mean, network.scale)]

        z = network.mean + network.scale * noise
        by_cell = network.likelihood.log_prob(network.decode(z), ((imputed,),))
        observed_fit = torch.where(rows.observed, by_cell, 0.0).sum() / 2
        kl = 0.5 * (network.mean.square() + network.scale.square() - 1) - network.scale.log()
        whole_bound = (by_cell.sum() - kl.sum()) / 2
        (weight,) = torch.autograd.grad(observed_fit, network.decoder.weight, retain_graph=True)
        of_encoder = torch.autograd.grad(whole_bound, [network.mean, network.scale])
        for mine, expected in zip(found, [weight, *of_encoder], strict=True):
            assert mine is not None
            assert_allclose(mine, expected, rtol=1e-6)


class TestDrawImputations:
    def test_reaches_the_exact_conditional_from_a_wrong_encoder(self, rows: Rows) -> None:
        k = 2000
        network = rows.network([0.5], [1.4])
        network.encode = lambda x, visible: (  # type: ignore[method-assign]
            network.mean.expand(k, -1, -1),
            network.scale.expand(k, -1, -1),
        )
        generator = torch.Generator().manual_seed(0)
        uniform = torch.rand(k, k + 1, N, generator=generator, dtype=torch.float64)
        cells = torch.rand(k, N, D, 2, generator=generator, dtype=torch.float64)
        start = rows.x.expand(k, -1, -1)
        imputed = rivals.draw_imputations(
            network, rows.x, rows.observed, start, normal(k + 1, N, 1), uniform, cells
        ).numpy()
        for i in range(N):
            observed = rows.observed[i].numpy()
            assert (imputed[:, i, observed] == rows.x[i, observed].numpy()).all()
            if observed.all():
                continue
            mean, covariance = rows.model.missing_given_observed(rows.x[i].numpy(), observed)
            missing = imputed[:, i, ~observed]
            assert_allclose(missing.mean(0), mean, atol=0.15)
            assert_allclose(np.cov(missing.T).reshape(covariance.shape), covariance, atol=0.25)


@pytest.mark.parametrize("name", rivals.__all__)
def test_trains_on_incomplete_rows_and_is_reproducible(name: str) -> None:
    rng = np.random.default_rng(0)
    X = LinearGaussian.random(D, 1, seed=0).draw_rows(60)
    X[(rng.random(X.shape) < 0.4) & (np.arange(D) != np.arange(60)[:, None] % D)] = np.nan
    params = {"likelihood": "student_t", "n_decoders": 1, "linear_start": False, "random_state": 0}
    params["max_steps"] = 20

    def train() -> list[dict[str, float]]:
        with pytest.warns(UserWarning, match="still improved"):
            return getattr(rivals, name)(**params).fit(X).history_[0]

    history = train()
    assert history[1]["train_loss"] < history[0]["train_loss"]
    again = train()
    assert [e["valid_crps"] for e in history] == [e["valid_crps"] for e in again]
