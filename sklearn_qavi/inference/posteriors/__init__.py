"""Posterior families: what is fitted to each row, in the parameters of one flat vector."""

from ._base import Decoded, Draws, Posterior, PosteriorFamily, Start
from ._codes import SampledCodes
from ._feature import FeaturePosterior
from ._flow import FlowPosterior
from ._full_gaussian import FullGaussianPosterior
from ._gaussian import GaussianPosterior
from ._hierarchical import HierarchicalPosterior
from ._mixture import MixturePosterior

__all__ = [
    "Decoded",
    "Draws",
    "FeaturePosterior",
    "FlowPosterior",
    "FullGaussianPosterior",
    "GaussianPosterior",
    "HierarchicalPosterior",
    "MixturePosterior",
    "Posterior",
    "PosteriorFamily",
    "SampledCodes",
    "Start",
]
