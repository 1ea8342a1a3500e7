"""Fit a posterior over the latent code to each incomplete row, using only a decoder."""

from ._engine import fit_posterior
from ._result import InferenceResult
from ._schedule import SCHEDULES, Schedule
from ._target import DecoderTarget, FunctionTarget
from .posteriors import (
    POSTERIORS,
    FlowPosterior,
    GaussianPosterior,
    MixturePosterior,
    Posterior,
    PosteriorFamily,
    make_posterior,
)

__all__ = [
    "POSTERIORS",
    "SCHEDULES",
    "DecoderTarget",
    "FlowPosterior",
    "FunctionTarget",
    "GaussianPosterior",
    "InferenceResult",
    "MixturePosterior",
    "Posterior",
    "PosteriorFamily",
    "Schedule",
    "fit_posterior",
    "make_posterior",
]
