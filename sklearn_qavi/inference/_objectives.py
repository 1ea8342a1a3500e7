"""The bound of equation 8, as a pure function of a block and a family."""

from torch import Tensor

from .._typing import Block
from .posteriors import Draws, PosteriorFamily

__all__ = ["elbo"]


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
        One flat vector a row.
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
