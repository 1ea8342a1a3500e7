"""How far neighbouring pixels share the noise of draws, as hidden pixels ask for."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch

from ..sampling import shared_draws
from ..sampling._given import Given
from ..sampling._pixel_noise import PixelNoise
from ._network import VAENetwork
from ._training import (
    QUICK,
    HiddenCells,
    crps_of_draws,
    draws_of_hidden_cells,
    least_in_turn,
)

__all__ = ["OWN_NOISE", "learned_noise"]

OWN_NOISE = 0.02
"""Share of a pixel's noise that is its own, where nothing is known of it."""

_WIDTHS = (0.5, 0.7, 0.85, 1.0, 1.25, 1.5, 2.0, 3.0)
_OWN_SHARES = (0.1, 0.3, 0.6)
_DRAWS = 16  # of each network


def learned_noise(
    networks: Sequence[VAENetwork],
    cells: HiddenCells,
    beta: float,
    image_shape: tuple[int, int, int],
) -> tuple[float, float]:
    """Return width and own share of the noise with the lowest CRPS; a width of 0 if none helps.

    Scored are hidden cells that a visible pixel tells of, by the draws of all networks together.
    Larger widths are tried until one does worse, and then larger shares.

    Parameters
    ----------
    networks : sequence of VAENetwork
        The pool.
    cells : HiddenCells
        Validation images.
    beta : float
        Weight of the KL when they are inferred.
    image_shape : tuple of int
        Channels C, height H and width W.
    """
    members = [(n, draws_of_hidden_cells(n, cells, QUICK, beta=beta)[1]) for n in networks]
    first = PixelNoise(image_shape, _WIDTHS[0], OWN_NOISE)
    told = replace(first, width=1.0).reached(cells.visible) & cells.hidden
    weight = told * cells.weight.unsqueeze(1)
    if not weight.any():
        return 0.0, OWN_NOISE

    @cache
    def crps(noise: PixelNoise | None) -> float:
        given = Given(cells.x, cells.visible, noise)
        with torch.no_grad():
            draws = [shared_draws(*m, _DRAWS, cells.x.shape[1], given) for m in members]
        score = crps_of_draws(torch.cat(draws), cells.x, [])
        return float((score * weight).sum() / weight.sum())

    wider = [replace(first, width=width) for width in _WIDTHS]
    best = least_in_turn([None, *wider], crps)
    if best is None:
        return 0.0, OWN_NOISE
    best = least_in_turn([best, *(replace(best, own=own) for own in _OWN_SHARES)], crps)
    return best.width, best.own
