"""What cells are drawn given: the code, and for images the pixels that were seen."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .._typing import HasUniforms, JointLikelihood, Likelihood
from ._blocks import EPS
from ._pixel_noise import PixelNoise

__all__ = ["Given", "drawn_given", "mean_given"]


@dataclass(frozen=True)
class Given:
    """What was seen of N rows, for cells that depend on it given the code.

    Parameters
    ----------
    x : Tensor of shape (N, D)
        Values in the decoder's standardized units.
    observed : bool Tensor of shape (N, D)
        True where the cell was seen.
    noise : PixelNoise, default=None
        What neighbouring pixels share.
    """

    x: Tensor
    observed: Tensor
    noise: PixelNoise | None = None

    def __getitem__(self, rows: Tensor | slice) -> "Given":
        """Return what was seen of some rows."""
        return replace(self, x=self.x[rows], observed=self.observed[rows])

    @classmethod
    def concatenate(cls, parts: "Sequence[Given]") -> "Given":
        """Return what was seen of the rows of all parts."""
        x, observed = (torch.cat([getattr(p, name) for p in parts]) for name in ("x", "observed"))
        return cls(x, observed, parts[0].noise)


def drawn_given(
    likelihood: Likelihood, params: Tensor, uniform: Tensor, given: Given | None
) -> Tensor:
    """Return draws (S, B, D) from what codes are decoded to and two uniforms per cell."""
    if given is not None and given.noise is not None and isinstance(likelihood, HasUniforms):
        uniform = given.noise.uniforms(likelihood, params, uniform, given.x, given.observed)
    # uniforms stay inside the open interval in single precision
    uniform = uniform.to(params.dtype).clamp(EPS, 1 - EPS)
    if given is not None and isinstance(likelihood, JointLikelihood):
        drawn: Tensor = likelihood.sample_given(params, uniform, given.x, given.observed)
        return drawn
    return likelihood.sample(params, uniform)


def mean_given(
    likelihood: Likelihood, params: Tensor, given: Given | None, rng: np.random.Generator
) -> Tensor:
    """Return means (S, B, D) given each code.

    Where seen pixels tell of the noise a draw takes the place of the mean: on average over codes it
    is the same.
    """
    if given is None:
        return likelihood.mean(params)
    if isinstance(likelihood, JointLikelihood):
        mean = likelihood.mean_given(params, given.x, given.observed)
    else:
        mean = likelihood.mean(params)
    if given.noise is None or not isinstance(likelihood, HasUniforms):
        return mean
    uniform = rng.random((len(params), 1, given.x.shape[1], 2)).clip(EPS, 1 - EPS)
    drawn = drawn_given(likelihood, params, torch.from_numpy(uniform).to(params.device), given)
    return torch.where(given.noise.reached(given.observed), drawn, mean)
