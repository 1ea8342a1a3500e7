"""The start of training: networks that agree with a factor analyser."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning

from sklearn_qavi import QAVIImputer
from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative import TabularVAE
from sklearn_qavi.generative._factor_analyser import FactorAnalyser, fit_factor_analyser
from sklearn_qavi.generative._likelihoods import ColumnLikelihoods
from sklearn_qavi.generative._likelihoods._marginals import marginal_offsets
from sklearn_qavi.generative._linear_start import copy_linear_start, start_linear
from sklearn_qavi.generative._network import TabularNetwork


def _table(n: int, rate: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(n, 2))
    x = factors @ rng.normal(size=(2, 4)) + 0.6 * rng.normal(size=(n, 4))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    x[rng.random(x.shape) < rate] = np.nan
    return x[~np.isnan(x).all(axis=1)]


def _started(values: np.ndarray, family: str, seed: int = 0) -> TabularNetwork:
    likelihood = ColumnLikelihoods([family] * values.shape[1]).fit_columns(values)
    network = TabularNetwork(likelihood, 5, (8,), "tanh", torch_generator(seed))
    x = torch.from_numpy(np.nan_to_num(values)).float()
    observed = torch.from_numpy(~np.isnan(values))
    start_linear(network, x, observed, torch.ones(len(x)), np.random.default_rng(0))
    return network


def test_the_encoder_starts_at_the_exact_posterior_of_incomplete_rows() -> None:
    values = _table(400, 0.3)
    network = _started(values, "gaussian")
    model = fit_factor_analyser(values, np.ones(len(values)), 5)
    observed = torch.from_numpy(~np.isnan(values))
    x = torch.from_numpy(np.nan_to_num(values)).float()

    def code(noise: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return network.draw_code(x, observed, torch.zeros_like(x), noise.expand(len(x), 5))[0]

    mean = code(torch.zeros(5))
    exact_mean, exact_covariance = model.infer(values)
    np.testing.assert_allclose(mean.numpy(), exact_mean, atol=0.02)
    root = torch.stack([code(noise) - mean for noise in torch.eye(5)], dim=-1)
    np.testing.assert_allclose((root @ root.mT).numpy(), exact_covariance, atol=5e-3)
    off_diagonal = exact_covariance[:, ~np.eye(5, dtype=bool)]
    assert np.abs(off_diagonal).max() > 0.1  # of incomplete rows: a diagonal would be wrong


@pytest.mark.parametrize("family", ["student_t", "histogram"])
def test_a_start_can_be_handed_on_and_leaves_random_weights_alone(family: str) -> None:
    values = _table(200, 0.3)
    source, expected = (_started(values, family, seed) for seed in (0, 1))
    likelihood = ColumnLikelihoods([family] * values.shape[1]).fit_columns(values)
    copied = TabularNetwork(likelihood, 5, (8,), "tanh", torch_generator(1))
    copy_linear_start(source, copied)
    assert not source.encoder.layers[0].weight.equal(copied.encoder.layers[0].weight)
    found, wanted = copied.state_dict(), expected.state_dict()
    assert found.keys() == wanted.keys()
    for name, values_ in found.items():
        assert values_.equal(wanted[name]), name


def test_the_bound_at_the_start_is_the_density_of_the_factor_analyser() -> None:
    values = _table(300, 0.3)
    network = _started(values, "gaussian")
    model = fit_factor_analyser(values, np.ones(len(values)), 5)
    x, observed = torch.from_numpy(np.nan_to_num(values)).float(), ~np.isnan(values)
    mask, generator = torch.from_numpy(observed), torch_generator(1)
    with torch.no_grad():
        bounds = [
            fit - kl
            for _ in range(200)
            for fit, kl in [
                network(
                    x,
                    mask,
                    mask,
                    torch.zeros_like(x),
                    torch.randn(len(x), 5, generator=generator),
                    network.likelihood.prepare(x),
                )
            ]
        ]
    bound = torch.stack(bounds).mean()
    exact = model.log_prob(values).mean()
    assert float(bound) == pytest.approx(exact, abs=0.02)
    assert float(bound) < exact + 0.01


@pytest.mark.parametrize("family", ["student_t", "histogram"])
def test_other_families_start_at_the_same_regression(family: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=4000)
    values = np.column_stack([x, 0.8 * x + 0.6 * rng.normal(size=len(x))])
    network = _started(values, family)
    z = torch.randn(20_000, 5, generator=torch_generator(0))
    u = torch.rand(len(z), 2, 2, generator=torch_generator(1)).clamp(1e-6, 1 - 1e-6)
    with torch.no_grad():
        draws = network.likelihood.sample(network.decode(z), u).numpy()
    np.testing.assert_allclose(draws.mean(axis=0), 0.0, atol=0.05)
    assert np.corrcoef(draws.T)[0, 1] == pytest.approx(0.8, abs=0.03)


def test_the_degrees_of_freedom_start_at_those_of_the_residuals() -> None:
    rng = np.random.default_rng(0)
    heavy = stats.t.rvs(3, size=3000, random_state=rng) / np.sqrt(3)
    values = np.column_stack([heavy, rng.normal(size=3000)])
    likelihood = _started(values, "student_t").likelihood
    df = likelihood.groups[0].df.detach().numpy()  # type: ignore[attr-defined]
    assert df[0] < 6 < 15 < df[1]


def test_categories_start_at_their_relation_to_numbers() -> None:
    rng = np.random.default_rng(0)
    category = rng.integers(0, 3, size=3000)
    number = np.array([-1.0, 0.2, 0.8])[category] + 0.3 * rng.normal(size=3000)
    values = np.column_stack([category, (number - number.mean()) / number.std()])
    likelihood = ColumnLikelihoods(["categorical", "student_t"], {}, [3, None])
    network = TabularNetwork(likelihood.fit_columns(values), 4, (8,), "tanh", torch_generator(0))
    x = torch.from_numpy(values).float()
    start_linear(
        network, x, torch.ones_like(x, dtype=torch.bool), torch.ones(3000), np.random.default_rng(0)
    )
    u = torch.rand(20_000, 2, 2, generator=torch_generator(1)).clamp(1e-6, 1 - 1e-6)
    with torch.no_grad():
        z = torch.randn(20_000, 4, generator=torch_generator(0))
        draws = network.likelihood.sample(network.decode(z), u).numpy()
    share = np.bincount(draws[:, 0].astype(int), minlength=3) / len(draws)
    np.testing.assert_allclose(share, np.bincount(category) / len(category), atol=0.02)
    for k in range(3):
        here, there = draws[draws[:, 0] == k, 1], values[category == k, 1]
        assert here.mean() == pytest.approx(there.mean(), abs=0.4)


def test_offsets_give_each_category_its_share() -> None:
    rng = np.random.default_rng(0)
    slope = 2.0 * rng.normal(size=(2, 4, 1))
    share = np.array([[0.1, 0.2, 0.3, 0.4], [0.05, 0.95, 0.0, 0.0]])
    offset = marginal_offsets(slope, share)
    z, weight = np.polynomial.hermite_e.hermegauss(80)
    for j in range(2):
        used = share[j] > 0
        probability = softmax(z[:, None] * slope[j, used, 0] + offset[j, used], axis=1)
        exact = weight @ probability / weight.sum()
        np.testing.assert_allclose(exact, share[j, used], atol=0.01)
    assert (offset[1, 2:] == 0).all()


def test_the_model_of_some_scores_is_the_marginal() -> None:
    model = FactorAnalyser(np.arange(6.0).reshape(3, 2), np.arange(3.0), np.ones(3))
    part = model.part(1, 3)
    np.testing.assert_array_equal(part.loadings, model.loadings[1:])
    np.testing.assert_array_equal(part.mean, [1.0, 2.0])


def test_learning_from_incomplete_rows_keeps_linear_relations() -> None:
    rng = np.random.default_rng(3)
    x = rng.multivariate_normal(np.zeros(2), [[1, 0.5], [0.5, 1]], size=1000)
    y = x @ [1.0, -0.5] + rng.normal(size=len(x))
    table = np.column_stack([y, x])
    incomplete = table.copy()
    incomplete[rng.random(table.shape) < 0.3] = np.nan
    options = {"likelihood": "student_t", "n_decoders": 1, "linear_start": True, "random_state": 0}
    vae = TabularVAE(**options, max_steps=30)
    imputer = QAVIImputer(generative_model=vae, random_state=0)
    with pytest.warns(ConvergenceWarning):  # so few steps are not enough, which is not the point
        draws = imputer.fit(incomplete).sample(incomplete, n=10)
    slopes = [np.linalg.lstsq(d[:, 1:], d[:, 0] - d[:, 0].mean())[0] for d in draws]
    np.testing.assert_allclose(np.mean(slopes, axis=0), [1.0, -0.5], atol=0.12)
