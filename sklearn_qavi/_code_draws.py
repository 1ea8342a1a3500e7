"""Draws of the code alone: each cell is its mean given the drawn code."""

from dataclasses import replace
from typing import Any, cast

from torch import Tensor

from ._typing import Decoder, JointLikelihood, Likelihood
from .sampling import PooledPosterior

__all__ = ["without_pixel_noise"]


class _Means:
    """A likelihood whose draws are its means."""

    def __init__(self, likelihood: Likelihood) -> None:
        self.likelihood = likelihood
        self.n_outputs = getattr(likelihood, "n_outputs", 1)

    def prepare(self, x: Tensor) -> Any:
        return self.likelihood.prepare(x)

    def log_prob(self, params: Tensor, prepared: Any) -> Tensor:
        return self.likelihood.log_prob(params, prepared)

    def mean(self, params: Tensor) -> Tensor:
        return self.likelihood.mean(params)

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        return self.likelihood.mean(params)


class _JointMeans(_Means):
    """The same where cells depend on each other given the code."""

    likelihood: Any

    def log_prob_observed(self, params: Tensor, prepared: Any, observed: Tensor) -> Tensor:
        total: Tensor = self.likelihood.log_prob_observed(params, prepared, observed)
        return total

    def sample_given(self, params: Tensor, uniform: Tensor, x: Tensor, observed: Tensor) -> Tensor:
        return self.mean_given(params, x, observed)

    def mean_given(self, params: Tensor, x: Tensor, observed: Tensor) -> Tensor:
        mean: Tensor = self.likelihood.mean_given(params, x, observed)
        return mean


class _MeanDecoder:
    """A decoder, with the means of its likelihood in place of draws."""

    def __init__(self, decoder: Decoder) -> None:
        self.decodes_with, self.latent_dim = decoder, decoder.latent_dim
        joint = isinstance(decoder.likelihood, JointLikelihood)
        self.likelihood = (_JointMeans if joint else _Means)(decoder.likelihood)

    def decode(self, z: Tensor) -> Tensor:
        return self.decodes_with.decode(z)


def without_pixel_noise(pooled: PooledPosterior) -> PooledPosterior:
    """Return posteriors whose draws are the decoder's means at the same codes.

    Parameters
    ----------
    pooled : PooledPosterior
        Posteriors under every decoder.

    Returns
    -------
    pooled : PooledPosterior
        For drawing values only.
    """
    results = [
        result
        if result.decoder is None
        else replace(result, decoder=cast(Any, _MeanDecoder(result.decoder)))
        for result in pooled.results
    ]
    decoders = [_MeanDecoder(decoder) for decoder in pooled.decoders]
    given = None if pooled.given is None else replace(pooled.given, noise=None)
    return replace(pooled, decoders=decoders, results=results, given=given)
