"""Scores of posteriors on the true values of missing cells, summed over draws of the code."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._plan import DecoderPlan
from .._random import SobolPoints
from .._typing import Decoder, JointLikelihood
from ..inference import InferenceResult
from ._blocks import base_noise, blocks

__all__ = ["scores_of_decoder"]


def scores_of_decoder(
    decoder: Decoder,
    result: InferenceResult,
    table: tuple[Tensor, Tensor, Tensor],
    sizes: list[int],
) -> dict[str, NDArray[np.float64]]:
    """Return the scores of rows under one decoder after so many draws.

    Parameters
    ----------
    decoder : object
        Has ``decode``, ``likelihood`` and ``latent_dim``.
    result : InferenceResult
        What inference of the N rows gave.
    table : tuple of Tensor of shape (N, D)
        True values, what inference saw, and what is scored.
    sizes : list of int
        Numbers of draws in ascending order.

    Returns
    -------
    scores : dict of ndarray of shape (len(sizes), N)
        See `PooledPosterior.score_missing`.
    """
    families = {result.posterior.family.n_noise, result.code_posterior.family.n_noise}
    points = SobolPoints(sizes[-1], max(families), seed=3, antithetic=False)
    parts = []
    with torch.no_grad():
        for rows, n in blocks(decoder, len(table[0]), table[0].device):
            block = _ScoredBlock(decoder, result, rows, *(t[rows] for t in table))
            at_a_time = DecoderPlan(decoder, rows.device).scored_draws(len(rows))
            after, n_done = [], 0
            for part in points.parts(at_a_time, sizes):
                block.add(part.unsqueeze(1))
                n_done += len(part)
                if n_done in sizes:
                    after.append(block.scores(n_done))
            parts.append({k: torch.stack([one[k][:n] for one in after]) for k in after[0]})
    return {k: torch.cat([part[k] for part in parts], dim=1).cpu().numpy() for k in parts[0]}


class _ScoredBlock:
    """Sums over draws of the code, for the scores of one block of rows under one decoder."""

    def __init__(
        self,
        decoder: Decoder,
        result: InferenceResult,
        rows: Tensor,
        x: Tensor,
        observed: Tensor,
        missing: Tensor,
    ) -> None:
        self.decoder, self.x, self.observed, self.missing = decoder, x, observed, missing
        self.draws_posterior = result.posterior[rows]
        self.code_posterior = result.code_posterior[rows]
        self.same = result.codes is None
        self.prepared = decoder.likelihood.prepare(x)
        lowest = torch.full((len(rows),), -torch.inf, dtype=torch.float64, device=x.device)
        self.sums = dict.fromkeys(("iwae", "predictive", "joint", "evidence"), lowest)
        self.nrmse = -lowest

    def add(self, u: Tensor) -> None:
        """Add the draws of these uniforms (S, 1, n)."""
        posterior = self.code_posterior
        noise = base_noise(posterior, u[..., : posterior.family.n_noise])
        decoded = posterior.decoded(noise, self.decoder.decode)
        params, log_ratio = decoded.params, decoded.log_ratio
        log_missing, log_observed = self._log_missing_and_observed(params)
        self._accumulate("iwae", log_missing + log_ratio)
        self._accumulate("joint", log_missing + log_observed + log_ratio)
        self._accumulate("evidence", log_observed + log_ratio)
        error = torch.where(self.missing, self.decoder.likelihood.mean(params) - self.x, 0.0)
        count = self.missing.sum(-1).clamp(min=1)
        rmse = (error.square().sum(-1) / count).sqrt().double()
        self.nrmse = self.nrmse.minimum(rmse.amin(0))
        if not self.same:
            posterior = self.draws_posterior
            noise = base_noise(posterior, u[..., : posterior.family.n_noise])
            params = posterior.observation(noise, self.decoder.decode)
            log_missing, _ = self._log_missing_and_observed(params)
        self._accumulate("predictive", log_missing)

    def scores(self, n_draws: int) -> dict[str, Tensor]:
        """Return the scores of each row, (B,), after this many draws."""
        return {
            "iwae": self.sums["iwae"] - np.log(n_draws),
            "predictive": self.sums["predictive"] - np.log(n_draws),
            "conditional": self.sums["joint"] - self.sums["evidence"],
            "minimum_nrmse": self.nrmse,
        }

    def _log_missing_and_observed(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(x_M | x_O, z) and log p(x_O | z), (S, B)."""
        likelihood = self.decoder.likelihood
        if isinstance(likelihood, JointLikelihood):
            observed = likelihood.log_prob_observed(params, self.prepared, self.observed)
            both = self.missing | self.observed
            return likelihood.log_prob_observed(params, self.prepared, both) - observed, observed
        cells = likelihood.log_prob(params, self.prepared)
        missing, observed = (
            torch.where(mask, cells, 0.0).sum(-1) for mask in (self.missing, self.observed)
        )
        return missing, observed

    def _accumulate(self, name: str, log_values: Tensor) -> None:
        total = torch.logsumexp(log_values.double(), 0)
        self.sums[name] = torch.logaddexp(self.sums[name], total)
