"""Where the rows of a block start: prior codes that explain what was observed."""

import torch
from torch import Tensor

from .posteriors import Start
from .posteriors._base import padded

__all__ = ["prior_start"]

_MIN_SCALE = 0.3
_MODE_WIDTH = 0.7  # prior standard deviations around the best code
_MIN_GAIN = 1.0  # nats; the estimates are rough


def prior_start(log_likelihood: Tensor, codes: Tensor) -> Start:
    """Average prior codes, the same for every row, by their likelihood on each row.

    Parameters
    ----------
    log_likelihood : Tensor of shape (K, B)
        log p(x_O | z) of each row at the codes, in nats.
    codes : Tensor of shape (K, L)
        Codes drawn from the prior.

    Returns
    -------
    start : Start
        Self-normalised importance estimates of each row's posterior mean and scale; where the mean
        lies between modes, those of the mode around the row's best code.
    """
    with torch.no_grad():
        log_likelihood = torch.nan_to_num(log_likelihood, nan=-torch.inf).clamp_min(-1e30)
        mean, scale = _moments(log_likelihood, codes)
        best = codes[log_likelihood.argmax(0)]
        near = -0.5 * (torch.cdist(codes, best) / _MODE_WIDTH).square()
        mode_mean, mode_scale = _moments(log_likelihood + near, codes)
        gain = _bound(log_likelihood, codes, mode_mean, mode_scale)
        gain = gain - _bound(log_likelihood, codes, mean, scale)
        use_mode = (gain > _MIN_GAIN).unsqueeze(1)
        mean = torch.where(use_mode, mode_mean, mean)
        scale = torch.where(use_mode, mode_scale, scale)
    return Start(mean, scale, codes, log_likelihood)


def _moments(log_weight: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and scale of the codes, (B, L), under each row's weights (K, B)."""
    weight = torch.softmax(log_weight, dim=0)
    n_latent = codes.shape[1]
    wide = padded(codes)
    mean, second = (
        torch.einsum("kb,kl->bl", weight, c)[:, :n_latent] for c in (wide, wide.square())
    )
    # few codes carry the weight, so the spread among them understates the posterior's
    scale = (second - mean.square()).clamp_min(0.0).sqrt().clamp(_MIN_SCALE, 1.0)
    return mean, scale


def _bound(log_likelihood: Tensor, codes: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Estimate each row's bound at a Gaussian (B, L) from the prior codes, which are free."""
    # log q(z) - log p(z) up to a constant, as products of matrices
    precision = scale.square().reciprocal()
    log_ratio = codes @ (precision * mean).T - 0.5 * codes.square() @ (precision - 1.0).T
    weight = torch.softmax(log_ratio, dim=0)
    kl = (0.5 * (mean.square() + scale.square() - 1.0) - scale.log()).sum(-1)
    return (weight * log_likelihood).sum(0) - kl
