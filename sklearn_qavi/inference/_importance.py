"""Importance weights: Pareto smoothing, what they are worth, and draws without weights."""

import math

import torch
from torch import Tensor

__all__ = ["effective_sample_size", "pareto_smooth", "systematic_resample"]

_MIN_TAIL = 5  # fewer weights say nothing about their tail
_FLAT = 1e-3  # nats; log weights this close together differ by rounding at most
_PRIOR_K, _PRIOR_COUNT = 0.5, 10  # the weak prior of k-hat counts as ten weights


def pareto_smooth(log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Smooth the largest weights of each row, normalise all, and say how reliable they are.

    Parameters
    ----------
    log_weights : Tensor of shape (S, N)
        Unnormalised log weights of S draws of N rows; -inf is a weight of zero.

    Returns
    -------
    log_weights : Tensor of shape (S, N)
        Smoothed log weights; their exponentials sum to one in each row. NaN in a row without a
        finite weight, and in one with a weight that is NaN or +inf.
    k_hat : Tensor of shape (N,)
        Shape of the generalised Pareto distribution fitted to the tail; above 0.7 the weights are
        not reliable. -inf where the tail is flat, within 0.001 nats, for then no weight
        dominates. +inf where nothing can be fitted: for fewer than 21 draws, for a row of NaN,
        and where a quarter of the tail is as small as the largest weight below it, as when most
        weights are zero.

    Notes
    -----
    The tail has ``ceil(min(S / 5, 3 sqrt(S)))`` weights. It keeps its order and takes the
    quantiles of the fitted distribution, but no more than the largest raw weight ([1]_); the fit
    is that of [2]_ with the prior of [1]_ on k-hat. Flat tails and those without a fit stay as
    they are. All is computed in float64 and returned in the type of the input.

    References
    ----------
    .. [1] Vehtari, Simpson, Gelman, Yao, Gabry (2024), "Pareto smoothed importance sampling".
    .. [2] Zhang, Stephens (2009), "A new and efficient estimation method for the generalized
       Pareto distribution".
    """
    log_w = _by_row(log_weights)
    log_w = log_w - log_w.amax(1, keepdim=True)
    k_hat = log_w.new_full((len(log_w),), torch.inf)
    n_draws = log_w.shape[1]
    n_tail = math.ceil(min(n_draws / 5, 3 * math.sqrt(n_draws)))
    if n_tail >= _MIN_TAIL:
        ordered, order = log_w.sort(dim=1, stable=True)
        tail, cutoff = ordered[:, -n_tail:], ordered[:, -n_tail - 1, None].exp()
        k, sigma = _fit_generalised_pareto(tail.exp() - cutoff)
        flat, fitted = tail[:, -1] - tail[:, 0] <= _FLAT, k.isfinite()
        smoothed = (cutoff + _exceedances(k, sigma, n_tail)).log().clamp(max=0.0)
        smoothed = torch.where((fitted & ~flat).unsqueeze(1), smoothed, tail)
        log_w = log_w.scatter(1, order[:, -n_tail:], smoothed)
        k_hat = torch.where(fitted, k, k_hat).masked_fill(flat, -torch.inf)
    log_w = log_w - log_w.logsumexp(1, keepdim=True)
    return log_w.T.to(log_weights), k_hat.to(log_weights)


def effective_sample_size(log_weights: Tensor) -> Tensor:
    """Return how many equally weighted draws are worth as much as the weighted ones.

    Parameters
    ----------
    log_weights : Tensor of shape (S, N)
        Normalised log weights of S draws of N rows.

    Returns
    -------
    size : Tensor of shape (N,)
        One over the sum of the squared weights, between 1 and S.
    """
    return (-(2 * _by_row(log_weights)).logsumexp(1)).exp().to(log_weights)


def systematic_resample(log_weights: Tensor, n: int, offset: float = 0.5) -> Tensor:
    """Choose draws so that each occurs as often as its weight says, up to one.

    Parameters
    ----------
    log_weights : Tensor of shape (S, N)
        Log weights of S draws of N rows. A row of NaN counts as equally weighted.
    n : int
        Draws to choose in each row.
    offset : float, default=0.5
        Where in [0, 1) the comb of n equally spaced teeth begins; all rows share it.

    Returns
    -------
    index : Tensor of shape (n, N)
        Which draws were chosen, as int64 and in ascending order: a part of them does not
        represent the whole unless it is spread over it.
    """
    weight = _by_row(log_weights).softmax(1)
    total = torch.where(weight.isnan(), 1.0, weight).cumsum(1)
    teeth = (torch.arange(n, dtype=total.dtype, device=total.device) + offset) / n
    teeth = teeth.expand(len(total), n).contiguous()
    index = torch.searchsorted(total / total[:, -1:], teeth, right=True)
    return index.clamp(max=len(log_weights) - 1).T


def _by_row(log_weights: Tensor) -> Tensor:
    """Return weights (S, N) as (N, S) in float64, each row in one piece of memory."""
    return log_weights.T.double().contiguous()


def _fit_generalised_pareto(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return shape k and scale, each (N,), fitted to ascending exceedances (N, M)."""
    n_tail = x.shape[1]
    n_grid = 30 + math.isqrt(n_tail)
    point = torch.arange(1, n_grid + 1, dtype=x.dtype, device=x.device) - 0.5
    quartile = x[:, int(n_tail / 4 + 0.5) - 1, None]
    theta = (1 - (n_grid / point).sqrt()) / (3 * quartile) + 1 / x[:, -1:]
    k = (-theta.unsqueeze(2) * x.unsqueeze(1)).log1p().mean(2)
    profile = n_tail * ((-theta / k).log() - k - 1)
    theta = (profile.softmax(1) * theta).sum(1, keepdim=True)
    k = (-theta * x).log1p().mean(1)
    sigma = -k / theta.squeeze(1)
    return (n_tail * k + _PRIOR_COUNT * _PRIOR_K) / (n_tail + _PRIOR_COUNT), sigma


def _exceedances(k: Tensor, sigma: Tensor, n_tail: int) -> Tensor:
    """Return the middle quantiles of generalised Pareto distributions, (N, M)."""
    k, sigma = k.unsqueeze(1), sigma.unsqueeze(1)
    p = (torch.arange(n_tail, dtype=k.dtype, device=k.device) + 0.5) / n_tail
    log_tail = torch.log1p(-p)
    return sigma * torch.where(k == 0, -log_tail, torch.expm1(-k * log_tail) / k)
