"""Importance weights of fitted posteriors: how far to trust them, and draws corrected by them."""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from .._plan import WEIGHED_CODES, weighed_at_a_time
from .._random import SobolPoints, derive_seed
from ._blocks import row_blocks
from ._importance import effective_sample_size, pareto_smooth, systematic_resample
from ._result import InferenceResult
from ._target import DecoderTarget
from .posteriors import Posterior, SampledCodes
from .posteriors._base import standard_normal_log_prob
from .posteriors._gaussian import diagonal_normal_log_prob

__all__ = ["weigh_codes"]

_WIDER = 1.5  # how much wider than q the defensive Gaussian is
_MIN_SPREAD = 1e-3  # of a code, on the scale of the prior


def weigh_codes(
    target: DecoderTarget,
    result: InferenceResult,
    *,
    seed: int,
    n_draws: int = 1024,
    n_kept: int = 256,
    resample: bool = False,
) -> InferenceResult:
    """Weigh draws of the code by p(x_O, z) / q(z); say how reliable that is, or resample by it.

    When resampling, half of the draws come from a Gaussian half as wide again as q in every
    direction, and weights are relative to both: a q that is too narrow, as one of independent
    dimensions is, would otherwise leave weights without a finite variance.

    Parameters
    ----------
    target : DecoderTarget
        The rows.
    result : InferenceResult
        Their posteriors.
    seed : int
        Seed of the draws, which all rows share.
    n_draws : int, default=1024
        Weighted draws S of a row, 16 at least. They are Pareto smoothed, see `pareto_smooth`.
    n_kept : int, default=256
        Codes that are kept when resampling.
    resample : bool, default=False
        Put resampled codes in the place of the posterior: asymptotically in S they are draws from
        p(z | x_O) itself, whatever q.

    Returns
    -------
    result : InferenceResult
        With ``pareto_k`` and ``effective_sample_size``, and with ``resample=True`` with
        equally likely resampled codes as its posterior; ``codes`` then is what they came from.

    Notes
    -----
    A Pareto k above 0.7 says that the weights' variance is infinite or nearly so, and neither q
    nor the resampled codes should be trusted for that row ([1]_).

    References
    ----------
    .. [1] Vehtari, Simpson, Gelman, Yao, Gabry (2024), "Pareto smoothed importance sampling".
    """
    posterior = result.code_posterior
    family = posterior.family
    points = SobolPoints(n_draws, family.n_noise, derive_seed(seed, 3), antithetic=False)
    n_rows, at_a_time = weighed_at_a_time(family.images_at_a_time)
    k_hat, size, kept = [], [], []

    def noises(size: int) -> Iterator[Tensor]:
        for u in points.parts(size):
            yield family.noise_from_uniform(u.to(target.device)).to(target.x).unsqueeze(1)

    with torch.no_grad():
        for rows, n in row_blocks(target.n_rows, target.device, n_rows):
            if resample:
                (noise,) = noises(n_draws)
                z, log_q = _defensive(posterior[rows], noise)
                log_weight = _log_joint(target, rows, z) - log_q
            else:
                block = posterior[rows]
                parts = [_log_weight(target, rows, block, noise) for noise in noises(at_a_time)]
                log_weight = torch.cat(parts)
            log_weight, k = pareto_smooth(log_weight)
            k_hat.append(k[:n])
            size.append(effective_sample_size(log_weight)[:n])
            if resample:
                index = systematic_resample(log_weight, n_kept)[:, :n, None]
                kept.append(z[:, :n].gather(0, index.expand(-1, -1, z.shape[-1])))
    weighed = replace(
        result,
        pareto_k=torch.cat(k_hat),
        effective_sample_size=torch.cat(size),
    )
    if not resample:
        return weighed
    return replace(
        weighed,
        posterior=SampledCodes.posterior(torch.cat(kept, dim=1)),
        codes=posterior,
        n_evaluations=result.n_evaluations + n_draws,
    )


def _log_weight(target: DecoderTarget, rows: Tensor, posterior: Posterior, noise: Tensor) -> Tensor:
    """Return log p(x_O, z) - log q(z) of codes of q, (S, B)."""
    decoded = posterior.decoded(noise, target.decode)
    log_observed = target.block(rows).of_decoded(decoded.params)
    return torch.nan_to_num(log_observed, nan=-math.inf, posinf=-math.inf) + decoded.log_ratio


def _defensive(posterior: Posterior, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return codes (S, B, L) of q and of a wider Gaussian, half each, and their log density."""
    half = len(noise) // 2
    inner = posterior.rsample(noise[:half])
    # at least as many points as make a variance of use
    around = inner if half >= 64 else posterior.rsample(noise)
    centre, scale = around.mean(0), _WIDER * around.std(0).clamp_min(_MIN_SPREAD)
    normal = noise[half:, :, -inner.shape[-1] :]
    z = torch.cat([inner, centre + scale * normal])
    log_densities = torch.stack(
        [_log_prob(posterior, z), diagonal_normal_log_prob(z, centre, scale)]
    )
    share = torch.tensor([half, len(noise) - half], device=z.device) / len(noise)
    return z, torch.logsumexp(log_densities + share.log().to(z).view(2, 1, 1), dim=0)


def _log_prob(posterior: Posterior, z: Tensor) -> Tensor:
    return torch.cat([posterior.log_prob(part) for part in z.split(WEIGHED_CODES)])


def _log_joint(target: DecoderTarget, rows: Tensor, z: Tensor) -> Tensor:
    """Return log p(x_O, z), (S, B); -inf where a code decodes to something not finite."""
    block = target.block(rows)
    log_joint = [block(part) + standard_normal_log_prob(part) for part in z.split(WEIGHED_CODES)]
    return torch.nan_to_num(torch.cat(log_joint), nan=-math.inf, posinf=-math.inf)
