"""Posteriors of many rows under one decoder, gone through block by block."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._plan import DecoderPlan
from .._typing import Decoder
from ..inference import Posterior
from ..inference._blocks import row_blocks

__all__ = ["EPS", "base_noise", "blocks", "by_block"]

EPS = 1e-7  # uniforms stay inside the open interval in single precision


def blocks(decoder: Decoder, n_rows: int, device: torch.device) -> Iterator[tuple[Tensor, int]]:
    """Yield rows in blocks of the size that suits decoder and device, see `row_blocks`."""
    return row_blocks(n_rows, device, DecoderPlan(decoder, device).rows())


def by_block(
    decoder: Decoder, posterior: Posterior, function: Callable[[Posterior, Tensor], Tensor]
) -> NDArray[np.float64]:
    """Apply a function to blocks of rows and join its results on their last but one axis.

    ``function(posterior, rows)`` is called with the posteriors of B rows and their indices.
    """
    device = posterior.parameters.device
    with torch.no_grad():
        parts = [
            function(posterior[rows], rows)[..., :n, :].double().cpu().numpy()
            for rows, n in blocks(decoder, len(posterior), device)
        ]
    return np.concatenate(parts, axis=-2)


def base_noise(posterior: Posterior, code_u: Tensor) -> Tensor:
    """Return the base noise of the posterior's family for uniforms (S, B or 1, n)."""
    code_u = code_u.to(posterior.parameters.device).clamp(EPS, 1 - EPS)
    return posterior.family.noise_from_uniform(code_u).to(posterior.parameters)
