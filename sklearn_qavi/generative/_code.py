"""A code's posterior given by an encoder, and draws from it, with their gradients written down."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from ._layers import apply_tiled

__all__ = ["MIN_SCALE", "draw_code", "posterior_root"]

MIN_SCALE = 1e-3


def posterior_root(information: Tensor, seen: Tensor) -> Tensor:
    """Return the lower triangular R (..., B, L, L) with ``R' R = V``.

    ``V^-1 = I + sum over seen scores f of u_f u_f'``.

    Parameters
    ----------
    information : Tensor of shape (..., F, L)
        The vectors u_f.
    seen : Tensor of shape (..., B, F)
        1 where a score is seen, 0 elsewhere.

    Returns
    -------
    root : Tensor of shape (..., B, L, L)
        Not finite where ``information`` is not.
    """
    root: Tensor = _PosteriorRoot.apply(information, seen)  # type: ignore[no-untyped-call]
    return root


def draw_code(raw: Tensor, root: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return a code of each row, and the KL of its posterior from the prior in nats.

    The posterior has the mean m and the covariance ``D V D``, where D is diagonal and ``V = R' R``.

    Parameters
    ----------
    raw : Tensor of shape (..., B, 2 L)
        What an encoder says of each row: m, and D before a softplus makes it positive.
    root : Tensor of shape (..., B, L, L) or (..., 1, L, L)
        Lower triangular, one of each row or one for all of them.
    noise : Tensor of shape (..., B, L)
        Standard normal.

    Returns
    -------
    code : Tensor of shape (..., B, L)
        ``m + D R' noise``.
    kl : Tensor of shape (..., B)
        In nats.
    """
    code, kl = _DrawCode.apply(raw, root, noise)  # type: ignore[no-untyped-call]
    return code, kl


class _PosteriorRoot(torch.autograd.Function):
    """The inverse of a Cholesky factor; autograd's way back solves triangular systems twice."""

    @staticmethod
    def forward(ctx: Any, information: Tensor, seen: Tensor) -> Tensor:
        products = (information.unsqueeze(-1) * information.unsqueeze(-2)).flatten(-2)
        eye = torch.eye(information.shape[-1], dtype=seen.dtype, device=seen.device)
        precision = apply_tiled(seen, products.mT).unflatten(-1, eye.shape) + eye
        factor = torch.linalg.cholesky_ex(precision).L
        root: Tensor = torch.linalg.solve_triangular(factor, eye, upper=False)
        ctx.save_for_backward(information, seen, root)
        return root

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        # dR = -F R with F the lower triangle of R dP R', its diagonal halved
        information, seen, root = ctx.saved_tensors
        of_triangle = -(gradient @ root.mT).tril()
        of_triangle.diagonal(dim1=-2, dim2=-1).mul_(0.5)
        of_precision = root.mT @ of_triangle @ root
        by_score = (seen.mT @ of_precision.flatten(-2)).unflatten(-1, root.shape[-2:])
        both = by_score + by_score.mT
        return (both @ information.unsqueeze(-1)).squeeze(-1), None


class _DrawCode(torch.autograd.Function):
    """A draw and its KL in few passes; autograd keeps and visits a tensor for every operation."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor, root: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw_scale = raw.chunk(2, dim=-1)
        scale = softplus(raw_scale) + MIN_SCALE
        if root.shape[-3] == 1:
            spread = noise @ root.squeeze(-3)
        else:
            spread = (root * noise.unsqueeze(-1)).sum(-2)
        share = root.square().sum(-2)  # the diagonal of V
        log_root = root.diagonal(dim1=-2, dim2=-1).log()
        by_dimension = 0.5 * (mean.square() + scale.square() * share - 1.0)
        kl = (by_dimension - scale.log() - log_root).sum(-1)
        ctx.save_for_backward(raw, root, noise, scale, spread, share)
        return torch.addcmul(mean, scale, spread), kl

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_code: Tensor, of_kl: Tensor) -> tuple[Tensor, Tensor, None]:
        raw, root, noise, scale, spread, share = ctx.saved_tensors
        mean, raw_scale = raw.chunk(2, dim=-1)
        of_kl = of_kl.unsqueeze(-1)
        of_mean = torch.addcmul(of_code, of_kl, mean)
        of_scale = of_code * spread + of_kl * (scale * share - 1.0 / scale)
        of_raw = torch.cat([of_mean, of_scale * torch.sigmoid(raw_scale)], dim=-1)
        of_spread = of_code * scale
        of_share = of_kl * scale.square()  # twice
        if root.shape[-3] == 1:
            of_root = (noise.mT @ of_spread).unsqueeze(-3)
            of_share, of_kl = (t.sum(-2, keepdim=True) for t in (of_share, of_kl))
        else:
            of_root = noise.unsqueeze(-1) * of_spread.unsqueeze(-2)
        of_root = torch.addcmul(of_root, root, of_share.unsqueeze(-2))
        diagonal = root.diagonal(dim1=-2, dim2=-1)
        of_root.diagonal(dim1=-2, dim2=-1).sub_(of_kl / diagonal)
        return of_raw, of_root, None
