"""Observation models of table columns: from the decoder's output to densities, means and draws.

A likelihood serves a group of columns. It learns constants of its columns from the training rows
(`fit_columns`), says how many decoder outputs it needs, and works on standardized values.
`ColumnLikelihoods` puts groups of different families side by side; it is what decoders carry.

Shapes: decoder output (..., P), values (N, D); `...` ends in N or broadcasts with it.
"""

from ._base import MAX_SCORE, ColumnLikelihood
from ._bernoulli import BernoulliLikelihood
from ._categorical import MAX_WIDTH, CategoricalLikelihood
from ._columns import LIKELIHOODS, ColumnLikelihoods
from ._continuous_bernoulli import ContinuousBernoulliLikelihood
from ._histogram import HistogramLikelihood
from ._image import ImageLikelihood
from ._image_table import IMAGE_LIKELIHOODS, make_image_likelihood
from ._location_scale import (
    DiscretizedNormalLikelihood,
    GaussianLikelihood,
    StudentTLikelihood,
)
from ._logistic_mixture import LogisticMixtureLikelihood

__all__ = [
    "IMAGE_LIKELIHOODS",
    "LIKELIHOODS",
    "MAX_SCORE",
    "MAX_WIDTH",
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "ColumnLikelihood",
    "ColumnLikelihoods",
    "ContinuousBernoulliLikelihood",
    "DiscretizedNormalLikelihood",
    "GaussianLikelihood",
    "HistogramLikelihood",
    "ImageLikelihood",
    "LogisticMixtureLikelihood",
    "StudentTLikelihood",
    "make_image_likelihood",
]
