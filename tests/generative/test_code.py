"""A code's posterior and draws from it: what they are, and gradients beside finite differences."""

import pytest
import torch
from torch import Tensor

from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative._code import MIN_SCALE, draw_code, posterior_root

M, B, F, L = 2, 5, 6, 3


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch_generator(seed), dtype=torch.float64)


def seen(n_rows: int) -> Tensor:
    return (normal(M, n_rows, F, seed=1) > 0).double()


def test_the_root_is_that_of_the_inverse_of_what_is_seen() -> None:
    information, mask = normal(M, F, L, seed=0), seen(B)
    root = posterior_root(information, mask)
    for m in range(M):
        for b in range(B):
            u = information[m][mask[m, b] > 0]
            expected = torch.linalg.inv(torch.eye(L, dtype=u.dtype) + u.T @ u)
            torch.testing.assert_close(root[m, b].T @ root[m, b], expected)
    assert (root.triu(1) == 0).all()
    assert (root.diagonal(dim1=-2, dim2=-1) > 0).all()


@pytest.mark.parametrize("n_rows", [1, B])
def test_the_roots_gradient_is_that_of_finite_differences(n_rows: int) -> None:
    information = normal(M, F, L, seed=0).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: posterior_root(u, seen(n_rows)), information)
    alone = information.detach()[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda u: posterior_root(u, seen(n_rows)[0]), alone)


def test_what_is_not_finite_stays_so() -> None:
    broken = normal(M, F, L, seed=0)
    broken[1] = torch.nan
    root = posterior_root(broken, torch.ones(M, 1, F, dtype=torch.float64))
    assert not torch.isfinite(root[1]).all()
    assert torch.isfinite(root[0]).all()


@pytest.mark.parametrize("n_roots", [1, B])
def test_a_draw_has_the_posteriors_covariance_and_kl(n_roots: int) -> None:
    raw = normal(M, B, 2 * L, seed=2)
    root = posterior_root(normal(M, F, L, seed=0), seen(n_roots))
    noise = normal(M, B, L, seed=3)
    code, kl = draw_code(raw, root, noise)
    mean, raw_scale = raw.chunk(2, dim=-1)
    scale = torch.nn.functional.softplus(raw_scale) + MIN_SCALE
    upper = (root.mT * scale.unsqueeze(-1)).expand(M, B, L, L)
    torch.testing.assert_close(code, mean + (upper @ noise.unsqueeze(-1)).squeeze(-1))
    posterior = torch.distributions.MultivariateNormal(mean, upper @ upper.mT)
    prior = torch.distributions.MultivariateNormal(
        torch.zeros(L, dtype=raw.dtype), torch.eye(L, dtype=raw.dtype)
    )
    torch.testing.assert_close(kl, torch.distributions.kl_divergence(posterior, prior))


@pytest.mark.parametrize("n_roots", [1, B])
def test_the_draws_gradient_is_that_of_finite_differences(n_roots: int) -> None:
    raw = normal(M, B, 2 * L, seed=2).requires_grad_()
    root = posterior_root(normal(M, F, L, seed=0), seen(n_roots)).requires_grad_()
    noise = normal(M, B, L, seed=3)

    def lower(raw: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
        return draw_code(raw, root.tril(), noise)  # what is above the diagonal is not part of it

    assert torch.autograd.gradcheck(lower, (raw, root))
