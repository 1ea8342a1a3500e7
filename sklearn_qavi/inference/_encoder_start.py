"""Where the rows of a block start: codes that an encoder gives for rows filled in."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .._typing import EncodingDecoder
from ._noise import noise_bank
from ._target import log_prob_observed
from .posteriors import GaussianPosterior, Start

__all__ = ["EncoderStart"]

_N_ROUNDS = 3
_N_POINTS = 8
_MIN_SCALE = 0.1


@dataclass(frozen=True)
class EncoderStart:
    """Starts from an encoder, where they are better than those from prior codes.

    The missing cells of a row are filled with the decoder's means at a code, the row is encoded,
    and that again a few times, as an EM algorithm would. A start is as good as the bound at its
    Gaussian, estimated with eight points that all rows share.

    Parameters
    ----------
    decoder : object
        Has ``decode``, ``encode``, ``likelihood`` and ``latent_dim``.
    x : Tensor of shape (N, D)
        Rows in the decoder's units.
    observed : bool Tensor of shape (N, D)
        True where the cell is observed.
    beta : float
        Weight of the divergence from the prior.
    always : bool, default=False
        Take the encoder's start whether it is better or not.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), section 3.2: any completion of a row will do.
    """

    decoder: EncodingDecoder
    x: Tensor
    observed: Tensor
    beta: float
    always: bool = False

    @property
    def n_evaluations(self) -> int:
        """Decoder evaluations per row."""
        return _N_ROUNDS + (0 if self.always else 2 * _N_POINTS)

    def __call__(self, rows: Tensor, start: Start) -> Start:
        """Return the better of the start of the rows with these indices and the encoder's."""
        x, observed = self.x[rows], self.observed[rows]
        with torch.no_grad():
            mean, scale = start.mean, start.scale
            for _ in range(_N_ROUNDS):
                values = self.decoder.likelihood.mean(self.decoder.decode(mean[None]))[0]
                completed = torch.where(observed, x, values)
                visible = torch.ones_like(observed)
                mean, scale = self.decoder.encode(completed, visible)
            scale = scale.clamp(_MIN_SCALE, 1.0)
            better = torch.ones_like(mean[:, 0], dtype=torch.bool)
            if not self.always:
                prepared = self.decoder.likelihood.prepare(x)
                bounds = [
                    self._bound(prepared, observed, m, s)
                    for m, s in ((mean, scale), (start.mean, start.scale))
                ]
                better = bounds[0] > bounds[1]
            better = (better & torch.isfinite(mean).all(1) & torch.isfinite(scale).all(1))[:, None]
            return replace(
                start,
                mean=torch.where(better, mean, start.mean),
                scale=torch.where(better, scale, start.scale),
            )

    def _bound(self, prepared: object, observed: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        """Return the bound (B,) at Gaussians (B, L)."""
        family = GaussianPosterior(mean.shape[1])
        noise = noise_bank(family, _N_POINTS, 1, seed=4)[0].to(mean)
        params = self.decoder.decode(mean + scale * noise.unsqueeze(1))
        fit = log_prob_observed(self.decoder.likelihood, params, prepared, observed).mean(0)
        kl = (0.5 * (mean.square() + scale.square() - 1.0) - scale.log()).sum(-1)
        return torch.nan_to_num(fit - self.beta * kl, nan=-torch.inf)
