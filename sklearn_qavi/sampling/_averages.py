"""What cells are given a posterior, averaged over its codes: means, probabilities, densities.

The codes are the same for all rows, so a row's answer does not depend on the others.
"""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._plan import DecoderPlan
from .._random import SobolPoints, sobol_uniform
from .._typing import Decoder, HasCategories
from ..inference import Posterior
from ._blocks import base_noise, by_block
from ._given import Given, mean_given

__all__ = ["categories_of", "log_densities", "means", "probabilities"]

Array = NDArray[np.float64]

_SEED = 1  # of the codes


def means(
    decoder: Decoder, posterior: Posterior, n_codes: int | None, given: Given | None
) -> Array:
    """Return E[x | z] averaged over codes, (N, D).

    As many codes as the posterior's family needs, unless ``n_codes`` says otherwise. ``given`` is
    what was seen of the rows.
    """
    family, likelihood = posterior.family, decoder.likelihood
    points = SobolPoints(n_codes or family.codes_of_a_mean, family.n_noise, seed=_SEED)

    def of_block(posterior: Posterior, rows: Tensor) -> Tensor:
        total, rng = torch.zeros(()), np.random.default_rng(_SEED)
        of_rows = None if given is None else given[rows]
        for part in points.parts(DecoderPlan(decoder, rows.device).draws(len(rows))):
            noise = base_noise(posterior, part.unsqueeze(1))
            params = posterior.observation(noise, decoder.decode)
            mean = mean_given(likelihood, params, of_rows, rng)
            total = total + mean.mean(0) * (len(part) / len(points))
        return total

    return by_block(decoder, posterior, of_block)


def probabilities(decoder: Decoder, posterior: Posterior, n_codes: int) -> Array:
    """Return the probabilities behind all categorical columns, side by side, (N, T)."""
    u = sobol_uniform(n_codes, posterior.family.n_noise, seed=_SEED).unsqueeze(1)

    def of_block(posterior: Posterior, rows: Tensor) -> Tensor:
        params = posterior.observation(base_noise(posterior, u), decoder.decode)
        return categories_of(decoder).probabilities(params).mean(0)

    return by_block(decoder, posterior, of_block)


def log_densities(decoder: Decoder, posterior: Posterior, x: Tensor, n_codes: int) -> Array:
    """Return the logarithm of the sum of p(x_d | z) over codes, at values x, (N, D), in nats."""
    points = SobolPoints(n_codes, posterior.family.n_noise, seed=_SEED)

    def of_block(posterior: Posterior, rows: Tensor) -> Tensor:
        prepared = decoder.likelihood.prepare(x[rows])
        cells = []
        for part in points.parts(DecoderPlan(decoder, rows.device).density_codes(n_codes)):
            noise = base_noise(posterior, part.unsqueeze(1))
            params = posterior.observation(noise, decoder.decode)
            cells.append(decoder.likelihood.log_prob(params, prepared))
        return torch.logsumexp(torch.cat(cells), 0)

    return by_block(decoder, posterior, of_block)


def categories_of(decoder: Decoder) -> HasCategories:
    """Return the likelihood as one that knows of categories."""
    return cast(HasCategories, decoder.likelihood)
