"""Importance weights: they tell a bad posterior from a good one, and repair it."""

import math

import numpy as np
import pytest
import torch

from _linear_gaussian import LinearGaussian
from sklearn_qavi.generative import PretrainedDecoder
from sklearn_qavi.inference import (
    DecoderTarget,
    GaussianPosterior,
    InferenceResult,
    Posterior,
    fit_posterior,
    weigh_codes,
)


def _target(model: LinearGaussian, x: np.ndarray, observed: np.ndarray) -> DecoderTarget:
    member = PretrainedDecoder(model.decoder(), "gaussian", model.n_features).decoders_[0]
    return DecoderTarget(
        member.decode,
        member.likelihood,
        torch.as_tensor(x, dtype=torch.float32),
        torch.as_tensor(observed),
        model.latent_dim,
    )


@pytest.fixture(scope="module")
def correlated() -> tuple[LinearGaussian, np.ndarray, np.ndarray]:
    model = LinearGaussian.random(4, 2, seed=4)
    x = model.draw_rows(70)
    return model, x, np.tile([True, True, False, False], (70, 1))


def test_resampled_codes_have_the_exact_mean_and_covariance(correlated) -> None:
    model, x, observed = correlated
    target = _target(model, x, observed)
    fitted = fit_posterior(target, GaussianPosterior(2))
    corrected = weigh_codes(target, fitted, seed=0, n_draws=4096, n_kept=1024, resample=True)
    exact = [model.code_posterior(row, seen) for row, seen in zip(x, observed, strict=True)]
    exact_covariance = exact[0][1]
    assert (corrected.n_evaluations == fitted.n_evaluations + 4096).all()
    correlation = exact_covariance[0, 1] / math.sqrt(np.prod(np.diag(exact_covariance)))
    assert abs(correlation) > 0.3  # a diagonal Gaussian cannot have it
    mean, covariance = (t.double().numpy() for t in corrected.posterior.moments())
    scale = np.sqrt(np.diag(exact_covariance))
    np.testing.assert_allclose(mean / scale, np.stack([m for m, _ in exact]) / scale, atol=0.1)
    relative = covariance / np.outer(scale, scale)
    wanted = exact_covariance / np.outer(scale, scale)
    np.testing.assert_allclose(relative.mean(0), wanted, atol=0.08)
    np.testing.assert_allclose(fitted.posterior.moments()[1][:, 0, 1], 0.0)


def test_pareto_k_and_sample_size_tell_narrow_posteriors_from_good_ones(correlated) -> None:
    model, x, observed = correlated
    target = _target(model, x, observed)
    fitted = fit_posterior(target, GaussianPosterior(2))
    good = weigh_codes(target, fitted, seed=0)
    parameters = fitted.posterior.parameters.clone()
    parameters[:, 2:] -= 2.5  # scales shrink several times
    narrow = Posterior(fitted.posterior.family, parameters)
    bad = weigh_codes(
        target,
        InferenceResult(narrow, fitted.bound, fitted.n_iter, fitted.n_evaluations, good.converged),
        seed=0,
    )
    assert good.pareto_k.max() < 0.7 < bad.pareto_k.median()
    assert good.effective_sample_size.min() > 3 * bad.effective_sample_size.max()


def test_a_row_is_corrected_the_same_way_alone(correlated) -> None:
    model, x, observed = correlated
    everyone = _target(model, x, observed)
    fitted = fit_posterior(everyone, GaussianPosterior(2))
    together = weigh_codes(everyone, fitted, seed=0, resample=True)
    rows = torch.tensor([66, 3])
    alone = weigh_codes(
        _target(model, x[rows], observed[rows]),
        InferenceResult(
            fitted.posterior[rows],
            fitted.bound[rows],
            fitted.n_iter[rows],
            fitted.n_evaluations[rows],
            fitted.converged[rows],
        ),
        seed=0,
        resample=True,
    )
    assert torch.equal(alone.posterior.parameters, together.posterior.parameters[rows])
    assert torch.equal(alone.pareto_k, together.pareto_k[rows])
