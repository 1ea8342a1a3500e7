"""The inverse root: what it is, and its gradient beside finite differences."""

import torch

from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative._inverse_root import inverse_root


def matrices() -> torch.Tensor:
    half = torch.randn(3, 4, 6, generator=torch_generator(0), dtype=torch.float64)
    return torch.eye(4, dtype=torch.float64) + half @ half.mT


def test_it_is_the_triangular_root_of_the_inverse() -> None:
    root = inverse_root(matrices())
    torch.testing.assert_close(root.mT @ root, torch.linalg.inv(matrices()))
    assert (root.triu(1) == 0).all()
    assert (root.diagonal(dim1=-2, dim2=-1) > 0).all()


def test_the_gradient_is_that_of_finite_differences() -> None:
    def of_symmetric(half: torch.Tensor) -> torch.Tensor:
        return inverse_root(torch.eye(4, dtype=half.dtype) + half @ half.mT)

    half = torch.randn(2, 4, 5, generator=torch_generator(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(of_symmetric, half.requires_grad_())


def test_what_is_not_finite_stays_so() -> None:
    broken = matrices()
    broken[1] = torch.nan
    root = inverse_root(broken)
    assert not torch.isfinite(root[1]).all()
    assert torch.isfinite(root[0]).all()
