"""Where the rows of a block start: prior codes that explain what was observed."""

import torch
from torch import Tensor

from .._typing import Block
from .posteriors import Start

__all__ = ["prior_start"]

_MIN_SCALE = 0.3


def prior_start(block: Block, codes: Tensor) -> Start:
    """Score the same prior codes on every row and average them by their likelihood.

    Parameters
    ----------
    block : callable
        log p(x_O | z) of B rows.
    codes : Tensor of shape (K, L)
        Codes drawn from the prior. They are decoded once for the block, not once a row.

    Returns
    -------
    start : Start
        Self-normalised importance estimates of each row's posterior mean and scale.
    """
    with torch.no_grad():
        log_likelihood = torch.nan_to_num(block.shared(codes), nan=-torch.inf).clamp_min(-1e30)
        weight = torch.softmax(log_likelihood, dim=0)
        mean = torch.einsum("kb,kl->bl", weight, codes)
        second = torch.einsum("kb,kl->bl", weight, codes.square())
    # few codes carry the weight, so the spread among them understates the posterior's
    scale = (second - mean.square()).clamp_min(0.0).sqrt().clamp(_MIN_SCALE, 1.0)
    return Start(mean, scale, codes, log_likelihood)
