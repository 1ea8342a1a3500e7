"""Scores of imputations: of cells that were hidden, and of sets of completed images.

Of tables, scores are over the missing cells and nothing else. ``missing`` is a boolean mask, True
for a cell to score. Values are in the unit of ``X_true``; with ``scale``, one number per column
such as its standard deviation, they are in multiples of it, so that columns of different units may
be averaged.

Of images, scores compare features of real and of completed ones. Features come from any network,
or are given.
"""

from ._cells import (
    energy_score,
    interval_coverage,
    interval_width,
    masked_crps,
    masked_mae,
    masked_rmse,
    minimum_nrmse,
)
from ._extractors import extract_features, load_inception
from ._log_scores import conditional, iwae, predictive
from ._lpips import lpips
from ._perceptual import frechet_distance, p_ids, u_ids
from ._scorer import make_imputation_scorer

__all__ = [
    "conditional",
    "energy_score",
    "extract_features",
    "frechet_distance",
    "interval_coverage",
    "interval_width",
    "iwae",
    "load_inception",
    "lpips",
    "make_imputation_scorer",
    "masked_crps",
    "masked_mae",
    "masked_rmse",
    "minimum_nrmse",
    "p_ids",
    "predictive",
    "u_ids",
]
