"""Inference methods that QAVI is compared with, behind the same protocol as QAVI itself.

Any of them, or its short name, is a ``posterior`` of `QAVIImputer`. They share its decoders and
differ in how a row's missing cells are inferred. All of them need the model's encoder;
the hierarchical ones are for models with codes at many layers.
"""

from ..inference import InferenceMethod
from ._amortised import PosteriorMatching, RetunedEncoder
from ._chains import MetropolisWithinGibbs, PseudoGibbs
from ._fill_zeros import FillZeros
from ._hierarchical import HierarchicalPosteriorMatching, HierarchicalVAEAC

__all__ = [
    "BASELINES",
    "FillZeros",
    "HierarchicalPosteriorMatching",
    "HierarchicalVAEAC",
    "MetropolisWithinGibbs",
    "PosteriorMatching",
    "PseudoGibbs",
    "RetunedEncoder",
]

BASELINES: dict[str, type[InferenceMethod]] = {
    "fill_zeros": FillZeros,
    "pseudo_gibbs": PseudoGibbs,
    "metropolis_within_gibbs": MetropolisWithinGibbs,
    "retuned_encoder": RetunedEncoder,
    "posterior_matching": PosteriorMatching,
    "hierarchical_posterior_matching": HierarchicalPosteriorMatching,
    "hierarchical_vaeac": HierarchicalVAEAC,
}
"""Short name -> class with its defaults."""
