"""Fit a posterior over the latent code to each incomplete row, using only a decoder."""

from ._correction import weigh_codes
from ._engine import fit_posterior
from ._hierarchical import HierarchicalSpace
from ._methods import (
    FeatureSpace,
    InferenceMethod,
    LatentSpace,
)
from ._result import InferenceResult
from ._schedule import SCHEDULES, Schedule
from ._target import DecoderTarget, FeatureTarget, FunctionTarget
from .posteriors import (
    POSTERIORS,
    FeaturePosterior,
    FlowPosterior,
    GaussianPosterior,
    HierarchicalPosterior,
    MixturePosterior,
    Posterior,
    PosteriorFamily,
    SampledCodes,
    make_posterior,
)

__all__ = [
    "POSTERIORS",
    "SCHEDULES",
    "DecoderTarget",
    "FeaturePosterior",
    "FeatureSpace",
    "FeatureTarget",
    "FlowPosterior",
    "FunctionTarget",
    "GaussianPosterior",
    "HierarchicalPosterior",
    "HierarchicalSpace",
    "InferenceMethod",
    "InferenceResult",
    "LatentSpace",
    "MixturePosterior",
    "Posterior",
    "PosteriorFamily",
    "SampledCodes",
    "Schedule",
    "fit_posterior",
    "make_posterior",
    "weigh_codes",
]
