"""A stacked network is its members side by side: values, gradients, and the way back."""

import copy

import pytest
import torch
from torch import Tensor

from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative._factor_analyser import FactorAnalyser
from sklearn_qavi.generative._likelihoods import ColumnLikelihoods
from sklearn_qavi.generative._network import TabularNetwork
from sklearn_qavi.generative._stacked import StackedNetwork, stack_networks

FAMILIES = ["student_t", "histogram", "bernoulli", "categorical"]
N = 6


def network(seed: int) -> TabularNetwork:
    generator = torch_generator(seed)
    likelihood = ColumnLikelihoods(FAMILIES, None, [None, None, None, 3])
    likelihood.fit_columns(rows()[0].double().numpy())
    made = TabularNetwork(likelihood, 2, (8,), "tanh", generator)
    with torch.no_grad():
        for weight in [*made.parameters()]:
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    shape = made.inputs.loadings.shape
    loadings = torch.randn(shape, generator=generator).double().numpy()
    rest = torch.rand(2, shape[0], generator=generator).double().numpy() + 0.5
    made.inputs.fill_with(FactorAnalyser(loadings, rest[0], rest[1]))
    return made


def rows() -> tuple[Tensor, Tensor]:
    generator = torch_generator(9)
    x = torch.randn(N, 4, generator=generator)
    x[:, 2] = (x[:, 2] > 0).float()
    x[:, 3] = torch.arange(N) % 3
    return x, torch.rand(N, 4, generator=generator) < 0.7


def bound(of: TabularNetwork, visible: Tensor, members: int | None) -> Tensor:
    """Return the negative bound of each row, (N,) or (M, N)."""
    x, generator = rows()[0], torch_generator(3)
    noise, code = (torch.randn(N, k, generator=generator) for k in (4, 2))
    prepared = of.likelihood.prepare(x)
    if members is not None:
        x, visible, noise, code = (t.expand(members, *t.shape) for t in (x, visible, noise, code))
        prepared = tuple(tuple(t.expand(members, *t.shape) for t in p) for p in prepared)
    fit, kl = of(x, visible, visible, noise, code, prepared)
    return kl - fit


@pytest.mark.parametrize("complete", [False, True])
def test_values_and_gradients_are_those_of_each_network(complete: bool) -> None:
    networks = [network(seed) for seed in range(3)]
    visible = torch.ones(N, 4).bool() if complete else rows()[1]
    stacked = stack_networks(networks)
    together = bound(stacked, visible, 3)
    together.mean(-1).sum().backward()
    gradients = dict(stacked.named_parameters())
    for i, single in enumerate(networks):
        alone = bound(single, visible, None)
        torch.testing.assert_close(together[i], alone, rtol=1e-4, atol=1e-5)
        alone.mean().backward()
        for name, weight in single.named_parameters():
            found = gradients[name].grad
            assert weight.grad is not None
            assert found is not None
            torch.testing.assert_close(
                found[i].view_as(weight), weight.grad, rtol=1e-3, atol=1e-5, msg=name
            )


def test_histograms_may_be_smoothed_by_a_number_of_each_network() -> None:
    networks = [network(seed) for seed in range(2)]
    stacked = stack_networks(networks)
    widths = [0.5, 2.0]
    stacked.likelihood.smooth(torch.tensor(widths))
    visible = rows()[1]
    for i, (single, width) in enumerate(zip(networks, widths, strict=True)):
        single.likelihood.smooth(torch.tensor(width))
        torch.testing.assert_close(
            bound(stacked, visible, 2)[i], bound(single, visible, None), rtol=1e-4, atol=1e-5
        )


def test_members_come_back_and_may_be_left_out() -> None:
    networks = [network(seed) for seed in range(3)]
    stack, back = StackedNetwork(networks), copy.deepcopy(networks[0])
    before = list(stack.network.parameters())
    stack.select(torch.tensor([2, 0]))
    assert all(a is b for a, b in zip(before, stack.network.parameters(), strict=True))
    visible = rows()[1]
    for place, index in enumerate((2, 0)):
        stack.copy_to(stack.weights[place], back)
        back.inputs.load_state_dict(networks[index].inputs.state_dict())
        for mine, original in zip(back.parameters(), networks[index].parameters(), strict=True):
            torch.testing.assert_close(mine, original, rtol=0, atol=0)
        torch.testing.assert_close(
            bound(stack.network, visible, 2)[place],
            bound(back, visible, None),
            rtol=1e-4,
            atol=1e-5,
        )


def test_the_matrix_is_what_the_networks_compute_with() -> None:
    networks = [network(seed) for seed in range(2)]
    stack = StackedNetwork(networks)
    bound(stack.network, rows()[1], 2).sum().backward()
    expected = [weight.grad for weight in stack.network.parameters()]
    assert all(gradient is not None for gradient in expected)
    gradient = stack.take_gradient()
    torch.testing.assert_close(
        gradient, torch.cat([g.flatten(1) for g in expected if g is not None], dim=1)
    )
    assert all(weight.grad is None for weight in stack.network.parameters())
    before = [weight.detach().clone() for weight in stack.network.parameters()]
    stack.weights += gradient
    for weight, old, change in zip(stack.network.parameters(), before, expected, strict=True):
        torch.testing.assert_close(weight.detach(), old + change)
