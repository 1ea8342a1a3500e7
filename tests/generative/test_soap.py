"""SOAP: Adam's steps in the right basis, for each of several networks as for it alone."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative._soap import StackedSoap
from sklearn_qavi.generative._stacked import keep_members

Shapes = Sequence[tuple[int, ...]]

BETAS = (0.8, 0.95)
SHAPES = [(5, 3), (5,), (2, 4)]
N_WEIGHTS = sum(math.prod(shape) for shape in SHAPES)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch_generator(seed), dtype=torch.float64)


def rotation(n: int, seed: int) -> Tensor:
    return torch.linalg.qr(normal(n, n, seed=seed))[0]


def flat(lines: Tensor, shapes: Shapes) -> Tensor:
    """Return the vector in which each weight of all networks comes after the other."""
    parts = lines.split([math.prod(shape) for shape in shapes], dim=1)
    return torch.cat([part.flatten() for part in parts])


def lines(vector: Tensor, shapes: Shapes) -> Tensor:
    """Return the weights of each network, (M, P)."""
    sizes = [math.prod(shape) for shape in shapes]
    n = len(vector) // sum(sizes)
    return torch.cat([part.view(n, -1) for part in vector.split([n * k for k in sizes])], dim=1)


def of(n: int, shapes: Shapes) -> list[tuple[int, ...]]:
    return [(n, *shape) for shape in shapes]


def path(gradients: Tensor, shapes: Shapes, widest: int = 128) -> Tensor:
    """Return where steps of some size lead from zero, (T, M, P)."""
    weights = torch.zeros_like(gradients[0]).flatten()
    soap = StackedSoap(weights, of(gradients.shape[1], shapes), BETAS, widest)
    passed = []
    for step, gradient in enumerate(gradients):
        soap.step(weights, flat(gradient, shapes), 0.1 / (1 + step))
        passed.append(lines(weights, shapes))
    return torch.stack(passed)


def test_vectors_get_the_steps_of_adam() -> None:
    weights = normal(10, seed=0)
    theirs = torch.nn.Parameter(weights.clone())
    optimizer = torch.optim.Adam([theirs], betas=BETAS)
    soap = StackedSoap(weights, [(2, 2), (2, 3)], BETAS)
    for step in range(1, 20):
        gradient = normal(10, seed=step)
        theirs.grad = gradient.clone()
        optimizer.param_groups[0]["lr"] = 0.1 / step
        optimizer.step()
        soap.step(weights, gradient, 0.1 / step)
    torch.testing.assert_close(weights, theirs.detach())


@pytest.mark.parametrize("widest", [0, 1])
def test_matrices_that_are_too_wide_get_the_steps_of_adam(widest: int) -> None:
    gradients = normal(15, 2, N_WEIGHTS, seed=1)
    whole = path(gradients, SHAPES, widest)
    as_vectors = path(gradients, [(N_WEIGHTS,)])
    torch.testing.assert_close(whole, as_vectors)


def test_steps_turn_with_the_gradients() -> None:
    """Adam depends on the basis that weights are written in; steps in eigenvectors do not."""
    shape = (4, 4)
    gradients = normal(35, 1, 4, 4, seed=2)  # of full rank: eigenvectors are then unique
    left, right = rotation(4, 3), rotation(4, 4)
    turned = left @ gradients @ right
    plain = path(gradients.flatten(2), [shape]).unflatten(2, shape)
    other = path(turned.flatten(2), [shape]).unflatten(2, shape)
    assert plain[-1].abs().max() > 0.1
    torch.testing.assert_close(left @ plain @ right, other, rtol=1e-6, atol=1e-9)


def test_each_network_is_trained_as_if_it_were_alone() -> None:
    gradients = normal(25, 3, N_WEIGHTS, seed=5)
    together = path(gradients, SHAPES)
    for k in range(3):
        torch.testing.assert_close(together[:, k : k + 1], path(gradients[:, k : k + 1], SHAPES))


def test_networks_that_are_kept_go_on_as_they_would_have() -> None:
    """Here the last weight is of the networks 0 and 1 alone, and the second of network 2."""
    members = [[0, 1, 2], [2], [0, 1]]
    shapes = [(len(m), *shape) for m, shape in zip(members, SHAPES, strict=True)]
    gradients = [[normal(*shape, seed=99 * t + shape[1]) for shape in shapes] for t in range(25)]
    for kept in ([0, 2], [0]):
        masks = [torch.tensor([i in kept for i in m]) for m in members]
        ends = []
        for leave_at in (13, 25):
            weights = torch.zeros(sum(map(math.prod, shapes)), dtype=torch.float64)
            soap = StackedSoap(weights, shapes, BETAS)
            for t, gradient in enumerate(gradients):
                if t == leave_at:
                    weights = keep_members(weights, shapes, masks)
                    soap.select(masks)
                if t >= leave_at:
                    gradient = [g[m] for g, m in zip(gradient, masks, strict=True)]
                soap.step(weights, torch.cat([g.flatten() for g in gradient]), 0.1 / (1 + t))
            ends.append(weights)
        torch.testing.assert_close(ends[0], keep_members(ends[1], shapes, masks))


def test_bases_follow_to_the_eigenvectors_of_the_mean_products() -> None:
    shape = (4, 3)
    left, right = rotation(4, 7), rotation(3, 8)
    spread = torch.tensor([8.0, 4.0, 2.0, 1.0]).unsqueeze(1) * torch.tensor([9.0, 3.0, 1.0])
    weights = torch.zeros(12, dtype=torch.float64)
    soap = StackedSoap(weights, [(1, *shape)], BETAS)
    for step in range(400):
        gradient = left @ (spread * normal(4, 3, seed=100 + step)) @ right.T
        soap.step(weights, gradient.flatten(), 1e-3)
    (bases,) = soap.bases
    for found, products in (
        (bases.rows, bases.row_products),
        (bases.columns, bases.column_products),
    ):
        assert found is not None
        assert products is not None
        inside = (found.mT @ products @ found)[0]
        off = inside - inside.diagonal().diag()
        assert off.abs().max() < 0.1 * inside.diagonal().max()
        torch.testing.assert_close(found[0].T @ found[0], torch.eye(len(inside)).double())


def test_a_gradient_of_nothing_moves_nothing() -> None:
    assert path(torch.zeros(12, 2, N_WEIGHTS, dtype=torch.float64), SHAPES).abs().max() == 0.0
