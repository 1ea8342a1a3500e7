"""The loop: rows in slots, stopping, settings, errors."""

import pytest
import torch
from sklearn.base import clone
from torch import Tensor

from sklearn_qavi._random import torch_generator
from sklearn_qavi.exceptions import InferenceDivergedError
from sklearn_qavi.generative._likelihoods import ColumnLikelihoods
from sklearn_qavi.generative._network import TabularNetwork
from sklearn_qavi.inference import (
    POSTERIORS,
    Adam,
    DecoderTarget,
    FlowPosterior,
    FunctionTarget,
    GaussianPosterior,
    InferenceResult,
    MixturePosterior,
    Newton,
    PosteriorFamily,
    fit_posterior,
)

FAMILIES = [GaussianPosterior(3), MixturePosterior(3, 3), FlowPosterior(3, 2)]


def _target(x: Tensor) -> FunctionTarget:
    weight = torch.randn(6, 3, generator=torch_generator(0))

    def log_likelihood(z: Tensor, rows: Tensor) -> Tensor:
        # elementwise and batched over rows only, so that sums do not depend on the block's shape
        location = torch.tanh(z.unsqueeze(-2) * weight).sum(-1)
        return -2.0 * (x[rows] - location).square().sum(-1)

    return FunctionTarget(log_likelihood, len(x), 3)


def _rows(n: int) -> Tensor:
    return torch.randn(n, 6, generator=torch_generator(1))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("batch_size", [1, 32, 100])
def test_a_rows_answer_does_not_depend_on_its_company(
    family: PosteriorFamily, batch_size: int
) -> None:
    x = _rows(150)
    everyone = fit_posterior(_target(x), family)
    order = torch.randperm(150, generator=torch_generator(2))[:90]
    some = fit_posterior(_target(x[order]), family, batch_size=batch_size)
    assert some.posterior.parameters.equal(everyone.posterior.parameters[order])
    assert some.bound.equal(everyone.bound[order])
    assert some.n_iter.equal(everyone.n_iter[order])


@pytest.mark.parametrize("latent_dim", [5, 10])
@pytest.mark.parametrize("name", ["gaussian", "mixture", "flow"])
def test_nor_does_it_with_a_network_of_the_default_size(latent_dim: int, name: str) -> None:
    # narrow matrix products are where BLAS may treat odd and even rows differently
    likelihood = ColumnLikelihoods(["student_t"] * 4)
    network = TabularNetwork(likelihood, latent_dim, (128, 128), "tanh", torch_generator(0))
    network.requires_grad_(False)
    x = torch.randn(100, 4, generator=torch_generator(1))
    observed = torch.rand(100, 4, generator=torch_generator(2)) < 0.6

    def fit(rows: Tensor, batch_size: int) -> InferenceResult:
        target = DecoderTarget(network.decode, likelihood, x[rows], observed[rows], latent_dim)
        family = POSTERIORS[name]().family(latent_dim)
        return fit_posterior(target, family, batch_size=batch_size)

    everyone = fit(torch.arange(100), 64)
    order = torch.randperm(100, generator=torch_generator(3))[:41]
    assert fit(order, 32).posterior.parameters.equal(everyone.posterior.parameters[order])


def test_rows_leave_when_they_have_converged() -> None:
    # row i sees a likelihood 4^i times as sharp, so rows need different numbers of steps
    sharpness = 4.0 ** torch.arange(8)

    def log_likelihood(z: Tensor, rows: Tensor) -> Tensor:
        return -sharpness[rows] * (1.0 - z[..., 0]).square()

    result = fit_posterior(FunctionTarget(log_likelihood, 8, 1), GaussianPosterior(1))
    assert result.converged.all()
    assert len(result.n_iter.unique()) > 1
    assert result.n_evaluations.equal(result.n_iter * 32)  # draws a Newton step


def test_running_out_of_steps_is_reported_row_by_row() -> None:
    result = fit_posterior(_target(_rows(5)), GaussianPosterior(3), optimizer=Adam(max_iter=12))
    assert (result.n_iter == 12).all()
    assert not result.converged.any()


def test_the_papers_recipe_takes_its_300_steps_of_100_draws() -> None:
    result = fit_posterior(_target(_rows(3)), GaussianPosterior(3), optimizer=Adam.paper())
    assert (result.n_iter == 300).all()
    assert (result.n_evaluations == 30_000).all()
    assert result.converged.all()


def test_default_reaches_the_bound_of_the_papers_recipe() -> None:
    target = _target(_rows(40))
    recipe = fit_posterior(target, GaussianPosterior(3), optimizer=Adam.paper())
    default = fit_posterior(target, GaussianPosterior(3))
    # judged on the same fresh draws
    bounds = [_fresh_bound(target, result.posterior.parameters) for result in (recipe, default)]
    assert float((bounds[0] - bounds[1]).mean()) < 0.05
    assert default.n_evaluations.float().mean() < 0.05 * 30_000


def _fresh_bound(target: FunctionTarget, parameters: Tensor) -> Tensor:
    from sklearn_qavi.inference._objectives import elbo

    noise = torch.randn(2000, 1, 3, generator=torch_generator(9))
    return elbo(
        target.block(torch.arange(len(parameters))), GaussianPosterior(3), parameters, noise
    )


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: type(f).__name__)
def test_a_trace_changes_nothing_and_ends_at_the_bound(family: PosteriorFamily) -> None:
    target = _target(_rows(90))
    plain, traced = (fit_posterior(target, family, trace=trace) for trace in (False, True))
    assert plain.trace is None
    assert traced.posterior.parameters.equal(plain.posterior.parameters)
    assert traced.bound.equal(plain.bound)
    assert traced.n_iter.equal(plain.n_iter)
    assert traced.trace is not None
    settings = family.default_optimizer(3)
    steps_per_run = 1 if isinstance(settings, Newton) else settings.window
    n_kept = (~traced.trace.isnan()).sum(1)
    assert n_kept.equal(traced.n_iter // steps_per_run)
    assert n_kept.max() == traced.trace.shape[1]
    last = traced.trace[torch.arange(90), n_kept - 1]
    assert last.equal(traced.bound)


def test_a_trace_is_what_fewer_steps_would_have_given() -> None:
    target, family = _target(_rows(40)), GaussianPosterior(3)
    trace = fit_posterior(target, family, trace=True).trace
    assert trace is not None
    for n in (1, 3, 7):
        short = fit_posterior(target, family, optimizer=Newton(max_iter=n))
        took_all = short.n_iter == n
        assert took_all.any()
        assert trace[took_all, n - 1].equal(short.bound[took_all])


def test_beta_weighs_the_divergence_from_the_prior() -> None:
    target = _target(3.0 * _rows(20))
    spread = [
        fit_posterior(target, GaussianPosterior(3), beta=beta)
        .posterior.moments()[0]
        .square()
        .mean()
        for beta in (0.1, 1.0, 20.0)
    ]
    assert spread[0] > spread[1] > spread[2]


def test_uninformative_rows_keep_the_prior() -> None:
    target = FunctionTarget(lambda z, rows: 0.0 * z.sum(-1), 4, 2)
    for family in (GaussianPosterior(2), MixturePosterior(2, 2), FlowPosterior(2)):
        mean, covariance = fit_posterior(target, family).posterior.moments()
        torch.testing.assert_close(mean, torch.zeros(4, 2), atol=0.05, rtol=0)
        torch.testing.assert_close(covariance, torch.eye(2).expand(4, 2, 2), atol=0.15, rtol=0)


def test_seed_decides_the_noise() -> None:
    target = _target(_rows(10))
    first, again, other = (
        fit_posterior(target, GaussianPosterior(3), seed=seed).posterior.parameters
        for seed in (0, 0, 1)
    )
    assert first.equal(again)
    assert not first.equal(other)


def test_no_rows_is_fine() -> None:
    result = fit_posterior(_target(_rows(5)[:0]), GaussianPosterior(3))
    assert result.bound.shape == (0,)


def test_progress_counts_every_row_once() -> None:
    seen: list[int] = []
    fit_posterior(_target(_rows(70)), GaussianPosterior(3), batch_size=32, progress=seen.append)
    assert sum(seen) == 70


def test_a_bound_that_is_not_finite_names_the_rows() -> None:
    def log_likelihood(z: Tensor, rows: Tensor) -> Tensor:
        return torch.where(rows == 2, torch.nan, 0.0) + 0.0 * z.sum(-1)

    with pytest.raises(InferenceDivergedError, match=r"1 row\(s\) is not finite.*\[2\]"):
        fit_posterior(FunctionTarget(log_likelihood, 4, 1), GaussianPosterior(1))


def test_options_replace_only_what_is_given() -> None:
    settings = Adam().with_options(n_draws=4, max_iter=None, tol=0.5)
    assert (settings.n_draws, settings.max_iter, settings.tol) == (4, Adam().max_iter, 0.5)
    assert settings.get_params() == clone(settings).get_params()
    assert repr(settings) == "Adam(n_draws=4, tol=0.5)"
    with pytest.raises(ValueError, match="'decay' parameter of Adam must be"):
        settings.set_params(decay=2.0).check()


def test_out_of_memory_halves_the_block() -> None:
    plain = _target(_rows(150))

    def log_likelihood(z: Tensor, rows: Tensor) -> Tensor:
        if z.shape[0] == 32 and len(rows) > 40:  # draws of a step, not the start codes
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return plain.log_likelihood(z, rows)

    target = FunctionTarget(log_likelihood, 150, 3)
    with pytest.warns(ResourceWarning, match="rows at one time") as told:
        small = fit_posterior(target, GaussianPosterior(3), batch_size=128)
    assert len(told) == 2  # 64, then 32
    everyone = fit_posterior(plain, GaussianPosterior(3))
    assert small.posterior.parameters.equal(everyone.posterior.parameters)
    with pytest.raises(torch.OutOfMemoryError):
        fit_posterior(
            FunctionTarget(lambda z, rows: _raise(), 2, 3), GaussianPosterior(3), batch_size=1
        )


def _raise() -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory.")
