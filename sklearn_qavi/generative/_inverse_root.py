"""A triangular root of an inverse, with its gradient written down."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["inverse_root"]


def inverse_root(matrix: Tensor) -> Tensor:
    """Return the lower triangular R (..., L, L) with ``R' R`` the inverse of a matrix.

    Parameters
    ----------
    matrix : Tensor of shape (..., L, L)
        Symmetric, and positive definite; if it is not, so that weights were not finite, neither is
        the root.
    """
    root: Tensor = _InverseRoot.apply(matrix)  # type: ignore[no-untyped-call]
    return root


class _InverseRoot(torch.autograd.Function):
    """The inverse of a Cholesky factor; autograd's way back solves triangular systems twice."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        factor = torch.linalg.cholesky_ex(matrix).L
        eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        root = torch.linalg.solve_triangular(factor, eye, upper=False)
        ctx.save_for_backward(root)
        return root

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # dR = -F R with F the lower triangle of R dP R', its diagonal halved
        (root,) = ctx.saved_tensors
        of_triangle = -(gradient @ root.mT).tril()
        of_triangle.diagonal(dim1=-2, dim2=-1).mul_(0.5)
        of_matrix = root.mT @ of_triangle @ root
        return 0.5 * (of_matrix + of_matrix.mT)
