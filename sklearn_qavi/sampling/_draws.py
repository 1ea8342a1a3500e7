"""Draws of cells from posteriors, made part by part where all at once would take too much memory.

Three kinds: from uniforms that the caller brings, from low-discrepancy points that all rows share,
and independent ones keyed by a seed and the position of a row in the call.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._interrupts import go_on
from .._plan import DecoderPlan, widest
from .._random import SobolPoints, row_uniforms
from .._typing import Decoder
from ..inference import Posterior
from ..inference._blocks import row_blocks
from ._blocks import base_noise, by_block
from ._given import Given, drawn_given

__all__ = ["draw_values", "keyed_draws", "shared_draws", "shared_draws_of_rows"]

Member = tuple[Decoder, Posterior]


def draw_values(
    member: Decoder,
    posterior: Posterior,
    code_u: Tensor,
    cell_u: Tensor,
    given: Given | None = None,
) -> Tensor:
    """Return draws of every cell from p(x | z), z ~ q.

    Parameters
    ----------
    member : object
        Has ``decode`` and ``likelihood``.
    posterior : Posterior
        Fitted posteriors of N rows.
    code_u : Tensor of shape (S, N or 1, n_noise)
        Uniforms that pick the codes.
    cell_u : Tensor of shape (S, N or 1, D, 2)
        Uniforms that pick the values.
    given : Given, default=None
        What was seen of the rows.

    Returns
    -------
    draws : Tensor of shape (S, N, D)
        In the decoder's standardized units.
    """
    size = DecoderPlan(member, posterior.parameters.device).draws(len(posterior))
    if len(code_u) > size:
        parts = zip(code_u.split(size), cell_u.split(size), strict=True)
        return torch.cat([draw_values(member, posterior, *part, given) for part in parts])
    go_on()
    params = posterior.observation(base_noise(posterior, code_u), member.decode)
    return drawn_given(member.likelihood, params, cell_u, given)


def shared_draws(
    member: Decoder,
    posterior: Posterior,
    n_draws: int,
    n_features: int,
    given: Given | None = None,
) -> Tensor:
    """Return draws (S, N, D) from low-discrepancy noise that all rows share.

    Parameters
    ----------
    member : object
        Has ``decode`` and ``likelihood``.
    posterior : Posterior
        Fitted posteriors of N rows.
    n_draws : int
        Number of draws S.
    n_features : int
        Number of columns D.
    given : Given, default=None
        What was seen of the rows.

    Returns
    -------
    draws : Tensor of shape (S, N, D)
        In the decoder's standardized units.
    """
    n_noise, n_dims = posterior.family.n_noise, posterior.family.n_noise + 2 * n_features
    points = SobolPoints(n_draws, n_dims, seed=0, antithetic=False)
    parts = []
    device = posterior.parameters.device
    for part in points.parts(DecoderPlan(member, device).draws(len(posterior))):
        u = part.to(device).unsqueeze(1)
        cell_u = u[..., n_noise:].unflatten(-1, (n_features, 2))
        parts.append(draw_values(member, posterior, u[..., :n_noise], cell_u, given))
    return torch.cat(parts)


def shared_draws_of_rows(
    decoder: Decoder, posterior: Posterior, n_draws: int, n_features: int, given: Given | None
) -> NDArray[np.float64]:
    """Return the `shared_draws` of N rows, (S, N, D), block by block."""

    def of_block(posterior: Posterior, rows: Tensor) -> Tensor:
        of_rows = None if given is None else given[rows]
        return shared_draws(decoder, posterior, n_draws, n_features, of_rows)

    return by_block(decoder, posterior, of_block)


def keyed_draws(
    members: Sequence[Member],
    n_draws: int,
    positions: NDArray[np.int64],
    seed: int,
    *,
    n_features: int,
    first: int = 0,
    in_turn: bool = False,
    given: Given | None = None,
) -> NDArray[np.float64]:
    """Return independent draws of N rows from a pool of decoders, (n_draws, N, D).

    Parameters
    ----------
    members : sequence of tuple
        Each decoder and the posteriors of the N rows under it.
    n_draws : int
        Number of draws.
    positions : ndarray of shape (N,)
        What the draws of each row are keyed by, beside the seed.
    seed : int
        Seed of the draws.
    n_features : int
        Number of columns D.
    first : int, default=0
        Number of the first draw: those of a call from 0 with more draws.
    in_turn : bool, default=False
        Let draw m of all rows come from one decoder; otherwise rows begin with different ones.
    given : Given, default=None
        What was seen of the rows.
    """
    out = np.empty((n_draws, len(positions), n_features))
    if n_draws == 0:
        return out
    n_noise = max(posterior.family.n_noise for _, posterior in members)
    n_dims = 1 + n_noise + 2 * n_features
    device = members[0][1].parameters.device
    plan = DecoderPlan(widest([decoder for decoder, _ in members]), device)

    def of_block(rows: Tensor, first: int, n: int) -> Tensor:
        keys = positions[rows.cpu().numpy()]
        u = row_uniforms(seed, keys, n, n_dims, first=first, device=device)
        picks = u[:, 0, 0]
        if first:
            picks = row_uniforms(seed, keys, 1, 1, device=device)[:, 0, 0]
        start = torch.zeros_like(picks) if in_turn else picks * len(members)
        offset = (start.long() + first) % len(members)
        return _pool_draws(members, rows, u, offset, n_noise, n_features, given)

    done = 0
    for rows, n_rows in row_blocks(len(positions), device, plan.rows_drawn(n_draws)):
        size = plan.draws_made(n_draws, len(rows), n_dims)
        for start in range(0, n_draws, size):
            n = min(size, n_draws - start)
            with torch.no_grad():
                drawn = of_block(rows, first + start, n if plan.images is None else size)
            part = drawn[:n, :n_rows].double().cpu().numpy()
            out[start : start + n, done : done + n_rows] = part
        done += n_rows
    return out


def _pool_draws(
    members: Sequence[Member],
    rows: Tensor,
    u: Tensor,
    offset: Tensor,
    n_noise: int,
    n_features: int,
    given: Given | None,
) -> Tensor:
    """Return draws (M, B, D) of some rows from their uniforms (B, M, 1 + n_noise + 2 D).

    Decoder k takes the draws (k - offset) modulo the number of decoders, ``offset`` (B,).
    """
    n_pool, n_draws = len(members), u.shape[1]
    out = u.new_empty(n_draws, len(rows), n_features)
    place = torch.arange(len(rows), device=u.device)
    for k, (decoder, posterior) in enumerate(members):
        turn = torch.arange(-(-n_draws // n_pool), device=u.device).unsqueeze(1)
        draw = (k - offset) % n_pool + n_pool * turn
        valid = draw < n_draws
        mine = u[place, draw.clamp(max=n_draws - 1)]
        values = draw_values(
            decoder,
            posterior[rows],
            mine[..., 1 : 1 + posterior.family.n_noise],
            mine[..., 1 + n_noise :].unflatten(-1, (n_features, 2)),
            None if given is None else given[rows],
        )
        out[draw[valid], place.expand_as(draw)[valid]] = values[valid].to(out.dtype)
    return out
