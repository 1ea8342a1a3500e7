"""The bounds of equations 8, 6 and 11, as pure functions of a block and a family."""

from collections.abc import Callable

import torch
from torch import Tensor

from .._typing import Block
from ._target import DecoderBlock, FeatureBlock
from .posteriors import Draws, FeaturePosterior, HierarchicalPosterior, PosteriorFamily

__all__ = ["Objective", "elbo", "feature_bound", "hierarchical_bound"]

Objective = Callable[..., Tensor]
"""(block, family, parameters, noise, beta) -> the bound of each row in nats."""


def elbo(
    block: Block, family: PosteriorFamily, parameters: Tensor, noise: Tensor, beta: float = 1.0
) -> Tensor:
    """Return the non-amortised bound L_N of each row of a block, in nats.

    Parameters
    ----------
    block : callable
        log p(x_O | z) of B rows.
    family : PosteriorFamily
        The family that reads ``parameters``.
    parameters : Tensor of shape (B, P)
        One flat vector per row.
    noise : Tensor of shape (S, B or 1, n_noise)
        Base noise; of shape (S, 1, n_noise) where all rows share it.
    beta : float, default=1.0
        Weight of the divergence from the prior; 1 makes the result a bound on log p(x_O).

    Returns
    -------
    bound : Tensor of shape (B,)
        E_q[log p(x_O | z)] - beta KL(q || p), differentiable.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), equation 8.
    """
    draws: Draws = family.draw(parameters, noise)
    fit = (draws.weight * block(draws.z)).sum(0)
    return fit - beta * family.kl(parameters, draws)


def feature_bound(
    block: FeatureBlock,
    family: FeaturePosterior,
    parameters: Tensor,
    noise: Tensor,
    beta: float = 1.0,
    *,
    gamma: float = 1.0,
) -> Tensor:
    """Return the bound L_M of each row of a block, in nats, for a posterior over features.

    Parameters
    ----------
    block : FeatureBlock
        B rows that can be completed, encoded and decoded.
    family : FeaturePosterior
        The family that reads ``parameters``.
    parameters : Tensor of shape (B, P)
        One flat vector per row.
    noise : Tensor of shape (S, B or 1, n_noise)
        Base noise.
    beta : float, default=1.0
        Weight of the divergence of the encoder's posterior from the prior.
    gamma : float, default=1.0
        Weight of the entropy of the features' posterior; 1 together with ``beta=1`` makes the
        result a bound on log p(x_O).

    Returns
    -------
    bound : Tensor of shape (B,)
        E_q(x_M)[E_enc[log p(x_O, x_M | z)] - beta KL(enc || p)] + gamma H(q(x_M)).

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), equations 6 and 7.
    """
    values = family.rsample(parameters, noise)
    fit, kl = block.autoencode(values, noise[..., -family.latent_dim :])
    weight = family.draw_weight(parameters, values, block.missing)
    bound: Tensor = (weight * (fit - beta * kl)).sum(0)
    return bound + gamma * family.entropy(parameters, block.missing)


def hierarchical_bound(
    block: DecoderBlock,
    family: HierarchicalPosterior,
    parameters: Tensor,
    noise: Tensor,
    beta: float = 1.0,
    *,
    warm: Tensor | None = None,
) -> Tensor:
    """Return the bound L_N of each row of a block, in nats, for a hierarchical posterior.

    Parameters
    ----------
    block : callable
        Has ``of_decoded``, log p(x_O | z) of B rows from the decoder's output.
    family : HierarchicalPosterior
        The family that reads ``parameters``.
    parameters : Tensor of shape (B, P)
        One flat vector per row.
    noise : Tensor of shape (S, B or 1, L)
        Base noise.
    beta : float, default=1.0
        Weight of the divergence from the prior; 1 makes the result a bound on log p(x_O).
    warm : bool Tensor of shape (B,), default=None
        Rows in their warm-up. The value is the same, but its gradient is that of L_H, in which the
        divergence of each layer counts the less the larger the layer's code is. None for none.

    Returns
    -------
    bound : Tensor of shape (B,)
        E_q[log p(x_O | z) - beta sum over layers of w_l KL(q(z_l | z_<l) || p(z_l | z_<l))] with
        w_l = 1, and for the gradient in the warm-up 1 / d_l.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), equations 8 and 11.
    """
    params, _, kl = family.descend(parameters, noise)
    fit = block.of_decoded(params)
    bound: Tensor = (fit - beta * kl.sum(-1)).mean(0)
    if warm is None:
        return bound
    weight = torch.where(warm.unsqueeze(1), family.layer_weights.to(kl), 1.0)
    climbed: Tensor = (fit - beta * (weight * kl).sum(-1)).mean(0)
    return bound.detach() + climbed - climbed.detach()
