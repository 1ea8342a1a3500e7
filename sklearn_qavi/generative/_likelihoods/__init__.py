"""Observation models of table columns: from the decoder's output to densities, means and draws.

A likelihood serves a group of columns. It learns constants of its columns from the training rows
(`fit_columns`), says how many decoder outputs it needs, and works on standardised values.
`ColumnLikelihoods` puts groups of different families side by side; it is what decoders carry.

Shapes: decoder output (..., P), values (N, D); `...` ends in N or broadcasts with it.
"""

from ._base import MAX_SCORE, ColumnLikelihood
from ._bernoulli import BernoulliLikelihood
from ._categorical import MAX_WIDTH, CategoricalLikelihood
from ._columns import LIKELIHOODS, ColumnLikelihoods
from ._histogram import HistogramLikelihood
from ._location_scale import GaussianLikelihood, StudentTLikelihood

__all__ = [
    "LIKELIHOODS",
    "MAX_SCORE",
    "MAX_WIDTH",
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "ColumnLikelihood",
    "ColumnLikelihoods",
    "GaussianLikelihood",
    "HistogramLikelihood",
    "StudentTLikelihood",
]
