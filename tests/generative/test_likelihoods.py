"""Every family: densities by quadrature, draws against densities, means, atoms, smoothing."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative._likelihoods import (
    LIKELIHOODS,
    CategoricalLikelihood,
    ColumnLikelihood,
    ColumnLikelihoods,
    HistogramLikelihood,
)

N_COLUMNS = 3
CONTINUOUS = sorted(name for name, family in LIKELIHOODS.items() if family.reparameterised)


def _columns(n: int = 600) -> NDArray[np.float64]:
    """Return a smooth column, one half of which is exactly -1, and one of a few values."""
    rng = np.random.default_rng(0)
    smooth = rng.normal(size=n)
    half = np.where(rng.random(n) < 0.5, -1.0, rng.gamma(2.0, size=n))
    few = rng.choice([0.0, 0.5, 2.0], size=n, p=[0.2, 0.5, 0.3])
    return np.column_stack([smooth, half, few]).astype(np.float32).astype(float)


def _fitted(name: str) -> ColumnLikelihood:
    if name == "categorical":
        rng = np.random.default_rng(0)
        likelihood = CategoricalLikelihood(N_COLUMNS, [2, 5, 80])
        likelihood.fit_columns(np.floor([2, 5, 80] * rng.random((600, N_COLUMNS)) ** 2))
        return likelihood.double().requires_grad_(False)
    likelihood = LIKELIHOODS[name](N_COLUMNS)
    likelihood.fit_columns(_columns())
    return likelihood.double().requires_grad_(False)


def _params(likelihood: ColumnLikelihood, n: int = 1) -> Tensor:
    shape = (n, likelihood.n_outputs)
    return 0.7 * torch.randn(shape, generator=torch_generator(3), dtype=torch.float64)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_densities_integrate_to_one_and_give_the_mean(name: str) -> None:
    likelihood = _fitted(name)
    params = _params(likelihood)
    x = torch.linspace(-400, 400, 800_001, dtype=torch.float64).unsqueeze(1).expand(-1, N_COLUMNS)
    density = likelihood.log_prob(params, likelihood.prepare(x)).exp()
    torch.testing.assert_close(
        density.sum(0) * 1e-3, torch.ones(N_COLUMNS, dtype=torch.float64), atol=1e-4, rtol=0
    )
    mean = (density * x).sum(0) * 1e-3
    torch.testing.assert_close(mean, likelihood.mean(params)[0], atol=1e-3, rtol=0)


def test_histogram_mass_of_atoms_and_bins_is_one_and_gives_the_mean() -> None:
    likelihood = _fitted("histogram")
    assert isinstance(likelihood, HistogramLikelihood)
    params = _params(likelihood)
    for j in range(N_COLUMNS):
        atoms = likelihood.lower[j, likelihood.is_atom[j]]
        x = torch.linspace(-6, 15, 210_001, dtype=torch.float64)
        x = x[~torch.isin(x, atoms)]
        is_bin = likelihood.is_used[j] & ~likelihood.is_atom[j]
        lower = likelihood.lower[j, is_bin]
        if len(lower):
            upper = lower[-1] + likelihood.width[j, is_bin][-1]
            inside = x[(x >= lower[0]) & (x < upper)]
            density = _column_density(likelihood, params, inside, j).sum() * 1e-4
        else:
            density = torch.zeros((), dtype=torch.float64)
        mass = density + _column_density(likelihood, params, atoms, j).sum()
        assert float(mass) == pytest.approx(1.0, abs=2e-3)


def _column_density(likelihood: ColumnLikelihood, params: Tensor, x: Tensor, column: int) -> Tensor:
    table = torch.zeros(len(x), N_COLUMNS, dtype=torch.float64)
    table[:, column] = x
    return likelihood.log_prob(params, likelihood.prepare(table)).exp()[:, column]


def test_histogram_gives_atoms_to_values_that_many_rows_share() -> None:
    likelihood = _fitted("histogram")
    assert isinstance(likelihood, HistogramLikelihood)
    atoms = [likelihood.lower[j, likelihood.is_atom[j]].tolist() for j in range(N_COLUMNS)]
    assert atoms == [[], [-1.0], [0.0, 0.5, 2.0]]
    assert likelihood.is_used.sum(1).tolist() == [40, 21, 3]


@pytest.mark.parametrize("name", sorted(LIKELIHOODS))
def test_draws_have_the_mean_and_the_frequencies_of_the_density(name: str) -> None:
    likelihood = _fitted(name)
    params = _params(likelihood)
    u = torch.rand(200_000, N_COLUMNS, 2, generator=torch_generator(5), dtype=torch.float64)
    draws = likelihood.sample(params.expand(len(u), -1), u)
    mean, spread = likelihood.mean(params)[0], draws.std(0)
    torch.testing.assert_close(draws.mean(0), mean, atol=float(0.03 * spread.max()), rtol=0)
    if name in CONTINUOUS:
        # share of draws in an interval against the density's integral over it
        low, high = mean - 0.5 * spread, mean + spread
        grid = low + (high - low) * torch.linspace(0, 1, 20_001, dtype=torch.float64).unsqueeze(1)
        density = likelihood.log_prob(params, likelihood.prepare(grid)).exp()
        expected = density.mean(0) * (high - low)
        share = ((draws > low) & (draws < high)).double().mean(0)
        torch.testing.assert_close(share, expected, atol=0.005, rtol=0)


def test_categories_have_probabilities_that_sum_to_one_and_draws_follow_them() -> None:
    likelihood = _fitted("categorical")
    assert isinstance(likelihood, CategoricalLikelihood)
    params = _params(likelihood)
    u = torch.rand(200_000, N_COLUMNS, 2, generator=torch_generator(5), dtype=torch.float64)
    draws = likelihood.sample(params.expand(len(u), -1), u)
    entropy = likelihood.entropy(params)[0]
    for j, n in enumerate(likelihood.n_categories):
        codes = torch.zeros(n, N_COLUMNS, dtype=torch.float64)
        codes[:, j] = torch.arange(n)
        log_p = likelihood.log_prob(params, likelihood.prepare(codes))[:, j]
        assert float(log_p.exp().sum()) == pytest.approx(1.0, abs=1e-6)
        averaged = likelihood.of_categories(j, likelihood.probabilities(params)[0, j])
        torch.testing.assert_close(averaged, log_p.exp(), atol=1e-6, rtol=0)
        share = torch.bincount(draws[:, j].long(), minlength=n) / len(draws)
        torch.testing.assert_close(share.double(), log_p.exp(), atol=0.004, rtol=0)
        assert float(entropy[j]) == pytest.approx(-float((log_p.exp() * log_p).sum()), abs=1e-6)


def test_columns_of_categories_stand_beside_numbers_in_their_own_order() -> None:
    likelihood = ColumnLikelihoods(
        ["categorical", "gaussian", "categorical", "categorical"], n_categories=[3, None, 2, 70]
    )
    assert likelihood.categorical_columns == [0, 2, 3]
    assert likelihood.n_outputs == 4 - 1 + 2 + 2 + 50  # three categories, two, and 50 of 70
    params = torch.randn(1, likelihood.n_outputs, generator=torch_generator(0))
    by_column = likelihood.of_categories(likelihood.probabilities(params)[0])
    assert {j: len(p) for j, p in by_column.items()} == {0: 3, 2: 2, 3: 70}
    for j, probability in by_column.items():
        x = torch.zeros(len(probability), 4)
        x[:, j] = torch.arange(len(probability))
        log_p = likelihood.log_prob(params, likelihood.prepare(x))[:, j]
        torch.testing.assert_close(probability, log_p.exp())


def test_bernoulli_draws_and_densities_are_of_its_two_values() -> None:
    likelihood = LIKELIHOODS["bernoulli"](1)
    likelihood.fit_columns(np.array([[-0.5], [2.0], [2.0], [np.nan]]))
    params = torch.tensor([[1.5]])
    values = torch.tensor([[-0.5], [2.0]])
    mass = likelihood.log_prob(params, likelihood.prepare(values)).exp().squeeze()
    torch.testing.assert_close(mass, torch.tensor([1 - 0.81757, 0.81757]), atol=1e-4, rtol=0)
    u = torch.rand(20_000, 1, 2, generator=torch_generator(0))
    draws = likelihood.sample(params.expand(20_000, -1), u)
    assert set(draws.unique().tolist()) == {-0.5, 2.0}
    assert float((draws == 2.0).float().mean()) == pytest.approx(0.8176, abs=0.01)


def test_histogram_draws_fall_on_atoms_and_inside_the_training_range() -> None:
    likelihood, columns = _fitted("histogram"), _columns()
    params = _params(likelihood, 400).repeat(20, 1)
    u = torch.rand(8000, N_COLUMNS, 2, generator=torch_generator(6), dtype=torch.float64)
    draws = likelihood.sample(params, u).numpy()
    assert (draws >= columns.min(0) - 1e-6).all()
    assert (draws <= columns.max(0) + 1e-6).all()
    assert set(np.unique(draws[:, 2])) == {0.0, 0.5, 2.0}
    assert 0.02 < (draws[:, 1] == -1.0).mean() < 0.2


def test_values_outside_of_the_training_range_fall_into_the_outer_bins() -> None:
    likelihood = _fitted("histogram")
    far = torch.tensor([[-100.0, -50.0, -9.0], [100.0, 50.0, 9.0]], dtype=torch.float64)
    index, _ = likelihood.prepare(far)
    assert index[0].tolist() == [0, 0, 0]
    # the last bin of each column, and the nearest atom where there are no bins
    assert index[1].tolist() == [39, 19, 2]


def test_smoothing_spreads_targets_over_neighbouring_bins_but_never_over_atoms() -> None:
    likelihood = HistogramLikelihood(N_COLUMNS, smoothing=1.0)
    likelihood.fit_columns(_columns())
    kernel = likelihood.kernel
    torch.testing.assert_close(kernel.sum(-1), torch.ones(N_COLUMNS, 40))
    ratio = kernel[0, 20, 21] / kernel[0, 20, 20]
    assert float(ratio) == pytest.approx(np.exp(-0.5), rel=1e-4)
    atom = int(likelihood.is_atom[1].nonzero())
    assert kernel[1, atom].tolist() == torch.eye(40)[atom].tolist()
    assert float(kernel[1, :atom, atom].abs().max()) == 0.0


def test_smoothed_training_loss_is_the_expected_log_density_under_the_kernel() -> None:
    likelihood = HistogramLikelihood(N_COLUMNS, smoothing=1.0)
    likelihood.fit_columns(_columns())
    params = _params(likelihood).float()
    x = torch.tensor(_columns()[:5], dtype=torch.float32)
    index, log_width = likelihood.prepare(x)
    log_p = torch.log_softmax(likelihood._logits(params), -1)[0].clamp_min(-1e4)
    expected = torch.stack(
        [
            torch.stack([(likelihood.kernel[j, index[i, j]] * log_p[j]).sum() for j in range(3)])
            for i in range(5)
        ]
    )
    torch.testing.assert_close(
        likelihood.training_log_prob(params, (index, log_width)), expected - log_width
    )


@pytest.mark.parametrize("name", sorted(LIKELIHOODS))
def test_gradients_reach_every_output_and_stay_finite(name: str) -> None:
    likelihood = _fitted(name)
    params = _params(likelihood, 600).requires_grad_()
    x = torch.tensor(_columns())
    value = likelihood.log_prob(params, likelihood.prepare(x)).sum()
    (gradient,) = torch.autograd.grad(value, params)
    assert torch.isfinite(gradient).all()
    used = torch.ones(likelihood.n_outputs, dtype=torch.bool)
    if isinstance(likelihood, HistogramLikelihood):
        used = likelihood.is_used.flatten()
    elif isinstance(likelihood, CategoricalLikelihood):
        used = likelihood.is_category.flatten()
    assert torch.equal(gradient.abs().sum(0) > 0, used)


def test_groups_of_families_keep_the_order_of_the_columns() -> None:
    families = ["student_t", "histogram", "gaussian", "histogram"]
    x = np.column_stack([_columns(), _columns()[::-1, 0]])
    mixed = ColumnLikelihoods(families, {"histogram": {"n_bins": 10}}).fit_columns(x)
    params = torch.randn(7, mixed.n_outputs, generator=torch_generator(0))
    values = torch.tensor(x[:7], dtype=torch.float32)
    together = mixed.log_prob(params, mixed.prepare(values))
    parts = params.split([g.n_outputs for g in mixed.groups], dim=-1)
    for group, columns, part in zip(mixed.groups, mixed.columns, parts, strict=True):
        alone = group.log_prob(part, group.prepare(values[:, columns]))
        torch.testing.assert_close(together[:, columns], alone)
        torch.testing.assert_close(mixed.mean(params)[:, columns], group.mean(part))
        u = torch.rand(7, 4, 2, generator=torch_generator(1))
        torch.testing.assert_close(
            mixed.sample(params, u)[:, columns], group.sample(part, u[:, columns])
        )


def test_missing_training_cells_are_ignored() -> None:
    x = _columns()
    incomplete = np.vstack([x, np.full((50, 3), np.nan)])
    fitted_to_incomplete, fitted_to_complete = HistogramLikelihood(3), HistogramLikelihood(3)
    fitted_to_incomplete.fit_columns(incomplete)
    fitted_to_complete.fit_columns(x)
    torch.testing.assert_close(fitted_to_incomplete.lower, fitted_to_complete.lower)
    torch.testing.assert_close(fitted_to_incomplete.centre, fitted_to_complete.centre)


def test_student_t_approaches_the_gaussian_with_many_degrees_of_freedom() -> None:
    student, gaussian = _fitted("student_t"), _fitted("gaussian")
    with torch.no_grad():
        student.log_excess_df.fill_(12.0)
    params, x = _params(gaussian), torch.tensor(_columns()[:20])
    torch.testing.assert_close(
        student.log_prob(params, (x,)), gaussian.log_prob(params, (x,)), atol=1e-3, rtol=1e-3
    )


def test_the_histograms_gradient_is_that_of_finite_differences() -> None:
    from sklearn_qavi.generative._likelihoods._log_softmax import _LogSoftmaxAt

    generator = torch_generator(0)
    unused = torch.zeros(4, 5, dtype=torch.bool)
    unused[1, 3:] = True
    index = torch.randint(0, 3, (2, 4), generator=generator)
    for n_rows in (2, 1):  # a row of logits each, or one that all values share
        shape = (3, n_rows, 4, 5)
        logits = torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda a: _LogSoftmaxAt.apply(a, unused, index), (logits,))
        probability = torch.stack(
            [_LogSoftmaxAt.apply(logits, unused, torch.full((2, 4), k)).exp() for k in range(5)]
        ).sum(0)
        torch.testing.assert_close(probability, torch.ones_like(probability))


@pytest.mark.parametrize("n_unused", [0, 2])
def test_what_is_next_to_impossible_keeps_its_logarithm(n_unused: int) -> None:
    from sklearn_qavi.generative._likelihoods._log_softmax import log_softmax_at

    below = torch.tensor([0.0, 5.0, 70.0, 79.5, 81.0, 95.0, 110.0, 500.0, 1e4])
    logits = torch.stack([torch.zeros_like(below), -below, *[torch.ones(9)] * n_unused], dim=-1)
    unused = torch.zeros(9, 2 + n_unused, dtype=torch.bool)
    unused[:, 2:] = True
    expected = -below.double() - torch.log1p((-below.double()).exp())
    for n_rows in (1, 3):  # logits of the row itself, or that all rows share
        log_p = log_softmax_at(logits.unsqueeze(0), unused, torch.ones(n_rows, 9).long())
        np.testing.assert_allclose(log_p.double(), expected.expand(n_rows, 9), rtol=1e-6)


def test_few_values_get_few_bins_and_their_atoms_stay() -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.standard_normal(120), rng.integers(0, 6, 120)])
    x[:20, 0] = 0.0
    likelihood = HistogramLikelihood(2)
    likelihood.fit_columns(x)
    bins = likelihood.is_used & ~likelihood.is_atom
    assert bins.sum(1).tolist() == [10, 0]  # of 100 values in no atom
    assert likelihood.atoms(0).tolist() == [0.0]
    assert likelihood.atoms(1).tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    likelihood.fit_columns(rng.standard_normal((12, 2)))
    assert likelihood.is_used.sum(1).tolist() == [5, 5]


def test_a_histogram_has_as_many_outputs_as_its_widest_column_needs() -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.standard_normal(90), rng.integers(4, size=90)])
    mixed = ColumnLikelihoods(["histogram", "histogram"]).fit_columns(x)
    (group,) = mixed.groups
    assert isinstance(group, HistogramLikelihood)
    assert group.is_used.sum(-1).tolist() == [9, 4]  # ten values in a bin; atoms
    assert mixed.n_outputs == 2 * 9
    # what is saved makes one of the same shape
    again = ColumnLikelihoods(mixed.families, mixed.options)
    again.load_state_dict(mixed.state_dict())
    params = torch.randn(90, 18, generator=torch_generator(0))
    values = torch.as_tensor(x, dtype=torch.float32)
    for likelihood in (mixed, again):
        log_prob = likelihood.log_prob(params, likelihood.prepare(values))
        logits = params.view(90, 2, 9)[:, 1, :4]
        expected = logits.log_softmax(-1)[torch.arange(90), values[:, 1].long()]
        torch.testing.assert_close(log_prob[:, 1], expected)
