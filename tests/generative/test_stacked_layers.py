"""Stacked layers compute what single networks do, with the gradients of finite differences."""

import pytest
import torch
from torch import Tensor, nn

from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative._layers import ACTIVATIONS, MLP
from sklearn_qavi.generative._stacked_layers import Head, apply_stacked

N_OUT = [4, 4, 7]  # two networks of one kind, one of another


def networks(hidden: list[int], activation: str = "tanh") -> list[MLP]:
    return [
        MLP([3, *hidden, n], activation, torch_generator(seed), skip=True).double()
        for seed, n in enumerate(N_OUT)
    ]


def stacked(of: list[MLP]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the weights of the hidden layers and of the heads."""
    linears = [[m for m in one.layers if isinstance(m, nn.Linear)] for one in of]
    hidden = [
        torch.stack([getattr(mine[k], leaf).detach() for mine in linears])
        for k in range(len(linears[0]) - 1)
        for leaf in ("weight", "bias")
    ]
    heads = [
        torch.stack([getattr(m, leaf).detach() for m in layers])
        for k in (slice(0, 2), slice(2, 3))
        for layers in ([one.skip for one in of[k]], [mine[-1] for mine in linears[k]])
        for leaf in ("weight", "bias")
    ]
    return hidden, heads


def apply(
    x: Tensor, noise: Tensor | None, activation: str, hidden: list[Tensor], heads: list[Tensor]
) -> tuple[Tensor, ...]:
    members = [slice(0, 2), slice(2, 3)]
    made = [Head(m, *heads[4 * i : 4 * i + 4]) for i, m in enumerate(members)]
    return apply_stacked(x, noise, ACTIVATIONS[activation](), hidden, made)


def normal(seed: int) -> Tensor:
    return torch.randn(3, 5, 3, generator=torch_generator(seed), dtype=torch.float64)


@pytest.mark.parametrize("hidden", [[], [5], [5, 6]])
@pytest.mark.parametrize("activation", ["tanh", "gelu"])
@pytest.mark.parametrize("with_noise", [False, True])
def test_outputs_are_those_of_each_network(
    hidden: list[int], activation: str, with_noise: bool
) -> None:
    singles = networks(hidden, activation)
    x, noise = normal(1), normal(2) if with_noise else None
    out = apply(x, noise, activation, *stacked(singles))
    for i, single in enumerate(singles):
        expected = single(x[i], None if noise is None else noise[i])
        torch.testing.assert_close(out[0][i] if i < 2 else out[1][0], expected)


@pytest.mark.parametrize("hidden", [[], [5], [5, 6]])
@pytest.mark.parametrize("with_noise", [False, True])
def test_gradients_are_those_of_finite_differences(hidden: list[int], with_noise: bool) -> None:
    layers, heads = stacked(networks(hidden))
    noise = 0.5 * normal(2) if with_noise else None

    def run(x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        n = len(layers)
        return apply(x, noise, "tanh", list(weights[:n]), list(weights[n:]))

    given = [t.requires_grad_() for t in (normal(1), *layers, *heads)]
    assert torch.autograd.gradcheck(run, tuple(given))
