"""Decoders with all that is needed to infer rows under each of them."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from .._random import derive_seed
from .._spread import Spread
from .._typing import Decoder, JointLikelihood, Progress
from ..inference import Context, DecoderTarget, InferenceMethod, weigh_codes
from ._given import Given
from ._pixel_noise import PixelNoise
from ._pooled import PooledPosterior, RowsToWeigh

__all__ = ["DecoderPool"]

T = TypeVar("T")


@dataclass(frozen=True)
class DecoderPool:
    """Decoders with everything needed to infer rows under each of them.

    Parameters
    ----------
    decoders : sequence of torch.nn.Module
        Each has ``decode``, ``likelihood`` and ``latent_dim``; all on one device.
    method : InferenceMethod
        How posteriors are found.
    states : sequence of object
        What the method learned for each decoder.
    context : Context
        What the method is told besides; its seed is that of the noise that all rows share.
    spread : Spread, default=None
        How draws are spread around the medians of their cells.
    noise : PixelNoise, default=None
        What neighbouring pixels share given the code; None if they share nothing.
    """

    decoders: Sequence[Decoder]
    method: InferenceMethod
    states: Sequence[object]
    context: Context
    spread: Spread | None = None
    noise: PixelNoise | None = None

    def on(self, device: torch.device) -> "DecoderPool":
        """Return this pool on a device; the pool itself stays where it is."""
        if device.type == "cpu":
            return self
        return replace(
            self, decoders=_moved(self.decoders, device), states=_moved(self.states, device)
        )

    def infer(
        self,
        x: Tensor,
        observed: Tensor,
        progress: Progress | None = None,
        *,
        resample: bool = False,
        deadline: float | None = None,
    ) -> PooledPosterior:
        """Return the posteriors of rows (N, D) with their observed mask under every decoder.

        The decoders share the time up to ``deadline``, a reading of `time.monotonic`. With
        ``resample`` the posteriors become codes resampled by their importance weights, see
        `weigh_codes`; without, the weights are computed when somebody asks how good they are.
        """
        results = []
        for k, (decoder, state) in enumerate(zip(self.decoders, self.states, strict=True)):
            seed = derive_seed(self.context.seed, k)
            share = _share(deadline, len(self.decoders) - k)
            context = replace(self.context, seed=seed, progress=progress, deadline=share)
            result = self.method.infer(decoder, state, x, observed, context)
            if resample:
                target = DecoderTarget.of(decoder, x, observed)
                result = weigh_codes(target, result, seed=seed, resample=True)
            results.append(result)
        dependent = any(isinstance(d.likelihood, JointLikelihood) for d in self.decoders)
        given = Given(x, observed, self.noise) if dependent or self.noise else None
        rows = RowsToWeigh(x, observed, self.context.seed)
        return PooledPosterior(self.decoders, results, x.shape[1], given, self.spread, rows)


def _moved(parts: Sequence[T], device: torch.device) -> list[T]:
    """Return copies of modules on a device; what is no module stays as it is."""
    return [copy.deepcopy(p).to(device) if isinstance(p, nn.Module) else p for p in parts]


def _share(deadline: float | None, n_left: int) -> float | None:
    """Return the deadline of the next of so many equal parts."""
    if deadline is None:
        return None
    now = time.monotonic()
    return now + (deadline - now) / n_left
