"""Inference methods: from a decoder and incomplete rows to a posterior of each row.

QAVI in its two forms is here; the methods it is compared with are in ``baselines``. All follow
`InferenceMethod`, so an imputer takes any of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from .._random import sobol_uniform
from .._typing import Progress
from ._blocks import row_blocks
from ._encoder_start import EncoderStart
from ._engine import fit_posterior
from ._objectives import feature_bound
from ._result import InferenceResult
from ._schedule import Schedule
from ._target import DecoderTarget, FeatureTarget
from .posteriors import FeaturePosterior, MixturePosterior, Posterior, PosteriorFamily

__all__ = [
    "FeatureSpace",
    "InferenceMethod",
    "LatentSpace",
    "encode_completed",
    "encoder_mixture",
]

_N_ENCODED = 64  # draws of the features whose encodings make up the code's distribution


class InferenceMethod(ABC):
    """A way from incomplete rows to a posterior of each.

    A decoder is an object with ``decode``, ``likelihood`` and ``latent_dim``; one with an encoder
    also has ``encode(x, visible)``, which returns mean and scale, both (..., L), of the code of
    values (..., D) of which those under the mask ``visible`` are known.
    """

    needs: ClassVar[str | None] = None
    """What the decoder must have besides: "encode", the encoder it was trained with, or "descend",
    stochastic layers."""

    def learn(self, decoder: Any, x: Tensor, observed: Tensor, *, seed: int) -> Any:
        """Train what the method needs for one decoder besides it, and return it.

        Parameters
        ----------
        decoder : object
            The trained decoder; it is not changed.
        x : Tensor of shape (N, D)
            Training rows in the decoder's standardised units, 0 where missing.
        observed : bool Tensor of shape (N, D)
            True where the cell is observed.
        seed : int
            Seed of everything random.

        Returns
        -------
        state : object
            Passed to `infer`; can be pickled. None where there is nothing to learn.
        """
        return None

    def with_trace(self) -> "InferenceMethod":
        """Return this method with the bound kept after each step, see `InferenceResult`.

        Raises
        ------
        ValueError
            If the method climbs no bound step by step.
        """
        raise ValueError(
            f"{type(self).__name__} climbs no bound row by row, so there is no trace to keep. "
            "posterior='gaussian', 'mixture', 'flow' and 'feature' do."
        )

    @abstractmethod
    def infer(
        self,
        decoder: Any,
        state: Any,
        x: Tensor,
        observed: Tensor,
        *,
        seed: int,
        batch_size: int,
        progress: Progress | None,
        deadline: float | None = None,
    ) -> InferenceResult:
        """Return the posteriors of rows under one decoder.

        Parameters
        ----------
        decoder : object
            The trained decoder.
        state : object
            What `learn` returned for this decoder.
        x : Tensor of shape (N, D)
            Rows in the decoder's standardised units; missing cells hold a finite number.
        observed : bool Tensor of shape (N, D)
            True where the cell is observed.
        seed : int
            Seed of the noise, which all rows share so that a row does not depend on the others.
        batch_size : int
            Rows in work at one time; the result does not depend on it.
        progress : callable or None
            Called with the number of rows just finished.
        deadline : float, default=None
            Reading of `time.monotonic` by which to be done, as far as the method can stop early.

        Returns
        -------
        result : InferenceResult
            In the order of the rows.
        """


@dataclass(frozen=True)
class LatentSpace(InferenceMethod):
    """Non-amortised QAVI: a posterior over the code, fitted through the decoder alone.

    Parameters
    ----------
    family : callable
        Makes a `PosteriorFamily` for a latent size.
    schedule : Schedule
        Steps, draws and learning rates.
    beta : float
        Weight of the divergence from the prior.
    start : {"prior", "encoder", "best"}, default="prior"
        Where rows start: at prior codes weighted by their likelihood; at the encoder's code of the
        row with its holes filled; or at the better of the two, row by row, if the decoder has an
        encoder.
    trace : bool
        Keep the bound after each step.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), section 3.2, equation 8.
    """

    family: Callable[[int], PosteriorFamily]
    schedule: Schedule
    beta: float = 1.0
    start: str = "prior"
    trace: bool = False

    def with_trace(self) -> "LatentSpace":
        """Return this method with the bound kept after each step."""
        return replace(self, trace=True)

    def infer(
        self,
        decoder: Any,
        state: Any,
        x: Tensor,
        observed: Tensor,
        *,
        seed: int,
        batch_size: int,
        progress: Progress | None,
        deadline: float | None = None,
    ) -> InferenceResult:
        """Return the posteriors of rows under one decoder, see `InferenceMethod`."""
        target = DecoderTarget(decoder.decode, decoder.likelihood, x, observed, decoder.latent_dim)
        starter = None
        if self.start == "encoder" or (self.start == "best" and hasattr(decoder, "encode")):
            starter = EncoderStart(decoder, x, observed, self.beta, self.start == "encoder")
        return fit_posterior(
            target,
            self.family(decoder.latent_dim),
            schedule=self.schedule,
            beta=self.beta,
            seed=seed,
            batch_size=batch_size,
            progress=progress,
            deadline=deadline,
            starter=starter,
            trace=self.trace,
        )


@dataclass(frozen=True)
class FeatureSpace(InferenceMethod):
    """Feature QAVI: a posterior over the missing features, with the code left to the encoder.

    Parameters
    ----------
    schedule : Schedule
        Steps, draws and learning rates.
    beta : float
        Weight of the divergence of the encoder's posterior from the prior.
    gamma : float
        Weight of the entropy of the features' posterior.
    trace : bool
        Keep the bound after each step.

    References
    ----------
    .. [1] Agarwal, Hope, Younis, Sudderth (2023), section 3.1, equations 6 and 7.
    """

    schedule: Schedule
    beta: float = 1.0
    gamma: float = 1.0
    trace: bool = False
    needs: ClassVar[str | None] = "encode"

    def with_trace(self) -> "FeatureSpace":
        """Return this method with the bound kept after each step."""
        return replace(self, trace=True)

    def infer(
        self,
        decoder: Any,
        state: Any,
        x: Tensor,
        observed: Tensor,
        *,
        seed: int,
        batch_size: int,
        progress: Progress | None,
        deadline: float | None = None,
    ) -> InferenceResult:
        """Return the posteriors of rows under one decoder, see `InferenceMethod`."""
        n_latent, n_features = decoder.latent_dim, x.shape[1]
        target = FeatureTarget(
            decoder.decode, decoder.likelihood, x, observed, n_latent, decoder.encode
        )
        result = fit_posterior(
            target,
            FeaturePosterior(n_latent, n_features, decoder.decode, decoder.likelihood),
            schedule=self.schedule,
            beta=self.beta,
            seed=seed,
            batch_size=batch_size,
            progress=progress,
            deadline=deadline,
            objective=partial(feature_bound, gamma=self.gamma),
            trace=self.trace,
        )
        return replace(result, codes=self._codes(decoder, result.posterior, x, observed))

    @staticmethod
    def _codes(decoder: Any, posterior: Posterior, x: Tensor, observed: Tensor) -> Posterior:
        """Return E_q(x_M)[q(z | x_O, x_M)] as a mixture over draws of x_M."""
        u = sobol_uniform(_N_ENCODED, posterior.family.n_noise, seed=2).unsqueeze(1)
        noise = posterior.family.noise_from_uniform(u).to(x)
        parts = []
        with torch.no_grad():
            for rows, n in row_blocks(len(x), x.device):
                values = posterior[rows].rsample(noise)
                completed = torch.where(observed[rows], x[rows], values)
                parts.append([t[:, :n] for t in encode_completed(decoder, completed)])
        mean, scale = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        return encoder_mixture(mean, scale)


def encode_completed(decoder: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the encoder's mean and scale, (..., L), for rows without a missing cell."""
    mean, scale = decoder.encode(x, torch.ones_like(x, dtype=torch.bool))
    return mean, scale


def encoder_mixture(mean: Tensor, scale: Tensor) -> Posterior:
    """Return the equally weighted mixture of the encoder's Gaussians (K, N, L) of each row."""
    return MixturePosterior.equally_weighted(mean, scale)
