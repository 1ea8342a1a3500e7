"""Starts from an encoder: as good as its code, and taken only where better."""

import numpy as np
import pytest
import torch

from _linear_gaussian import LinearGaussian
from sklearn_qavi.generative import PretrainedDecoder
from sklearn_qavi.inference._encoder_start import EncoderStart
from sklearn_qavi.inference.posteriors import Start

EXACT = LinearGaussian.orthogonal()
ROWS = EXACT.draw_rows(40, seed=1)
OBSERVED = np.random.default_rng(2).random(ROWS.shape) < 0.7


def starter(*, shift: float = 0.0, always: bool = False) -> EncoderStart:
    model = PretrainedDecoder(EXACT.decoder(), "gaussian", 5, encoder=EXACT.encoder(shift=shift))
    x = torch.from_numpy(np.where(OBSERVED, ROWS, 0.0)).float()
    return EncoderStart(model.decoders_[0], x, torch.from_numpy(OBSERVED), 1.0, always)


def origin(n: int) -> Start:
    return Start(torch.zeros(n, 2), torch.ones(n, 2), torch.zeros(1, 2), torch.zeros(1, n))


def exact_means() -> np.ndarray:
    return np.stack([EXACT.code_posterior(x, o)[0] for x, o in zip(ROWS, OBSERVED, strict=True)])


def test_it_comes_near_the_posterior() -> None:
    start = starter()(torch.arange(40), origin(40))
    before, after = (np.abs(m - exact_means()).mean() for m in (0.0, start.mean.numpy()))
    assert after < 0.35 * before
    complete = torch.from_numpy(np.flatnonzero(OBSERVED.all(axis=1)))
    np.testing.assert_allclose(start.mean[complete], exact_means()[complete], atol=1e-4)


def test_the_better_start_is_taken_row_by_row() -> None:
    means = torch.from_numpy(exact_means()).float()
    good = origin(40)
    good = Start(means, torch.full((40, 2), 0.4), good.codes, good.log_likelihood)
    rows = torch.arange(40)
    assert torch.equal(starter(shift=3.0)(rows, good).mean, means)
    mixed = Start(means.clone(), good.scale, good.codes, good.log_likelihood)
    mixed.mean[::2] += 4.0
    taken = (starter()(rows, mixed).mean != mixed.mean).any(dim=1)
    assert taken[::2].all()
    always = starter(shift=3.0, always=True)
    assert (always(rows, good).mean != means).any(dim=1).all()
    assert (always.n_evaluations, starter().n_evaluations) == (3, 19)


def test_the_estimated_bound_is_that_of_the_gaussian() -> None:
    s = starter()
    prepared = s.decoder.likelihood.prepare(s.x)
    mean = torch.from_numpy(exact_means()).float()
    scale = torch.full((40, 2), 0.3)
    estimated = s._bound(prepared, s.observed, mean, scale).numpy()
    for i in range(40):
        posterior_mean, covariance = EXACT.code_posterior(ROWS[i], OBSERVED[i])
        precision, variance = np.linalg.inv(covariance), 0.09
        kl = 0.5 * (
            variance * np.trace(precision) - 2 + np.linalg.slogdet(covariance)[1]
            - 2 * np.log(variance)
        )  # fmt: skip
        exact = EXACT.log_prob_observed(ROWS[i], OBSERVED[i]) - kl
        assert estimated[i] == pytest.approx(exact, abs=0.15)
        np.testing.assert_allclose(mean[i], posterior_mean, rtol=1e-4, atol=1e-5)


def test_a_row_does_not_see_the_others() -> None:
    whole = starter()(torch.arange(32), origin(32))
    turned = starter()(torch.arange(31, -1, -1), origin(32))
    assert torch.equal(turned.mean.flip(0), whole.mean)


def test_codes_that_are_not_finite_are_not_taken() -> None:
    s = starter(always=True)
    s.decoder.encoder.bias[0] = torch.nan
    start = s(torch.arange(4), origin(4))
    assert torch.equal(start.mean, torch.zeros(4, 2))
