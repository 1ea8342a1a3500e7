"""A stacked network is its members side by side: values, gradients, steps, and the way back."""

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative._factor_analyser import FactorAnalyser
from sklearn_qavi.generative._likelihoods import ColumnLikelihoods
from sklearn_qavi.generative._network import TabularNetwork
from sklearn_qavi.generative._soap import StackedSoap
from sklearn_qavi.generative._stacked import StackedNetwork

# the last column is constant; with Student t its score does not come where the column comes
SMOOTH = ["histogram", "histogram", "bernoulli", "categorical", "histogram"]
HEAVY = ["student_t", "gaussian", "bernoulli", "categorical", "histogram"]
MIXED = [HEAVY, SMOOTH, SMOOTH]
N, D, L = 6, 5, 2


def network(seed: int, families: list[str] = SMOOTH, activation: str = "tanh") -> TabularNetwork:
    generator = torch_generator(seed)
    likelihood = ColumnLikelihoods(families, None, [None, None, None, 3, None])
    likelihood.fit_columns(rows()[0].double().numpy())
    made = TabularNetwork(likelihood, L, (8,), activation, generator)
    with torch.no_grad():
        for weight in [*made.parameters()]:
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    shape = made.inputs.loadings.shape
    loadings = torch.randn(shape, generator=generator).double().numpy()
    rest = torch.rand(2, shape[0], generator=generator).double().numpy() + 0.5
    made.inputs.fill_with(FactorAnalyser(loadings, rest[0], rest[1]))
    return made


def mixed() -> list[TabularNetwork]:
    return [network(seed, families) for seed, families in enumerate(MIXED)]


def rows() -> tuple[Tensor, Tensor]:
    generator = torch_generator(9)
    x = torch.randn(N, D, generator=generator)
    x[:, 2] = (x[:, 2] > 0).float()
    x[:, 3] = torch.arange(N) % 3
    x[:, 4] = 1.0
    return x, torch.rand(N, D, generator=generator) < 0.7


def noise(members: int | None = None, step: int = 0) -> list[Tensor]:
    """Return noise of the inputs and of the code; that of each member is its own."""
    several = [
        torch.randn(3, N, k, generator=torch_generator(100 * step + k)).double() for k in (D, L)
    ]
    return [t if members is None else t[members] for t in several]


def bound(of: TabularNetwork, visible: Tensor, member: int, step: int = 0) -> Tensor:
    """Return the negative bound of each row, (N,), with the noise of a member."""
    x = rows()[0]
    inputs, code = (t.to(x) for t in noise(member, step))
    fit, kl = of(x, visible, visible, inputs, code, of.likelihood.prepare(x))
    return kl - fit


def bounds(
    of: StackedNetwork, visible: Tensor, members: Sequence[int] = (0, 1, 2), step: int = 0
) -> Tensor:
    """Return the negative bound of each row, (M, N), with the noise of these members."""
    n = len(members)
    x, visible = (t.expand(n, *t.shape) for t in (rows()[0], visible))
    inputs, code = (t[list(members)].to(x) for t in noise(None, step))
    z, kl = of.draw_code(of.inputs(x, visible), visible, inputs, code)
    prepared = [
        tuple(tuple(t.expand(k.stop - k.start, *t.shape) for t in p) for p in q.prepare(rows()[0]))
        for q, k in zip(of.likelihoods, of.kinds, strict=True)  # type: ignore[operator]
    ]
    return kl - of.reconstruction(of.decode(z), prepared, visible)


def gradients(of: StackedNetwork, place: int, like: TabularNetwork) -> dict[str, Tensor]:
    """Return the gradient of one network by the name of its weights."""
    single = copy.deepcopy(like)
    of.copy_to(of.take_gradient(), place, single)
    return dict(single.named_parameters())


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_values_and_gradients_are_those_of_each_network(complete: bool, activation: str) -> None:
    networks = [network(seed, families, activation) for seed, families in enumerate(MIXED)]
    visible = torch.ones(N, D).bool() if complete else rows()[1]
    stack = StackedNetwork(networks)
    assert stack.kinds == [slice(0, 1), slice(1, 3)]
    for i, single in enumerate(networks):
        together = bounds(stack, visible)
        alone = bound(single, visible, i)
        torch.testing.assert_close(together[i], alone, rtol=1e-4, atol=1e-5)
        together.mean(-1).sum().backward()
        alone.mean().backward()
        found = gradients(stack, i, single)
        for name, weight in single.named_parameters():
            assert weight.grad is not None
            torch.testing.assert_close(found[name], weight.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_histograms_may_be_smoothed_by_a_number_of_each_network() -> None:
    networks, widths = mixed(), [0.5, 2.0, 3.0]
    stack = StackedNetwork(networks)
    stack.smooth(torch.tensor(widths))
    visible = rows()[1]
    for i, (single, width) in enumerate(zip(networks, widths, strict=True)):
        single.likelihood.smooth(torch.tensor(width))
        torch.testing.assert_close(
            bounds(stack, visible)[i], bound(single, visible, i), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("kept", [[1, 2], [0, 1], [2], [0]])
def test_members_come_back_and_may_be_left_out(kept: list[int]) -> None:
    networks = mixed()
    stack = StackedNetwork(networks)
    stack.select(torch.tensor([i in kept for i in range(3)]))
    visible = rows()[1]
    for place, index in enumerate(kept):
        back = copy.deepcopy(networks[index])
        for weight in back.parameters():
            weight.data.zero_()
        stack.copy_to(stack.weights, place, back)
        for mine, original in zip(back.parameters(), networks[index].parameters(), strict=True):
            torch.testing.assert_close(mine, original, rtol=0, atol=0)
        torch.testing.assert_close(
            bounds(stack, visible, kept)[place], bound(back, visible, index), rtol=1e-4, atol=1e-5
        )
    n_weights = sum(weight.numel() for i in kept for weight in networks[i].parameters())
    assert len(stack.weights) == n_weights  # nothing of those that left goes on


def test_the_vector_is_what_the_networks_compute_with() -> None:
    stack = StackedNetwork(mixed())
    bounds(stack, rows()[1]).sum().backward()
    expected = [weight.grad for weight in stack.parameters()]
    assert all(gradient is not None for gradient in expected)
    gradient = stack.take_gradient()
    torch.testing.assert_close(
        gradient, torch.cat([g.flatten() for g in expected if g is not None])
    )
    assert all(weight.grad is None for weight in stack.parameters())
    before = [weight.detach().clone() for weight in stack.parameters()]
    stack.weights += gradient
    for weight, old, change in zip(stack.parameters(), before, expected, strict=True):
        torch.testing.assert_close(weight.detach(), old + change)


def test_each_network_is_trained_as_if_it_were_alone() -> None:
    """Also after others have left: same noise, same steps, to rounding."""
    networks, visible = [one.double() for one in mixed()], rows()[1]
    alone = []
    for i, single in enumerate(networks):
        stack = StackedNetwork([single])
        train(stack, visible, [i], range(25))
        alone.append(stack.weights)
    stack = StackedNetwork(networks)
    soap = train(stack, visible, [0, 1, 2], range(12))
    kept = torch.tensor([False, True, True])
    soap.select(stack.select(kept))
    train(stack, visible, [1, 2], range(12, 25), soap)
    for place, index in enumerate((1, 2)):
        after = copy.deepcopy(networks[index])
        stack.copy_to(stack.weights, place, after)
        expected = copy.deepcopy(networks[index])
        StackedNetwork([networks[index]]).copy_to(alone[index], 0, expected)
        start = dict(networks[index].named_parameters())
        for name, weight in after.named_parameters():
            other = expected.get_parameter(name)
            torch.testing.assert_close(weight, other, rtol=1e-6, atol=1e-8, msg=name)
            assert not np.allclose(weight.detach(), start[name].detach(), atol=1e-3)


def train(
    stack: StackedNetwork,
    visible: Tensor,
    members: list[int],
    steps: range,
    soap: StackedSoap | None = None,
) -> StackedSoap:
    # a first gradient of low rank leaves some eigenvectors open, which rounding would decide
    soap = soap or StackedSoap(stack.weights, stack.shapes, (0.9, 0.99), widest=1)
    for step in steps:
        bounds(stack, visible, members, step).mean(-1).sum().backward()
        soap.step(stack.weights, stack.take_gradient(), 0.02)
    return soap
