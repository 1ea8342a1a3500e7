"""Base noise that all rows of a fit share: whitened point sets and their rotations."""

import torch
from torch import Tensor

from .._random import derive_seed, sobol_uniform, torch_generator
from .posteriors import PosteriorFamily

__all__ = ["mirrored_normals", "noise_bank"]

_GOLDEN = 0.6180339887498949  # multiples of it spread evenly over the unit interval


def noise_bank(family: PosteriorFamily, n_points: int, n_sets: int, seed: int) -> Tensor:
    """Return sets of base noise for draws of a family, (n_sets, n_points, n_noise), in float64.

    The normal part of a set has exactly mean zero and unit covariance (with more than twice as many
    points as dimensions; else unit variances): a finite set of points otherwise biases the scales
    that are fitted to it. The sets are rotations of one another, so they keep that property while
    no family can adapt to the points themselves. The rest of the noise shifts around the unit cube.
    """
    n_latent = family.latent_dim
    uniform = sobol_uniform(n_points, family.n_noise, seed)
    normal = _whiten(family.noise_from_uniform(uniform)[:, -n_latent:])
    bank = []
    for k in range(n_sets):
        # whitened again, as unit variances of few points do not survive a rotation
        turned = _whiten(normal @ _rotation(n_latent, derive_seed(seed, k))) if k else normal
        moved = (uniform + k * _GOLDEN) % 1.0
        other = family.noise_from_uniform(moved.clamp(1e-9, 1 - 1e-9))[:, :-n_latent]
        bank.append(torch.cat([other, turned], dim=-1))
    return torch.stack(bank)


def mirrored_normals(n_points: int, n_dims: int, seed: int) -> Tensor:
    """Return standard normals (n, n_dims) with their mirror images, so that the mean is zero.

    For codes of so many dimensions that point sets and rotations of them cost more than they give.
    With more than two points each dimension also has unit variance.
    """
    half = torch.randn((n_points + 1) // 2, n_dims, generator=torch_generator(seed))
    points = torch.cat([half, -half])[:n_points]
    return points / points.square().mean(0).sqrt() if n_points > 2 else points


def _whiten(points: Tensor) -> Tensor:
    """Return points (n, L) moved and stretched to mean zero and unit covariance."""
    n_points, n_dims = points.shape
    centred = points - points.mean(0)
    covariance = centred.T @ centred / n_points
    if n_points <= 2 * n_dims:
        covariance = torch.diag(covariance.diag())
    if n_points == 1:
        return points
    factor = torch.linalg.cholesky(covariance)
    whitened: Tensor = torch.linalg.solve_triangular(factor, centred.T, upper=False).T
    return whitened


def _rotation(n_dims: int, seed: int) -> Tensor:
    """Return a random orthogonal matrix, (L, L)."""
    generator = torch_generator(seed)
    q, r = torch.linalg.qr(torch.randn(n_dims, n_dims, generator=generator, dtype=torch.float64))
    rotation: Tensor = q * r.diag().sign()
    return rotation
