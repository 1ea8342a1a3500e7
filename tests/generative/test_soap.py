"""SOAP: Adam's steps in the right basis, for each of several networks as for it alone."""

import pytest
import torch
from torch import Tensor

from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative import _soap
from sklearn_qavi.generative._soap import StackedSoap

BETAS = (0.8, 0.95)
SHAPES = [torch.Size([5, 3]), torch.Size([5]), torch.Size([2, 4])]
N_WEIGHTS = sum(shape.numel() for shape in SHAPES)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch_generator(seed), dtype=torch.float64)


def rotation(n: int, seed: int) -> Tensor:
    return torch.linalg.qr(normal(n, n, seed=seed))[0]


def path(gradients: Tensor, shapes: list[torch.Size]) -> Tensor:
    """Return where steps of some size lead from zero, (T, M, P)."""
    weights = torch.zeros_like(gradients[0])
    soap = StackedSoap(weights, shapes, BETAS)
    passed = []
    for step, gradient in enumerate(gradients):
        soap.step(weights, gradient, 0.1 / (1 + step))
        passed.append(weights.clone())
    return torch.stack(passed)


def test_vectors_get_the_steps_of_adam() -> None:
    weights = normal(2, 5, seed=0)
    theirs = torch.nn.Parameter(weights.clone())
    optimizer = torch.optim.Adam([theirs], betas=BETAS)
    soap = StackedSoap(weights, [torch.Size([2]), torch.Size([3])], BETAS)
    for step in range(1, 20):
        gradient = normal(2, 5, seed=step)
        theirs.grad = gradient.clone()
        optimizer.param_groups[0]["lr"] = 0.1 / step
        optimizer.step()
        soap.step(weights, gradient, 0.1 / step)
    torch.testing.assert_close(weights, theirs.detach())


def test_matrices_that_are_too_wide_get_the_steps_of_adam(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = normal(15, 2, N_WEIGHTS, seed=1)
    monkeypatch.setattr(_soap, "_WIDEST", 1)
    whole = path(gradients, SHAPES)
    as_vectors = path(gradients, [torch.Size([N_WEIGHTS])])
    torch.testing.assert_close(whole, as_vectors)


def test_steps_turn_with_the_gradients() -> None:
    """Adam depends on the basis that weights are written in; steps in eigenvectors do not."""
    shape = torch.Size([4, 4])
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
    gradients = normal(25, 3, N_WEIGHTS, seed=6)
    together = path(gradients, SHAPES)
    weights = torch.zeros(3, N_WEIGHTS, dtype=torch.float64)
    soap = StackedSoap(weights, SHAPES, BETAS)
    kept = torch.tensor([2, 0])
    for step, gradient in enumerate(gradients):
        if step == 13:
            soap.select(kept)
            weights = weights[kept]
        soap.step(weights, gradient if step < 13 else gradient[kept], 0.1 / (1 + step))
    torch.testing.assert_close(weights, together[-1, kept])


def test_bases_follow_to_the_eigenvectors_of_the_mean_products() -> None:
    shape = torch.Size([4, 3])
    left, right = rotation(4, 7), rotation(3, 8)
    spread = torch.tensor([8.0, 4.0, 2.0, 1.0]).unsqueeze(1) * torch.tensor([9.0, 3.0, 1.0])
    soap = StackedSoap(torch.zeros(1, 12, dtype=torch.float64), [shape], BETAS)
    weights = torch.zeros(1, 12, dtype=torch.float64)
    for step in range(400):
        gradient = left @ (spread * normal(4, 3, seed=100 + step)) @ right.T
        soap.step(weights, gradient.reshape(1, 12), 1e-3)
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
