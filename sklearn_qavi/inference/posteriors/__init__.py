"""Posterior families, and the one table that turns an option string into a class."""

from typing import Any

from ._base import Draws, Posterior, PosteriorFamily, Start
from ._codes import SampledCodes
from ._feature import FeaturePosterior
from ._flow import FlowPosterior
from ._gaussian import GaussianPosterior
from ._hierarchical import HierarchicalPosterior
from ._mixture import MixturePosterior

__all__ = [
    "POSTERIORS",
    "Draws",
    "FeaturePosterior",
    "FlowPosterior",
    "GaussianPosterior",
    "HierarchicalPosterior",
    "MixturePosterior",
    "Posterior",
    "PosteriorFamily",
    "SampledCodes",
    "Start",
    "make_posterior",
]

POSTERIORS: dict[str, tuple[type[PosteriorFamily], tuple[str, ...]]] = {
    "gaussian": (GaussianPosterior, ()),
    "mixture": (MixturePosterior, ("n_components",)),
    "flow": (FlowPosterior, ("n_flow_layers",)),
}
"""Option string -> the class and the names of the options it reads."""


def make_posterior(name: str, latent_dim: int, **options: Any) -> PosteriorFamily:
    """Return the family behind an option string.

    Parameters
    ----------
    name : {"gaussian", "mixture", "flow"}
        Option string.
    latent_dim : int
        Size L of the latent code.
    **options : dict
        ``n_components``, ``n_flow_layers``; those that the family does not read are ignored.

    Returns
    -------
    family : PosteriorFamily
        The family.
    """
    family, reads = POSTERIORS[name]
    return family(latent_dim, **{key: options[key] for key in reads})
