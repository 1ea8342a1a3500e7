"""Fit a posterior over the latent code to each incomplete row, using only a decoder.

`Gaussian`, `Mixture`, `Flow`, `Feature` and `Hierarchical` are what ``posterior`` of the imputers
takes. The rest is for those who bring a decoder or a posterior of their own.
"""

from ._context import Context
from ._correction import weigh_codes
from ._engine import fit_posterior
from ._hierarchical import Hierarchical
from ._methods import Feature, Flow, Gaussian, InferenceMethod, Mixture
from ._result import InferenceResult
from ._settings import Adam, Newton
from ._target import DecoderTarget, FeatureTarget, FunctionTarget
from .posteriors import (
    FeaturePosterior,
    FlowPosterior,
    FullGaussianPosterior,
    GaussianPosterior,
    HierarchicalPosterior,
    MixturePosterior,
    Posterior,
    PosteriorFamily,
    SampledCodes,
)

__all__ = [
    "POSTERIORS",
    "Adam",
    "Context",
    "DecoderTarget",
    "Feature",
    "FeaturePosterior",
    "FeatureTarget",
    "Flow",
    "FlowPosterior",
    "FullGaussianPosterior",
    "FunctionTarget",
    "Gaussian",
    "GaussianPosterior",
    "Hierarchical",
    "HierarchicalPosterior",
    "InferenceMethod",
    "InferenceResult",
    "Mixture",
    "MixturePosterior",
    "Newton",
    "Posterior",
    "PosteriorFamily",
    "SampledCodes",
    "fit_posterior",
    "weigh_codes",
]

POSTERIORS: dict[str, type[InferenceMethod]] = {
    "gaussian": Gaussian,
    "mixture": Mixture,
    "flow": Flow,
    "feature": Feature,
    "hierarchical": Hierarchical,
}
"""Option string -> class, which the string stands for with its defaults."""
