"""The yardstick is measured first: the closed forms against each other and against scipy."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch.nn.functional import softplus

PATTERNS = [[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]


@pytest.fixture
def x(linear_gaussian):
    return linear_gaussian.draw_rows(1, seed=3)[0]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_log_prob_agrees_with_bayes_rule(linear_gaussian, x, pattern):
    # log p(x_O) = log p(x_O | z) + log p(z) - log p(z | x_O), at any z
    model, observed = linear_gaussian, np.array(pattern, dtype=bool)
    z = np.array([0.3, -1.1])
    location = (model.weight @ z + model.bias)[observed]
    noise = np.diag(model.noise_scale[observed] ** 2)
    mean, covariance = model.code_posterior(x, observed)
    fit = multivariate_normal(location, noise).logpdf(x[observed]) if observed.any() else 0.0
    prior = multivariate_normal(np.zeros(2)).logpdf(z)
    posterior = multivariate_normal(mean, covariance).logpdf(z)
    assert model.log_prob_observed(x, observed) == pytest.approx(fit + prior - posterior)


@pytest.mark.parametrize("pattern", PATTERNS[1:])
def test_missing_cells_agree_with_the_chain_rule(linear_gaussian, x, pattern):
    # log p(x_M | x_O) = log p(x) - log p(x_O)
    model, observed = linear_gaussian, np.array(pattern, dtype=bool)
    mean, covariance = model.missing_given_observed(x, observed)
    conditional = multivariate_normal(mean, covariance).logpdf(x[~observed])
    everything = model.log_prob_observed(x, np.ones(5, dtype=bool))
    assert conditional == pytest.approx(everything - model.log_prob_observed(x, observed))


def test_decoder_gives_locations_and_scales(linear_gaussian):
    z = torch.tensor([[[0.5, -1.0]], [[0.0, 0.0]]], dtype=torch.float64)
    location, raw = linear_gaussian.decoder(torch.float64)(z).chunk(2, dim=-1)
    np.testing.assert_allclose(location[1, 0], linear_gaussian.bias)
    expected = linear_gaussian.weight @ [0.5, -1.0] + linear_gaussian.bias
    np.testing.assert_allclose(location[0, 0], expected)
    np.testing.assert_allclose(softplus(raw[0, 0]) + 1e-3, linear_gaussian.noise_scale)
