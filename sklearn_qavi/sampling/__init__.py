"""From decoders and incomplete rows to posteriors, draws, means and predictive densities.

A pool holds one or more decoders of the same columns; each is inferred on its own and their draws
count alike. Everything here is in the decoders' standardized units.
"""

from ._draws import shared_draws
from ._mode import half_sample_mode
from ._pool import DecoderPool
from ._pooled import PooledPosterior

__all__ = ["DecoderPool", "PooledPosterior", "half_sample_mode", "shared_draws"]
